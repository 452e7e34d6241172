"""Expected loss of users that do not send the same modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edge_server.cell.allocation.local_loss import LocalLoss
from edge_server.cell.allocation.loss import Floats, LossFit, LossSurface, Posynomial


class LossOfEach:
    """A surface for each user of a problem: they need not send the same modalities.

    Args:
        surfaces: in the order of the users.
    """

    def __init__(self, surfaces: Sequence[LossSurface]) -> None:
        self._users = len(surfaces)
        alike: dict[int, tuple[LossSurface, list[int]]] = {}
        for user, surface in enumerate(surfaces):
            alike.setdefault(id(surface), (surface, []))[1].append(user)
        self._alike = [(surface, np.array(users)) for surface, users in alike.values()]

    def at(self, gamma: ArrayLike, token_length: ArrayLike) -> Floats:
        """See :class:`LossSurface`; the first axis of the two, broadcast, is users."""
        gamma, token_length = np.broadcast_arrays(
            np.asarray(gamma, np.float64), np.asarray(token_length, np.float64)
        )
        found = np.empty(gamma.shape)
        for surface, users in self._alike:
            found[users] = surface.at(gamma[users], token_length[users])
        return found

    def around(self, gamma_K: Floats, length_K: ArrayLike, window_db: float) -> Posynomial:
        """See :class:`LossSurface`."""
        if all(surface.as_fit() is surface for surface, _ in self._alike):
            return self.as_fit()
        return LocalLoss.of(self, gamma_K, length_K, window_db)

    def as_fit(self) -> Posynomial:
        """The fits of all of them."""
        fits: list[Any] = [None] * self._users
        for surface, users in self._alike:
            for user in users:
                fits[user] = surface.as_fit()
        return _FitOfEach(fits)


class _FitOfEach:
    """A fit for each user."""

    def __init__(self, fits: Sequence[LossFit]) -> None:
        self._a, self._b, self._p, self.c, self.d = (
            np.array([[getattr(fit, name)] for fit in fits], np.float64) for name in "abpcd"
        )

    def at(self, gamma: ArrayLike, token_length: ArrayLike) -> Floats:
        gamma, token_length = np.asarray(gamma, np.float64), np.asarray(token_length, np.float64)
        return np.asarray(self._a + self._b * token_length**-self._p + self.c * gamma**-self.d)

    def around(self, gamma_K: Floats, length_K: ArrayLike, window_db: float) -> Posynomial:
        return self

    def as_fit(self) -> Posynomial:
        return self
