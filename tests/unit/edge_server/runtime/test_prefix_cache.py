"""A prompt's beginning is read once; answers are those of prompts that are read as a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.runtime.model_runner import ServedLink
from edge_server.runtime.prefix_cache import KEPT_S, PrefixCache
from tests.clock import FakeClock


def about(seed: int, *question: int, kept_as: str = "", channel_dim: int = 16) -> Prompt:
    rng = np.random.default_rng(seed)
    blocks = tuple(
        FeatureBlock(modality, rng.standard_normal((16, channel_dim)).astype(np.float32), 10.0)
        for modality in ("video", "audio")
    )
    return Prompt(blocks, question or (20, 21, 22), kept_as=kept_as)


def answers(served: ServedLink, prompts: list[Prompt], steps: int = 6) -> list[list[tuple[int, float]]]:
    state, first = served.prefill(prompts)
    said = [[(step.token_id, step.probability)] for step in first]
    for _ in range(steps):
        state, more = served.decode(state)
        for row, step in zip(said, more, strict=True):
            row.append((step.token_id, step.probability))
    return said


def alike(found: list[list[tuple[int, float]]], expected: list[list[tuple[int, float]]]) -> None:
    assert [[token for token, _ in row] for row in found] == [[token for token, _ in row] for row in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose([p for _, p in one], [p for _, p in other], rtol=1e-4)


def test_the_second_question_has_the_answer_that_it_would_have_alone(served: ServedLink) -> None:
    first, second = about(1, 30, 31), about(1, 40, 41, 42, 43)
    expected = [*answers(served, [first]), *answers(served, [second])]
    served.prefill([replace(first, kept_as="a")])
    alike(answers(served, [replace(first, kept_as="a")]), expected[:1])
    alike(answers(served, [replace(second, kept_as="a")]), expected[1:])


def test_known_and_new_prompts_are_read_together(served: ServedLink) -> None:
    prompts = [about(seed, *range(30, 32 + seed)) for seed in range(5)]
    expected = [answers(served, [prompt])[0] for prompt in prompts]
    named = [replace(prompt, kept_as=f"scene {number}") for number, prompt in enumerate(prompts)]
    served.prefill([named[1], named[3]])
    mixed = [named[0], named[1], prompts[2], named[3], named[4]]
    alike(answers(served, mixed), expected)
    alike(answers(served, named), expected)


def test_they_join_a_batch_that_runs(served: ServedLink) -> None:
    one, other = about(1, 30, 31, kept_as="a"), about(2, 40)
    expected = [answers(served, [replace(other)])[0], answers(served, [replace(one, kept_as="")])[0]]
    served.prefill([one])
    state, first = served.prefill([other])
    state, joined = served.prefill([one], state)
    said = [[(first[0].token_id, first[0].probability)], [(joined[0].token_id, joined[0].probability)]]
    for _ in range(5):
        state, more = served.decode(state)
        for row, step in zip(said, more, strict=True):
            row.append((step.token_id, step.probability))
    alike(said, [row[:6] for row in expected])


def test_what_is_not_to_be_kept_is_not(served: ServedLink) -> None:
    served.prefill([about(1)])
    assert len(served._prefixes) == 0
    served.prefill([about(1, kept_as="a")])
    assert len(served._prefixes) == 1


def layers(value: float, positions: int = 4) -> list[torch.Tensor]:
    return [torch.full((2, 1, positions, 8), value) for _ in range(2)]


def test_what_was_not_asked_about_for_longest_goes() -> None:
    size = sum(layer.nbytes for layer in layers(0.0))
    cache = PrefixCache(FakeClock(), max_bytes=2 * size)
    cache.keep("a", layers(1.0))
    cache.keep("b", layers(2.0))
    assert cache.find("a") is not None
    cache.keep("c", layers(3.0))
    assert [cache.find(name) is not None for name in "abc"] == [True, False, True]
    cache.keep("d", layers(4.0, positions=64))  # larger than all there may be
    assert len(cache) == 0


def test_nothing_is_kept_for_long() -> None:
    clock = FakeClock()
    cache = PrefixCache(clock)
    made = layers(1.0)
    cache.keep("a", made)
    made[0].zero_()  # what it was made from goes on to others
    found = cache.find("a")
    assert found is not None
    assert float(found.layers[0].min()) == 1.0
    clock.advance(KEPT_S)
    assert cache.find("a") is None


@pytest.fixture(autouse=True)
def _quiet() -> None:
    torch.manual_seed(0)
