"""Rotations that only who has a key can undo: of each token, the same for a session, or of a whole codeword.

A rotation keeps power, and noise that is alike in all directions stays so: over AWGN and block fading it
costs nothing. What it does not hide is what every rotation keeps: of tokens that are rotated alike, their
inner products; of a codeword that is rotated as a whole, its power, which is always the same.

A token of 32 reals is turned by a random orthogonal matrix (QR of Gaussians). A codeword is turned by sign
flips and Walsh-Hadamard transforms in turn, which take n log n additions.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Reals: TypeAlias = npt.NDArray[np.float32]

#: Of sign flips and transforms; after three, structure of the input is gone.
_ROUNDS = 3


def token_rotation(width: int, rng: np.random.Generator) -> Reals:
    """A random orthogonal matrix, [width, width], uniform over all of them (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.normal(size=(width, width)))
    return np.asarray(q * np.sign(np.diag(r)), np.float32)


def codeword_signs(reals: int, rng: np.random.Generator) -> Reals:
    """The key of one codeword: signs of each round, [rounds, reals].

    Raises:
        ValueError: the number of reals is no power of two.
    """
    if reals & (reals - 1):
        raise ValueError(f"reals: {reals}; a power of two is needed")
    return np.asarray(rng.choice((-1.0, 1.0), (_ROUNDS, reals)), np.float32)


def rotated(x_TC: Reals, signs_RN: Reals) -> Reals:
    """A codeword, turned as a whole."""
    x_N = x_TC.reshape(-1)
    for signs_N in signs_RN:
        x_N = hadamard(x_N * signs_N)
    return x_N.reshape(x_TC.shape)


def turned_back(x_TC: Reals, signs_RN: Reals) -> Reals:
    """What :func:`rotated` was given."""
    x_N = x_TC.reshape(-1)
    for signs_N in signs_RN[::-1]:
        x_N = hadamard(x_N) * signs_N
    return x_N.reshape(x_TC.shape)


def hadamard(x_N: Reals) -> Reals:
    """The orthonormal Walsh-Hadamard transform, its own inverse; the length is a power of two."""
    length = len(x_N)
    half = 1
    while half < length:
        pairs = x_N.reshape(-1, 2, half)
        x_N = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
        half *= 2
    return np.asarray(x_N / np.sqrt(length), np.float32)


def procrustes(plain_NC: Reals, seen_NC: Reals) -> Reals:
    """The rotation that brings known tokens nearest to what was seen of them (Schönemann 1966), [C, C].

    Args:
        plain_NC: tokens as they were before.
        seen_NC: the same, ``plain_NC @ rotation`` with noise.
    """
    u, _, v = np.linalg.svd(plain_NC.T @ seen_NC)
    return np.asarray(u @ v, np.float32)
