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
    found = Reception(receiver)(torch.cat(blocks), snr_db_B, lengths)
    expected = torch.cat(
        [receiver(block[None], snr_db[None])[0] for block, snr_db in zip(blocks, snr_db_B, strict=True)]
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
