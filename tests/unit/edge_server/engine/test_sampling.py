from __future__ import annotations

import numpy as np
import pytest

from edge_server.engine.sampling import Sampling, uniform


def test_draws_are_uniform_and_those_of_neighbouring_seeds_have_nothing_in_common() -> None:
    draws = np.array([[uniform(seed, number) for number in range(200)] for seed in range(-50, 50)])
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    shares = np.histogram(draws, bins=20, range=(0.0, 1.0))[0] / draws.size
    # 20,000 draws: a share's standard deviation is 0.0015.
    np.testing.assert_allclose(shares, 0.05, atol=0.008)
    for first, second in ((draws[:-1], draws[1:]), (draws[:, :-1], draws[:, 1:])):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03
    assert len(np.unique(draws)) > draws.size - 10


def test_a_draw_is_the_same_whenever_it_is_taken() -> None:
    assert uniform(7, 3) == uniform(7, 3) != uniform(7, 4)
    assert uniform(-1, 0) == uniform(2**64 - 1, 0)


def test_choices_differ_and_the_first_is_the_one_that_comes_alone() -> None:
    sampling = Sampling(temperature=1.0, seed=5)
    seeds = [sampling.of_choice(number).seed for number in range(8)]
    assert seeds[0] == 5
    assert len(set(seeds)) == 8
    assert sampling.of_choice(3) == sampling.of_choice(3)
    assert Sampling(temperature=1.0).of_choice(3).seed is None


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_only_with_a_temperature_is_anything_drawn(temperature: float) -> None:
    assert Sampling(temperature=temperature).draws == (temperature > 0)
