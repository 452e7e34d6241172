"""Codes that went over the channel come back as the caption of their things, at any token length."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edge_server.model.config import MemoryConfig, MemoryField
from edge_server.model.head import REAL_POWER
from edge_server.model.memory import CodeHead, MemoryReceiver, spreading_rows
from edge_server.runtime.receivers import Reception

_THINGS, _CHANNEL_DIM, _LONGEST, _QUERIES = 40, 8, 8, 5
_CONFIG = MemoryConfig((MemoryField(_THINGS, 13), MemoryField(3, 3)))
_FILLER = 299


@pytest.fixture
def receiver() -> MemoryReceiver:
    torch.manual_seed(0)
    made = MemoryReceiver(_CONFIG, _QUERIES, _CHANNEL_DIM, _LONGEST, nn.Embedding(300, 12))
    made.filler.fill_(_FILLER)
    codes = F.normalize(torch.randn(_THINGS, 13), dim=1)
    made.learn(0, codes, [[thing, thing] for thing in range(_THINGS)], [[100 + t] for t in range(_THINGS)])
    made.learn(1, torch.eye(3), [[], [201], [202, 203]])
    return made


def _sent(receiver: MemoryReceiver, token_length: int | torch.Tensor, second: int = 1) -> torch.Tensor:
    """All things' codes, each with the same thing of the second field."""
    head = CodeHead(_CONFIG, _CHANNEL_DIM, _LONGEST)
    others = 0.3 * torch.eye(3)[second].expand(_THINGS, 3)
    codes = torch.cat([receiver.get_buffer("keys_0"), others], dim=1)
    return head(codes[:, None].expand(-1, 5, -1), token_length)


@pytest.mark.parametrize("token_length", [2, 4, 8])
@pytest.mark.parametrize(("second", "words"), [(0, []), (1, [201]), (2, [202, 203])])
@torch.inference_mode()
def test_every_thing_is_said_in_its_own_words(
    receiver: MemoryReceiver, token_length: int, second: int, words: list[int]
) -> None:
    sent = _sent(receiver, token_length, second)
    assert sent.shape == (_THINGS, token_length, _CHANNEL_DIM)
    torch.testing.assert_close(sent.square().mean(dim=(1, 2)), torch.full((_THINGS,), REAL_POWER))
    noisy = sent + 0.08 * torch.randn_like(sent)
    for thing, block in enumerate(noisy):
        said = [thing, thing, *words]
        assert receiver.recall(block).tolist() == said + [_FILLER] * (_QUERIES - len(said))


@torch.inference_mode()
def test_what_is_like_nothing_is_a_guess(receiver: MemoryReceiver) -> None:
    codes = torch.eye(13).repeat(4, 1)[:_THINGS]
    receiver.learn(0, codes, [[thing] for thing in range(_THINGS)], [[100 + t] for t in range(_THINGS)])
    head = CodeHead(_CONFIG, _CHANNEL_DIM, _LONGEST)
    every = torch.cat([codes[:13].mean(dim=0), torch.zeros(3)])
    one = torch.cat([codes[7], torch.zeros(3)])
    sent = head(torch.stack([every, one])[:, None], 8)
    assert receiver.recall(sent[0])[0] >= 100
    assert receiver.recall(sent[1])[0] == 7


def test_a_caption_is_cut_where_it_is_too_long(receiver: MemoryReceiver) -> None:
    receiver.learn(0, receiver.get_buffer("keys_0").clone(), [[7] * 9] * _THINGS)
    assert receiver.recall(_sent(receiver, 8)[0]).tolist() == [7] * _QUERIES


def test_fields_do_not_disturb_each_other() -> None:
    rows = spreading_rows(16, 64)
    torch.testing.assert_close(rows.T @ rows, 4 * torch.eye(16), atol=5e-3, rtol=0)
    assert torch.equal(rows.half().float(), rows), "a bundle keeps them in 16 bits"


@torch.inference_mode()
def test_serving_takes_blocks_of_any_mix_of_lengths(receiver: MemoryReceiver) -> None:
    blocks = [_sent(receiver, length)[index] for index, length in enumerate((8, 2, 4))]
    found = Reception(receiver)(torch.cat(blocks), torch.zeros(14), [8, 2, 4])
    expected = torch.cat([receiver(block[None], torch.zeros(1))[0] for block in blocks])
    assert torch.equal(found, expected)


@torch.inference_mode()
def test_a_length_may_be_known_only_when_the_graph_runs(receiver: MemoryReceiver) -> None:
    assert torch.equal(_sent(receiver, torch.tensor([4])), _sent(receiver, 4))
