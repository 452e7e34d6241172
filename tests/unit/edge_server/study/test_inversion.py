"""What tokens give away: rotations against their definitions, attackers against what was planted."""

from __future__ import annotations

import numpy as np
import pytest

from edge_server.data.soundstage.scene import KINDS, Performer, Scene
from edge_server.study.inversion.attacker import AttackTraining, attack, inner_products
from edge_server.study.inversion.attributes import labels, priors
from edge_server.study.inversion.rotation import (
    codeword_signs,
    hadamard,
    procrustes,
    rotated,
    token_rotation,
    turned_back,
)

RNG = np.random.default_rng(5)


def test_the_transform_is_sylvesters() -> None:
    two = np.array([[1.0, 1.0], [1.0, -1.0]])
    eight = np.kron(np.kron(two, two), two) / np.sqrt(8)
    x = RNG.normal(size=8).astype(np.float32)
    np.testing.assert_allclose(hadamard(x), eight @ x, atol=1e-5)
    np.testing.assert_allclose(hadamard(hadamard(x)), x, atol=1e-5)


def test_a_rotation_keeps_power_and_only_the_key_undoes_it() -> None:
    x = RNG.normal(size=(4, 32)).astype(np.float32)
    signs, others = (codeword_signs(x.size, np.random.default_rng(i)) for i in (1, 2))
    turned = rotated(x, signs)
    assert np.square(turned).sum() == pytest.approx(np.square(x).sum(), rel=1e-5)
    np.testing.assert_allclose(turned_back(turned, signs), x, atol=1e-4)
    wrong = turned_back(turned, others)
    assert abs(float((wrong * x).sum())) < 0.5 * float(np.square(x).sum())
    with pytest.raises(ValueError, match="power of two"):
        codeword_signs(96, RNG)


def test_a_few_known_tokens_give_a_rotation_of_tokens_away() -> None:
    rotation = token_rotation(8, RNG)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(8), atol=1e-5)
    plain = RNG.normal(size=(10, 8)).astype(np.float32)
    np.testing.assert_allclose(procrustes(plain, plain @ rotation), rotation, atol=1e-4)
    codewords = RNG.normal(size=(3, 4, 8)).astype(np.float32)
    np.testing.assert_allclose(inner_products(codewords @ rotation), inner_products(codewords), atol=1e-4)


def test_an_attacker_finds_what_is_there_and_nothing_in_noise() -> None:
    truth = RNG.integers(0, 3, (600, 1))
    noise = RNG.normal(size=(600, 6)).astype(np.float32)
    shown = noise.copy()
    shown[:, :3] += 4.0 * np.eye(3, dtype=np.float32)[truth[:, 0]]
    training = AttackTraining(steps=120, batch_size=64, rate=2e-2, width=16)
    (found,) = attack(shown[:400], truth[:400], shown[400:], truth[400:], training, 1)
    assert found > 0.9
    (blind,) = attack(noise[:400], truth[:400], noise[400:], truth[400:], training, 1)
    assert blind < 0.5
    assert priors(np.array([[1], [1], [0]]), np.array([[1], [0]])) == [0.5]


def test_attributes_are_read_from_a_scene() -> None:
    scene = Scene((Performer("piano", "right", "still"),), (), voice_over=True, seed=0)
    none = len(KINDS)
    assert labels("visual", [scene]).tolist() == [[none, none, KINDS.index("piano"), 2, 2, 0]]
    assert labels("audio", [scene]).tolist() == [[none, none, none, none, 1]]
