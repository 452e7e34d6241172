"""Tapped delay lines of 3GPP TR 38.901 (tables 7.7.2-1 to 7.7.2-5) with Jakes Doppler, over OFDM.

    h(n, k) = sum_p a_p(n T) e^(-2 pi j k f tau_p)       N OFDM symbols, K subcarriers, P taps

A scattered tap is a sum of M waves from evenly distributed directions (Clarke's model), a_p(t) =
sqrt(P_p / M) sum_m e^(j (2 pi f_D t cos theta_m + phi_m)), whose autocorrelation is P_p J0(2 pi f_D t); the
path in sight of D and E has a Doppler shift of 0.7 f_D, as the report says.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from device_agent.channel.application import Signal
from device_agent.channel.models import ChannelModel, Draws, register
from device_agent.channel.ofdm import Grid

SPEED_OF_LIGHT = 299_792_458.0
"""[m/s]"""
WAVES = 24
"""M: with so many, the amplitude of a tap is as good as Rayleigh's."""
_IN_SIGHT_DOPPLER = 0.7

Taps = tuple[tuple[float, float], ...]
"""Delay over the delay spread, and power [dB]."""


@dataclass(frozen=True)
class Tdl(ChannelModel):
    """What the five profiles have in common."""

    selective: ClassVar[bool] = True
    taps: ClassVar[Taps]
    """Scattered paths."""
    in_sight_db: ClassVar[float | None] = None
    """Power of the path in sight, which arrives first [dB]; None: there is none."""

    bandwidth_hz: float = 1e6
    """Symbols per second: how many subcarriers there are."""
    subcarrier_khz: float = 15.0
    """Between subcarriers [kHz]."""
    delay_spread_ns: float = 300.0
    """Root of the mean squared delay, by which the profile is scaled [ns]."""
    speed_kmh: float = 3.0
    """Of the device [km/h]."""
    carrier_ghz: float = 3.5
    """[GHz]"""

    @property
    def doppler_hz(self) -> float:
        """f_D, the largest Doppler shift [Hz]."""
        return self.speed_kmh / 3.6 * self.carrier_ghz * 1e9 / SPEED_OF_LIGHT

    def grid(self, pilot_spacing: int = 0) -> Grid:
        """The subcarriers of the bandwidth."""
        return Grid.over(self.bandwidth_hz, self.subcarrier_khz * 1e3, pilot_spacing)

    def delays_s(self) -> npt.NDArray[np.float64]:
        """tau of each scattered path, (P,) [s]."""
        return np.array([delay for delay, _ in self.taps]) * self.delay_spread_ns * 1e-9

    def powers(self) -> tuple[float, npt.NDArray[np.float64]]:
        """Power of the path in sight, and of each scattered one, (P,); 1 in all."""
        steady = 0.0 if self.in_sight_db is None else 10.0 ** (self.in_sight_db / 10.0)
        scattered_P = 10.0 ** (np.array([power for _, power in self.taps]) / 10.0)
        total = steady + scattered_P.sum()
        return steady / total, scattered_P / total

    def paths(self) -> tuple[float, float]:
        """Of a subcarrier: scattered paths add up to one Gaussian."""
        steady, scattered_P = self.powers()
        return steady**0.5, float(scattered_P.sum())

    def taps_over_time(self, draws: Draws, codewords: tuple[int, ...], times_s: Signal) -> Signal:
        """a_p at some times.

        Args:
            draws: what they are made of.
            codewords: leading axes.
            times_s: (N,) [s].

        Returns:
            [*codewords, N, P]; the path in sight is part of the first.
        """
        steady, scattered_P = self.powers()
        waves = (*codewords, 1, len(scattered_P), WAVES)
        shifts = 2.0 * pi * self.doppler_hz * draws.phasor(waves).real
        turns = draws.turned(shifts * draws.constant(np.asarray(times_s))[:, None, None])
        tap = (draws.phasor(waves) * turns).sum(-1) * draws.constant((scattered_P / WAVES) ** 0.5)
        if steady:
            turn = 2.0 * pi * self.doppler_hz * _IN_SIGHT_DOPPLER * np.asarray(times_s)
            sight = draws.phasor((*codewords, 1)) * draws.turned(draws.constant(turn)) * steady**0.5
            first = draws.constant(np.eye(1, len(scattered_P))[0])
            tap = tap + sight[..., None] * first
        return tap

    def response(self, draws: Draws, codewords: tuple[int, ...], times_s: Signal) -> Signal:
        """h of every subcarrier at some times (N,) [s], [*codewords, N, K], with E|h|^2 = 1."""
        grid = self.grid()
        tap = self.taps_over_time(draws, codewords, times_s)
        phases_PK = -2.0 * pi * self.delays_s()[:, None] * np.arange(grid.subcarriers) * grid.spacing_hz
        return tap @ draws.turned(draws.constant(phases_PK))

    def sample(self, draws: Draws, codewords: tuple[int, ...], gains: tuple[int, ...]) -> Signal:
        """Of each symbol, in the order in which a codeword fills the grid without pilots."""
        data = gains[-2] * gains[-1]
        h = self.response(draws, gains[:-2], self.grid().times_s(data))
        return h.reshape(*gains[:-2], -1)[..., :data].reshape(gains)


