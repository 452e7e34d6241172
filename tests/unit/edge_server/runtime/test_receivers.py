"""Receivers that serve say what the modules say, whatever comes together."""

from __future__ import annotations

import pytest
import torch

from edge_server.model.config import ReceiverConfig
from edge_server.model.receiver import build_receiver
from edge_server.runtime.receivers import Reception

CHANNEL_DIM, EMBEDDING_SIZE = 6, 12


@pytest.mark.parametrize("lengths", [(5,), (4, 4, 4), (1, 16, 2, 9, 16, 3)])
@pytest.mark.parametrize("film", [False, True])
@torch.inference_mode()
def test_it_is_the_module_block_by_block(lengths: tuple[int, ...], film: bool) -> None:
    torch.manual_seed(1)
    config = ReceiverConfig(width=16, heads=2, self_layers=2, query_layers=2, num_queries=3, film=film)
    receiver = build_receiver(config, CHANNEL_DIM, EMBEDDING_SIZE).eval()
    for parameter in receiver.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    blocks = [torch.randn(length, CHANNEL_DIM) for length in lengths]
    snr_db_B = torch.linspace(-10.0, 20.0, len(lengths))
    told_N = torch.cat([snr_db.expand(length) for snr_db, length in zip(snr_db_B, lengths, strict=True)])
    found = Reception(receiver)(torch.cat(blocks), told_N, lengths)
    expected = torch.cat(
        [receiver(block[None], snr_db[None])[0] for block, snr_db in zip(blocks, snr_db_B, strict=True)]
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_every_token_may_have_an_snr_of_its_own() -> None:
    torch.manual_seed(2)
    config = ReceiverConfig(width=16, heads=2, self_layers=1, query_layers=1, num_queries=3, film=True)
    receiver = build_receiver(config, CHANNEL_DIM, EMBEDDING_SIZE).eval()
    for parameter in receiver.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    blocks, told = [torch.randn(n, CHANNEL_DIM) for n in (4, 7)], [torch.randn(n) * 10.0 for n in (4, 7)]
    found = Reception(receiver)(torch.cat(blocks), torch.cat(told), [4, 7])
    alone = [receiver(x[None], snr_db[None])[0] for x, snr_db in zip(blocks, told, strict=True)]
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=1e-5)
    mean = receiver(blocks[0][None], told[0].mean()[None])[0]
    assert float((alone[0] - mean).abs().max()) > 1e-3, "it is looked at"
