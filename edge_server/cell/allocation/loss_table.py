"""Expected loss between measured points, which says of links that carry nothing what was measured of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_server.cell.allocation.local_loss import LocalLoss
from edge_server.cell.allocation.loss import Floats, LossFit, LossPoint, Posynomial


class LossTable:
    """Loss between measured points, by interpolation over SNR in dB and the logarithm of the token length.

    Outside of what was measured it stays at the edge. Where the grid of SNRs and lengths has holes, the fit
    fills them (``filled`` of them). What would make loss rise is smoothed away, which moves measured points
    by at most ``max_error``.

    Args:
        points: as for :meth:`LossFit.of`.
        fit: of them; made if it is not there.

    Raises:
        ValueError: as :meth:`LossFit.of`.
    """

    def __init__(self, points: Sequence[LossPoint], fit: LossFit | None = None) -> None:
        self._fit = fit or LossFit.of(points)
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

    def around(self, gamma_K: Floats, length_K: ArrayLike, window_db: float) -> Posynomial:
        """See :class:`LossSurface`."""
        return LocalLoss.of(self, gamma_K, length_K, window_db)


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
