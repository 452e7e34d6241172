"""A loss surface near a point, as a posynomial: what a geometric program is given of one that is none.

Successive approximation: what is exact where it was taken is solved, and taken anew where that leads. Method:
M. Chiang et al., Power Control by Geometric Programming, IEEE Trans. Wireless Commun. 6(7), 2007.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edge_server.cell.allocation.loss import Floats, LossSurface, Posynomial

#: A posynomial knows neither a loss of 0 nor one that stays the same.
_LEAST_LOSS, _FLATTEST = 1e-6, 1e-4


@dataclass(frozen=True, eq=False)
class LocalLoss:
    """What a surface is like near a point of each user, as ``c gamma**-d``: the same there, and as steep.

    Attributes:
        c: (K, 1).
        d: from 0, (K, 1).
    """

    c: Floats
    d: Floats

    @classmethod
    def of(cls, surface: LossSurface, gamma_K: Floats, length_K: ArrayLike, window_db: float) -> LocalLoss:
        """As steep as the surface is in the mean over so many dB to both sides of ``gamma_K``."""
        apart = 10.0 ** (window_db / 10.0)
        below_K, here_K, above_K = (
            np.maximum(surface.at(gamma, length_K), _LEAST_LOSS)
            for gamma in (gamma_K / apart, gamma_K, gamma_K * apart)
        )
        d_K = np.maximum(np.log(below_K / above_K) / (2.0 * np.log(apart)), _FLATTEST)
        return cls((here_K * gamma_K**d_K)[:, None], d_K[:, None])

    def at(self, gamma: ArrayLike, token_length: ArrayLike) -> Floats:
        """See :class:`LossSurface`; token lengths make no difference."""
        gamma, _ = np.broadcast_arrays(np.asarray(gamma, np.float64), token_length)
        return np.asarray(self.c * gamma**-self.d)

    def around(self, gamma_K: Floats, length_K: ArrayLike, window_db: float) -> Posynomial:
        """Itself."""
        return self

    def as_fit(self) -> Posynomial:
        """Itself."""
        return self
