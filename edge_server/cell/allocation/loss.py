"""Expected loss over SNR and token length: measured points, a monotone fit of them, or a table.

    loss(gamma, L) = a + b L**-p + c gamma**-d        a, b, c >= 0 and p, d > 0

Loss is the part of wrong answers. It never rises with gamma or L. The fit is a posynomial of gamma and L, so
that a geometric program can hold it; at an SNR far below what was measured it passes 1, which is a price on
links that carry nothing and not a part of answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
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
        """The surface, or what is nearest to it, as a posynomial."""
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

    @classmethod
    def of(cls, points: Iterable[LossPoint]) -> LossFit:
        """The fit with the least squared error.

        For given exponents it is linear, so exponents are searched on a grid that is refined twice.

        Raises:
            ValueError: points of fewer than two SNRs or two token lengths.
        """
        gamma, length, loss = _columns(points)
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


class LossOfEach:
    """A fit for each user of a problem: they need not send the same modalities.

    Args:
        fits: in the order of the users.
    """

    def __init__(self, fits: Sequence[LossFit]) -> None:
        self._a, self._b, self._p, self.c, self.d = (
            np.array([[getattr(fit, name)] for fit in fits], np.float64) for name in "abpcd"
        )

    def at(self, gamma: ArrayLike, token_length: ArrayLike) -> Floats:
        """See :class:`LossSurface`; the first axis of the two, broadcast, is users."""
        gamma, token_length = np.asarray(gamma, np.float64), np.asarray(token_length, np.float64)
        return np.asarray(self._a + self._b * token_length**-self._p + self.c * gamma**-self.d)

    def as_fit(self) -> Posynomial:
        """Itself."""
        return self


class LossTable:
    """Loss between measured points, by interpolation over SNR in dB and the logarithm of the token length.

    Outside of what was measured it stays at the edge. Where the grid of SNRs and lengths has holes, the fit
    fills them (``filled`` of them). What would make loss rise is smoothed away, which moves measured points
    by at most ``max_error``.

    Args:
        points: as for :meth:`LossFit.of`.

    Raises:
        ValueError: as :meth:`LossFit.of`.
    """

    def __init__(self, points: Sequence[LossPoint]) -> None:
        self._fit = LossFit.of(points)
        self.snrs_db = np.array(sorted({point.snr_db for point in points}))
        self.token_lengths = np.array(sorted({point.token_length for point in points}))
        gamma_S = 10.0 ** (self.snrs_db / 10.0)
        measured_SL = np.full((len(self.snrs_db), len(self.token_lengths)), np.nan)
        for point in points:
            row = np.searchsorted(self.snrs_db, point.snr_db)
            measured_SL[row, np.searchsorted(self.token_lengths, point.token_length)] = point.loss
        holes_SL = np.isnan(measured_SL)
        filled_SL = np.where(holes_SL, self._fit.at(gamma_S[:, None], self.token_lengths), measured_SL)
        self.loss_SL = _monotone(filled_SL)
        self.filled = int(holes_SL.sum())
        self.max_error = float(np.abs(self.loss_SL - measured_SL)[~holes_SL].max())

    def at(self, gamma: ArrayLike, token_length: ArrayLike) -> Floats:
        """See :class:`LossSurface`."""
        snr_db, length = np.broadcast_arrays(10.0 * np.log10(gamma), np.asarray(token_length, np.float64))
        row, row_part = _place(self.snrs_db, snr_db)
        column, column_part = _place(np.log(self.token_lengths), np.log(length))
        above = self.loss_SL[row, column] * (1 - column_part) + self.loss_SL[row, column + 1] * column_part
        row = row + 1
        below = self.loss_SL[row, column] * (1 - column_part) + self.loss_SL[row, column + 1] * column_part
        return np.asarray(above * (1 - row_part) + below * row_part)

    def as_fit(self) -> LossFit:
        """The fit of the same points."""
        return self._fit


def _columns(points: Iterable[LossPoint]) -> tuple[Floats, Floats, Floats]:
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


def _monotone(loss_SL: Floats) -> Floats:
    """Falls along both axes: halfway between the largest such table below and the smallest above."""
    below_SL = np.minimum.accumulate(np.minimum.accumulate(loss_SL, axis=0), axis=1)
    above_SL = loss_SL[::-1, ::-1]
    above_SL = np.maximum.accumulate(np.maximum.accumulate(above_SL, axis=0), axis=1)[::-1, ::-1]
    return np.asarray((below_SL + above_SL) / 2.0)


def _place(grid: Floats, values: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The interval of the grid that holds each value, and how far into it, from 0 to 1."""
    index = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 2)
    return index, np.clip((values - grid[index]) / (grid[index + 1] - grid[index]), 0.0, 1.0)
