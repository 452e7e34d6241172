"""Where users of a cell are, and what that makes of their links: 3GPP's case 3.

Path loss 128.1 + 37.6 log10(d / km) dB at 2 GHz, shadowing of 8 dB, 20 dB through the wall, at least 35 m
(3GPP TR 36.814, tables A.2.1.1-1 and A.2.1.1-2; sites 1732 m apart, so that a cell reaches 1 km). A device
sends 23 dBm at most; noise is -174 dBm/Hz and 5 dB of the receiver.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """The cell.

    Attributes:
        radius_m, nearest_m: between these, users are spread evenly over the area.
        shadowing_db: standard deviation of a link's level around the path loss [dB].
        wall_db: lost on the way in [dB].
        noise_dbm_per_hz: with the receiver's own.
    """

    radius_m: float = 1000.0
    nearest_m: float = 35.0
    shadowing_db: float = 8.0
    wall_db: float = 20.0
    noise_dbm_per_hz: float = -169.0

    @property
    def noise_w_per_hz(self) -> float:
        """N0 [W/Hz]."""
        return float(watts(self.noise_dbm_per_hz))

    def gains(self, users: int, rng: np.random.Generator) -> Floats:
        """Power gains g_k of a drop, (K,): received over sent."""
        area = rng.uniform(self.nearest_m**2, self.radius_m**2, users)
        lost_db = path_loss_db(np.sqrt(area)) + self.wall_db + rng.normal(0.0, self.shadowing_db, users)
        return np.asarray(10.0 ** (-lost_db / 10.0))


def path_loss_db(distance_m: Floats) -> Floats:
    """3GPP TR 36.814, macro cell, 2 GHz."""
    return np.asarray(128.1 + 37.6 * np.log10(distance_m / 1000.0))


def watts(dbm: float) -> float:
    """dBm as watts."""
    return float(10.0 ** (dbm / 10.0 - 3.0))
