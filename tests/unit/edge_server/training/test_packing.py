"""Packed questions are answered as if each were asked alone."""

from __future__ import annotations

import torch

from edge_server.model.config import FoundationConfig
from edge_server.model.foundation import build_foundation
from edge_server.training.packing import CONTEXT, packed_mask, packed_positions


def test_a_block_sees_itself_and_the_context() -> None:
    mask = packed_mask(torch.tensor([[CONTEXT, CONTEXT, 1, 1, 2]]))
    assert mask.shape == (1, 1, 5, 5)
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_every_block_goes_on_where_the_context_ends() -> None:
    assert packed_positions([CONTEXT, CONTEXT, CONTEXT, 1, 1, 2, 2, 2]) == [0, 1, 2, 3, 4, 3, 4, 5]


def test_packed_logits_are_those_of_questions_asked_alone() -> None:
    torch.manual_seed(0)
    model = build_foundation(FoundationConfig(50, hidden_size=32, layers=2, heads=2, intermediate_size=64))
    context, questions = [5, 9, 7, 30], [[11, 12], [13, 14, 15], [16]]
    ids = context + [token for question in questions for token in question]
    blocks = [CONTEXT] * len(context) + [n for n, q in enumerate(questions, 1) for _ in q]
    with torch.no_grad():
        packed = model(
            input_ids=torch.tensor([ids]),
            attention_mask=packed_mask(torch.tensor([blocks])),
            position_ids=torch.tensor([packed_positions(blocks)]),
        ).logits[0]
        begin = len(context)
        for question in questions:
            alone = model(input_ids=torch.tensor([context + question])).logits[0, len(context) :]
            torch.testing.assert_close(packed[begin : begin + len(question)], alone, rtol=1e-4, atol=1e-5)
            begin += len(question)
