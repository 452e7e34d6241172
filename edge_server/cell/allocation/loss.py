"""Expected loss over SNR and token length: measured points, and a monotone fit of them.

    loss(gamma, L) = a + b L**-p + c gamma**-d        a, b, c >= 0 and p, d > 0

Loss is the part of wrong answers. It never rises with gamma or L. The fit is a posynomial of gamma and L, so
that a geometric program can hold it; at an SNR far below what was measured it passes 1, which is a price on
links that carry nothing and not a part of answers. A table does not
(:mod:`edge_server.cell.allocation.loss_table`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LossPoint:
    """What was measured at one SNR [dB] and one token length: the part of wrong answers."""

    snr_db: float
    token_length: int
    loss: float


class LossSurface(Protocol):
    """Loss of a mix of modalities."""

    def at(self, gamma: ArrayLike, token_length: ArrayLike) -> Floats:
        """Loss at SNR ``gamma`` (linear, above 0) and token lengths; shapes are broadcast."""
        ...

    def as_fit(self) -> Posynomial:
        """The surface, or what is nearest to it all over, as a posynomial."""
        ...

    def around(self, gamma_K: Floats, length_K: ArrayLike, window_db: float) -> Posynomial:
        """What is nearest to it where each user is, as a posynomial of gamma at these token lengths.

        Args:
            gamma_K: SNR of each user, linear.
            length_K: token length of each.
            window_db: how far to both sides it is looked at [dB].
        """
        ...


class Posynomial(LossSurface, Protocol):
    """Loss as the formula above; one for all users, or one for each."""

    @property
    def c(self) -> float | Floats:
        """What noise costs; of each user, (K, 1)."""
        ...

    @property
    def d(self) -> float | Floats:
        """How fast that falls with SNR; likewise."""
        ...


@dataclass(frozen=True)
class LossFit:
    """The formula above, and how well it holds.

    Attributes:
        a, b, p, c, d: its numbers.
        rms_error: root of the mean squared difference from the points it was fitted to.
        max_error: the largest such difference.
    """

    a: float
    b: float
    p: float
    c: float
    d: float
    rms_error: float = 0.0
    max_error: float = 0.0

    def __post_init__(self) -> None:
        if min(self.a, self.b, self.c) < 0.0 or min(self.p, self.d) <= 0.0:
            raise ValueError(f"a, b, c: 0 or more, and p, d: above 0, are needed for a monotone loss: {self}")

    def at(self, gamma: ArrayLike, token_length: ArrayLike) -> Floats:
        """See :class:`LossSurface`."""
        gamma, token_length = np.asarray(gamma, np.float64), np.asarray(token_length, np.float64)
        return np.asarray(self.a + self.b * token_length**-self.p + self.c * gamma**-self.d)

    def as_fit(self) -> LossFit:
        """Itself."""
        return self

    def around(self, gamma_K: Floats, length_K: ArrayLike, window_db: float) -> Posynomial:
        """Itself."""
        return self

    @classmethod
    def of(cls, points: Iterable[LossPoint]) -> LossFit:
        """The fit with the least squared error.

        For given exponents it is linear, so exponents are searched on a grid that is refined twice.

        Raises:
            ValueError: points of fewer than two SNRs or two token lengths.
        """
        gamma, length, loss = columns(points)
        centre, width = np.log([0.7, 0.7]), np.log(20.0)
        best = (np.inf, np.zeros(3), 1.0, 1.0)
        for _ in range(3):
            steps = np.linspace(-width, width, 25)
            for p, d in itertools.product(np.exp(centre[0] + steps), np.exp(centre[1] + steps)):
                terms = np.stack([np.ones_like(loss), length**-p, gamma**-d], axis=1)
                numbers, error = _nonnegative_least_squares(terms, loss)
                if error < best[0]:
                    best = (error, numbers, float(p), float(d))
            centre, width = np.log(best[2:]), width / 8.0
        (a, b, c), p, d = best[1:]
        fit = cls(float(a), float(b), p, float(c), d)
        wrong = np.abs(fit.at(gamma, length) - loss)
        return cls(fit.a, fit.b, p, fit.c, d, float(np.sqrt(np.mean(wrong**2))), float(wrong.max()))


def columns(points: Iterable[LossPoint]) -> tuple[Floats, Floats, Floats]:
    """SNR (linear), token length and loss of each point.

    Raises:
        ValueError: as :meth:`LossFit.of`.
    """
    rows = [(10.0 ** (point.snr_db / 10.0), point.token_length, point.loss) for point in points]
    for name, number in (("SNRs", 0), ("token lengths", 1)):
        if len({row[number] for row in rows}) < 2:
            raise ValueError(f"points: at least two {name} are needed to tell how loss depends on them")
    gamma, length, loss = np.array(rows, np.float64).T
    return gamma, length, loss


def _nonnegative_least_squares(terms: Floats, wanted: Floats) -> tuple[Floats, float]:
    """The best numbers from 0 up, and their squared error: the best of the sets that may be above 0."""
    best, least = np.zeros(terms.shape[1]), float(wanted @ wanted)
    gram, moment = terms.T @ terms, terms.T @ wanted
    for size in range(1, terms.shape[1] + 1):
        for chosen in itertools.combinations(range(terms.shape[1]), size):
            try:
                found = np.linalg.solve(gram[np.ix_(chosen, chosen)], moment[list(chosen)])
            except np.linalg.LinAlgError:
                continue
            missed = wanted - terms[:, list(chosen)] @ found
            if found.min() >= 0.0 and missed @ missed < least:
                best, least = np.zeros(terms.shape[1]), float(missed @ missed)
                best[list(chosen)] = found
    return best, least
