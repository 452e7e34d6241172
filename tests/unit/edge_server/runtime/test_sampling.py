"""Sampling against its definition, computed row by row in plain numpy."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edge_server.engine.ports import Prompt
from edge_server.engine.sampling import GREEDY, Sampling
from edge_server.runtime.sampling import Sampler, draw

VOCABULARY = 12


def logits(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (rows, VOCABULARY)).astype(np.float32))


def shares(
    row: npt.NDArray[np.float32], sampling: Sampling, said: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """What a row is drawn from, by the definition."""
    shifted = row.astype(np.float64)
    for token_id, bias in sampling.logit_bias:
        shifted[token_id] += bias
    for token_id, count in Counter(said).items():
        shifted[token_id] -= count * sampling.frequency_penalty + sampling.presence_penalty
    weights = np.exp((shifted - shifted.max()) / sampling.temperature)
    weights /= weights.sum()
    kept = np.zeros(VOCABULARY, bool)
    total = 0.0
    for token_id in np.argsort(-weights, kind="stable"):
        if total >= sampling.top_p:
            break
        kept[token_id] = True
        total += weights[token_id]
    weights[~kept] = 0.0
    return np.asarray(weights / weights.sum())


WAYS = {
    "plain": Sampling(1.0),
    "cold": Sampling(0.4),
    "hot": Sampling(2.0),
    "nucleus": Sampling(1.0, top_p=0.8),
    "the likeliest alone": Sampling(2.0, top_p=1e-9),
    "penalties": Sampling(1.0, frequency_penalty=0.9, presence_penalty=-1.5),
    "biases": Sampling(0.7, logit_bias=((3, 2.0), (5, -100.0))),
    "all": Sampling(1.3, 0.7, None, 1.0, 0.5, ((0, 1.0), (3, -1.0))),
}


@pytest.mark.parametrize("way", WAYS)
def test_tokens_come_as_often_as_they_should(way: str) -> None:
    row, said = logits(1), (3, 3, 7)
    sampling = WAYS[way]
    expected = shares(row[0].numpy(), sampling, said)
    draws = 4000
    samplers = [Sampler(Sampling(**{**_fields(sampling), "seed": seed}), said) for seed in range(draws)]
    steps = draw(row.expand(draws, -1).clone(), samplers)
    counts = Counter(step.token_id for step in steps)
    found = np.array([counts[token_id] for token_id in range(VOCABULARY)]) / draws
    np.testing.assert_allclose(found, expected, atol=5 * 0.5 / math.sqrt(draws))
    assert not found[expected == 0].any()


def _fields(sampling: Sampling) -> dict[str, object]:
    return {name: getattr(sampling, name) for name in Sampling.__dataclass_fields__}


def test_a_row_says_the_same_alone_and_among_others() -> None:
    rows = logits(len(WAYS))
    samplers = [
        Sampler(Sampling(**{**_fields(way), "seed": number}), tuple(range(number % 4)))
        for number, way in enumerate(WAYS.values())
    ]
    together = draw(rows.clone(), samplers)
    for number, sampler in enumerate(samplers):
        (alone,) = draw(rows[number : number + 1].clone(), [sampler])
        assert alone.token_id == together[number].token_id
        assert alone.probability == pytest.approx(together[number].probability)


def test_probabilities_are_the_models_own() -> None:
    rows = logits(3)
    own = rows.softmax(-1)
    steps = draw(
        rows.clone(),
        [
            Sampler(Sampling(2.0, 0.5, 1)),
            Sampler(Sampling(logit_bias=((4, 100.0),))),
            Sampler(Sampling(alternatives=3)),
        ],
    )
    for row, step in enumerate(steps):
        assert step.probability == pytest.approx(float(own[row, step.token_id]), rel=1e-5)
    assert steps[1].token_id == 4
    assert steps[2].token_id == int(own[2].argmax())
    assert [len(step.alternatives) for step in steps] == [0, 0, 3]
    best = own[2].topk(3)
    assert [token_id for token_id, _ in steps[2].alternatives] == best.indices.tolist()
    assert [logprob for _, logprob in steps[2].alternatives] == pytest.approx(best.values.log().tolist())


def test_without_a_temperature_the_likeliest_is_taken_after_penalties() -> None:
    row = torch.tensor([[3.0, 2.5, 0.0]])
    said = (0, 0)
    assert draw(row.clone(), [Sampler(Sampling(frequency_penalty=0.2), said)])[0].token_id == 0
    assert draw(row.clone(), [Sampler(Sampling(frequency_penalty=0.3), said)])[0].token_id == 1
    assert draw(row.clone(), [Sampler(Sampling(presence_penalty=0.6), said)])[0].token_id == 1


@pytest.mark.parametrize("temperature", [1e-300, 1e-6])
def test_almost_no_temperature_is_almost_greedy(temperature: float) -> None:
    rows = logits(20)
    steps = draw(rows.clone(), [Sampler(Sampling(temperature, seed=seed)) for seed in range(20)])
    assert [step.token_id for step in steps] == rows.argmax(-1).tolist()


def test_what_is_no_number_fails_its_own_row_alone() -> None:
    rows = logits(2)
    rows[0, 3] = math.nan
    broken, whole = draw(rows.clone(), [Sampler(Sampling(1.0, 0.9, 1)), Sampler(Sampling(1.0, 0.9, 1))])
    assert math.isnan(broken.probability)
    assert 0 <= broken.token_id < VOCABULARY
    assert whole.token_id == draw(rows[1:].clone(), [Sampler(Sampling(1.0, 0.9, 1))])[0].token_id


def test_a_greedy_row_needs_no_sampler() -> None:
    assert Sampler.of(Prompt((), (1,))) is None
    assert Sampler.of(Prompt((), (1,), (), GREEDY)) is None
    assert Sampler.of(Prompt((), (1,), (), Sampling(alternatives=1))) is not None
