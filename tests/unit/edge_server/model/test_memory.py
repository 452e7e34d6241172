"""A code that went over the channel comes back as the caption of its thing, at any token length."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edge_server.model.config import MemoryConfig
from edge_server.model.head import REAL_POWER
from edge_server.model.memory import CodeHead, MemoryReceiver
from edge_server.runtime.receivers import Reception

_THINGS, _WIDTH, _CHANNEL_DIM, _LONGEST, _QUERIES = 40, 16, 8, 8, 3


@pytest.fixture
def receiver() -> MemoryReceiver:
    torch.manual_seed(0)
    config = MemoryConfig(_THINGS, _WIDTH)
    made = MemoryReceiver(config, _QUERIES, _CHANNEL_DIM, _LONGEST, nn.Embedding(300, 12))
    made.keys.copy_(F.normalize(torch.randn(_THINGS, _WIDTH), dim=1))
    made.words.copy_(torch.arange(2 * _THINGS * _QUERIES).reshape(2, _THINGS, _QUERIES))
    return made


def _sent(receiver: MemoryReceiver, token_length: int | torch.Tensor) -> torch.Tensor:
    """All things' codes, behind five cells of something else."""
    head = CodeHead(MemoryConfig(_THINGS, _WIDTH), _CHANNEL_DIM, _LONGEST)
    seen = torch.randn(_THINGS, 5, 4)
    return head(torch.cat([seen, receiver.keys[:, None].expand(-1, 5, -1)], dim=-1), token_length)


@pytest.mark.parametrize("token_length", [2, 4, 8])
@torch.inference_mode()
def test_every_thing_is_said_in_its_own_words(receiver: MemoryReceiver, token_length: int) -> None:
    sent = _sent(receiver, token_length)
    assert sent.shape == (_THINGS, token_length, _CHANNEL_DIM)
    torch.testing.assert_close(sent.square().mean(dim=(1, 2)), torch.full((_THINGS,), REAL_POWER))
    noisy = sent + 0.15 * torch.randn_like(sent)
    words = torch.stack([receiver.recall(block) for block in noisy])
    assert torch.equal(words, receiver.words[0])


@torch.inference_mode()
def test_what_is_like_nothing_is_a_guess(receiver: MemoryReceiver) -> None:
    sent = _sent(receiver, 8)[7]
    noise = torch.randn_like(sent)
    words = receiver.recall(0.2 * sent + noise)
    assert (receiver.words[1] == words).all(dim=1).any()


@torch.inference_mode()
def test_serving_takes_blocks_of_any_mix_of_lengths(receiver: MemoryReceiver) -> None:
    blocks = [_sent(receiver, length)[index] for index, length in enumerate((8, 2, 4))]
    snr_db_B = torch.zeros(3)
    found = Reception(receiver)(torch.cat(blocks), snr_db_B, [8, 2, 4])
    expected = torch.cat([receiver(block[None], snr_db_B[:1])[0] for block in blocks])
    assert torch.equal(found, expected)
    padded = torch.zeros(3, 8, _CHANNEL_DIM)
    for row, block in zip(padded, blocks, strict=True):
        row[: len(block)] = block
    assert torch.equal(receiver(padded, snr_db_B, torch.tensor([8, 2, 4])).flatten(0, 1), expected)


@torch.inference_mode()
def test_a_length_may_be_known_only_when_the_graph_runs(receiver: MemoryReceiver) -> None:
    torch.manual_seed(3)
    known = _sent(receiver, 4)
    torch.manual_seed(3)
    assert torch.equal(_sent(receiver, torch.tensor([4])), known)
