"""OFDM: which symbol goes over which subcarrier when, and what pilots among them tell of the channel.

    time (OFDM symbols) ─▶
    subcarriers  p d d d d d p d d d d d        p: pilot, d: data. A comb: every so many subcarriers, in every
                 p d d d d d p d d d d d        OFDM symbol; of a band narrower than that, whole OFDM symbols.

With a cyclic prefix longer than the channel's delays, and a channel that hardly moves within one OFDM symbol,
a subcarrier has one gain: y = h s + sqrt(n0) w, as everywhere else. What is left of both (intersymbol and
intercarrier interference) is not modelled.

Shapes: N OFDM symbols, K subcarriers, D data symbols of a codeword, Q pilots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.channel.sampling import Complex

Index = npt.NDArray[np.int64]

CYCLIC_PREFIX = 144.0 / 2048.0
"""Of an OFDM symbol: NR's normal one, but for the longer one of every half subframe (TS 38.211, 5.3.1)."""
MAX_SUBCARRIERS = 3300
"""NR's widest carrier (3GPP TS 38.101-1)."""


@dataclass(frozen=True)
class Grid:
    """The resource elements of a codeword.

    Attributes:
        subcarriers: K.
        spacing_hz: between them [Hz].
        pilot_spacing: pilots on every so many subcarriers, at least 2; 0: none.

    Raises:
        ValueError: pilots would leave no room for data.
    """

    subcarriers: int
    spacing_hz: float
    pilot_spacing: int = 0

    def __post_init__(self) -> None:
        if self.pilot_spacing == 1:
            raise ValueError("pilot_spacing: 1 leaves no room for data; at least 2, or 0 for none")

    @classmethod
    def over(cls, bandwidth_hz: float, spacing_hz: float, pilot_spacing: int = 0) -> Grid:
        """As many subcarriers as a bandwidth [Hz] holds; of one that holds none, a single one as narrow."""
        held = math.floor(min(bandwidth_hz / spacing_hz, MAX_SUBCARRIERS))
        return cls(max(held, 1), min(spacing_hz, bandwidth_hz), pilot_spacing)

    @property
    def symbol_s(self) -> float:
        """How long an OFDM symbol takes, its prefix included [s]."""
        return (1.0 + CYCLIC_PREFIX) / self.spacing_hz

    @property
    def is_comb(self) -> bool:
        """Whether there are pilots in every OFDM symbol."""
        return 0 < self.pilot_spacing <= self.subcarriers

    def _is_pilot(self, elements: int) -> npt.NDArray[np.bool_]:
        """Of each resource element, OFDM symbol after OFDM symbol."""
        times, frequencies = np.divmod(np.arange(elements), self.subcarriers)
        if not self.pilot_spacing:
            return np.zeros(elements, bool)
        if self.is_comb:
            return np.asarray(frequencies % self.pilot_spacing == 0)
        return np.asarray(times % math.ceil(self.pilot_spacing / self.subcarriers) == 0)

    def places(self, data: int) -> tuple[Index, Index]:
        """Resource elements, counted OFDM symbol after OFDM symbol, of data and of the pilots before its end.

        Args:
            data: symbols to place, at least 1.

        Returns:
            (D,) and (Q,); of pilots, all of an OFDM symbol that holds data.
        """
        elements = data + self.subcarriers
        while True:
            elements = math.ceil(elements / self.subcarriers) * self.subcarriers
            pilot = self._is_pilot(elements)
            if elements - pilot.sum() >= data:
                break
            elements *= 2
        place_D = np.flatnonzero(~pilot)[:data]
        end = (int(place_D[-1]) // self.subcarriers + 1) * self.subcarriers
        return place_D, np.flatnonzero(pilot[:end])

    def symbols(self, data: int) -> int:
        """N, OFDM symbols that a codeword reaches into."""
        return int(self.places(data)[0][-1]) // self.subcarriers + 1

    def times_s(self, data: int) -> npt.NDArray[np.float64]:
        """When each of them begins, (N,) [s]."""
        times: npt.NDArray[np.float64] = np.arange(self.symbols(data), dtype=np.float64) * self.symbol_s
        return times

    def channel_uses(self, data: int) -> int:
        """Complex symbols that a codeword takes of the radio: its own, pilots, and their part of the prefix.

        Of the last OFDM symbol what it fills counts: the next codeword fills the rest.
        """
        place_D, place_Q = self.places(data)
        elements = data + int((place_Q <= place_D[-1]).sum())
        return math.ceil(elements * (1.0 + CYCLIC_PREFIX))


def interpolate(estimate_Q: Complex, place_Q: Index, place_D: Index, grid: Grid) -> Complex:
    """Gains of data between those of pilots: on a line over frequency, or over time where there is no comb.

    Beyond the outermost pilots the nearest one's holds.

    Args:
        estimate_Q: at the pilots, (Q,).
        place_Q, place_D: as :meth:`Grid.places` gives them.
        grid: theirs.

    Returns:
        complex64, (D,).
    """
    pilots = estimate_Q.reshape(-1, _in_the_first(place_Q, grid))  # a row per OFDM symbol with any
    times_D, frequencies_D = np.divmod(place_D, grid.subcarriers)
    found = np.empty(len(place_D), np.complex64)
    if grid.is_comb:
        at = place_Q[: pilots.shape[1]]
        for time, row in enumerate(pilots):
            here = times_D == time
            found[here] = np.interp(frequencies_D[here], at, row.real) + 1j * np.interp(
                frequencies_D[here], at, row.imag
            )
        return found
    at = place_Q[:: grid.subcarriers] // grid.subcarriers
    for frequency in range(grid.subcarriers):
        here, row = frequencies_D == frequency, pilots[:, frequency]
        found[here] = np.interp(times_D[here], at, row.real) + 1j * np.interp(times_D[here], at, row.imag)
    return found


def blur(place_Q: Index, place_D: Index, grid: Grid) -> npt.NDArray[np.float64]:
    """How much of a pilot's noise is left in each gain between: w^2 + (1 - w)^2, (D,).

    Args:
        place_Q, place_D, grid: as of :func:`interpolate`.
    """
    times_D, frequencies_D = np.divmod(place_D, grid.subcarriers)
    if grid.is_comb:
        over_D, at = frequencies_D, place_Q[: _in_the_first(place_Q, grid)]
    else:
        over_D, at = times_D, place_Q[:: grid.subcarriers] // grid.subcarriers
    weight_D = np.interp(over_D, at, np.arange(len(at))) % 1.0
    found: npt.NDArray[np.float64] = weight_D**2 + (1.0 - weight_D) ** 2
    return found


def _in_the_first(place_Q: Index, grid: Grid) -> int:
    """Pilots of the first OFDM symbol."""
    return int((place_Q < grid.subcarriers).sum())