@register
@dataclass(frozen=True)
class TdlA(Tdl):
    """Nothing in sight, 23 taps."""

    name: ClassVar[str] = "tdl_a"
    label: ClassVar[str] = "TDL-A"
    taps: ClassVar[Taps] = (
        *((0.0, -13.4), (0.3819, 0.0), (0.4025, -2.2), (0.5868, -4.0), (0.4610, -6.0), (0.5375, -8.2)),
        *((0.6708, -9.9), (0.5750, -10.5), (0.7618, -7.5), (1.5375, -15.9), (1.8978, -6.6), (2.2242, -16.7)),
        *((2.1718, -12.4), (2.4942, -15.2), (2.5119, -10.8), (3.0582, -11.3), (4.0810, -12.7)),
        *((4.4579, -16.2), (4.5695, -18.3), (4.7966, -18.9), (5.0066, -16.6), (5.3043, -19.9)),
        (9.6586, -29.7),
    )


@register
@dataclass(frozen=True)
class TdlB(Tdl):
    """Nothing in sight, 23 taps, the first the strongest."""

    name: ClassVar[str] = "tdl_b"
    label: ClassVar[str] = "TDL-B"
    taps: ClassVar[Taps] = (
        *((0.0, 0.0), (0.1072, -2.2), (0.2155, -4.0), (0.2095, -3.2), (0.2870, -9.8), (0.2986, -1.2)),
        *((0.3752, -3.4), (0.5055, -5.2), (0.3681, -7.6), (0.3697, -3.0), (0.5700, -8.9), (0.5283, -9.0)),
        *((1.1021, -4.8), (1.2756, -5.7), (1.5474, -7.5), (1.7842, -1.9), (2.0169, -7.6), (2.8294, -12.2)),
        *((3.0219, -9.8), (3.6187, -11.4), (4.1067, -14.9), (4.2790, -9.2), (4.7834, -11.3)),
    )


@register
@dataclass(frozen=True)
class TdlC(Tdl):
    """Nothing in sight, 24 taps, a long tail."""

    name: ClassVar[str] = "tdl_c"
    label: ClassVar[str] = "TDL-C"
    taps: ClassVar[Taps] = (
        *((0.0, -4.4), (0.2099, -1.2), (0.2219, -3.5), (0.2329, -5.2), (0.2176, -2.5), (0.6366, 0.0)),
        *((0.6448, -2.2), (0.6560, -3.9), (0.6584, -7.4), (0.7935, -7.1), (0.8213, -10.7), (0.9336, -11.1)),
        *((1.2285, -5.1), (1.3083, -6.8), (2.1704, -8.7), (2.7105, -13.2), (4.2589, -13.9), (4.6003, -13.9)),
        *((5.4902, -15.8), (5.6077, -17.1), (6.3065, -16.0), (6.6374, -15.7), (7.0427, -21.6)),
        (8.6523, -22.8),
    )


@register
@dataclass(frozen=True)
class TdlD(Tdl):
    """A path in sight, 13.3 dB above the scattered ones of its delay."""

    name: ClassVar[str] = "tdl_d"
    label: ClassVar[str] = "TDL-D"
    in_sight_db: ClassVar[float | None] = -0.2
    taps: ClassVar[Taps] = (
        *((0.0, -13.5), (0.035, -18.8), (0.612, -21.0), (1.363, -22.8), (1.405, -17.9), (1.804, -20.1)),
        *((2.596, -21.9), (1.775, -22.9), (4.042, -27.8), (7.937, -23.6), (9.424, -24.8), (9.708, -30.0)),
        (12.525, -27.7),
    )


@register
@dataclass(frozen=True)
class TdlE(Tdl):
    """A path in sight, 22 dB above the scattered ones of its delay."""

    name: ClassVar[str] = "tdl_e"
    label: ClassVar[str] = "TDL-E"
    in_sight_db: ClassVar[float | None] = -0.03
    taps: ClassVar[Taps] = (
        *((0.0, -22.03), (0.5133, -15.8), (0.5440, -18.1), (0.5630, -19.8), (0.5440, -22.9)),
        *((0.7112, -22.4), (1.9092, -18.6), (1.9293, -20.8), (1.9589, -22.6), (2.6426, -22.3)),
        *((3.7136, -25.6), (5.4524, -20.2), (12.0034, -29.8), (20.6519, -29.2)),
    )
