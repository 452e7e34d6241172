"""Greedy steps, taken as they are and in the sizes of recordings; what a graph is, a GPU tests."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from edge_server.model.foundation_classes import weights_of
from edge_server.runtime import cuda_graphs as greedy
from edge_server.runtime.cuda_graphs import GreedySteps, Told, likeliest
from edge_server.runtime.decoder import Decoder
from edge_server.runtime.kv_cache import KeyValueCache
from tests.unit.edge_server.runtime.test_decoder import MAX_POSITIONS, prompts_of, qwen2


class Replayed:
    """In place of a graph: computes again what was recorded, in the sizes that it was recorded in."""

    def __init__(self, steps: GreedySteps, positions_B: Tensor, cache: KeyValueCache, longest: int) -> None:
        self._again = lambda positions_B: steps._compute(positions_B, cache, longest)
        self.sizes = len(positions_B), longest
        self.played = 0

    def play(self, positions_B: Tensor) -> Told:
        assert len(positions_B) == self.sizes[0]
        self.played += 1
        return self._again(positions_B)


def told(model: Qwen2ForCausalLM, *, record: bool) -> tuple[list[list[float]], KeyValueCache]:
    """Rows come, go on, leave and come again; every token and probability that was told."""
    decoder = Decoder(weights_of(model, MAX_POSITIONS), MAX_POSITIONS)
    steps = GreedySteps(model.get_input_embeddings().weight.detach(), decoder, record=record)
    cache = decoder.new_cache()
    said: list[list[float]] = []

    def join(lengths: list[int], seed: int) -> list[int]:
        slots = cache.take(lengths)
        logits_BV = decoder.prefill(torch.cat(prompts_of(model, lengths, seed=seed)), lengths, cache, slots)
        first = likeliest(logits_BV)
        cache.remember(slots, first[0])
        said.extend(first.tolist())
        return slots

    def step(rows: int) -> None:
        told = steps(cache, rows)
        # What rows that sample are chosen from is of the same step.
        assert told.logits_BV.argmax(-1).tolist() == told.said_2B[0].int().tolist()
        said.extend(told.said_2B.tolist())

    slots = join([30, 21, 17, 9, 4], seed=1)
    for _ in range(4):
        step(len(slots))
    cache.free([1, 3])
    slots = cache.compact([0, 2, 4])
    for _ in range(4):
        step(len(slots))
    slots += join([33] * 7, seed=2)
    for _ in range(40):
        step(len(slots))
    return said, cache


@torch.inference_mode()
def test_in_the_sizes_of_recordings_the_same_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greedy, "_Recording", Replayed)
    model = qwen2(num_key_value_heads=2)
    plain, untouched = told(model, record=False)
    recorded, cache = told(model, record=True)
    assert not untouched.recorded
    for ours, theirs in zip(recorded, plain, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    recordings = [known.recording for known in cache.recorded.values() if known.recording is not None]
    assert sum(recording.played for recording in recordings) > 10
    # Of memory that the cache has left, nothing is left.
    assert all(longest <= cache.positions for _, longest in cache.recorded)


def test_sizes_are_few_and_not_much_larger() -> None:
    rounded = [greedy._rounded_up(number, 8) for number in range(1, 1025)]
    assert all(size >= number for number, size in enumerate(rounded, 1))
    assert all(size <= max(1.5 * number, 8) for number, size in enumerate(rounded, 1))
    assert len(set(rounded)) == 15


@torch.inference_mode()
def test_the_likeliest_and_how_likely_it_is() -> None:
    logits_BV = torch.randn(5, 40, dtype=torch.float64)
    tokens, probabilities = likeliest(logits_BV)
    expected = logits_BV.softmax(-1).max(-1)
    assert tokens.tolist() == expected.indices.tolist()
    assert probabilities.tolist() == pytest.approx(expected.values.tolist(), rel=1e-5)
