"""A codeword over a channel whose gain differs by time and frequency: OFDM, pilots among data, estimates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.channel.application import apply, power
from device_agent.channel.csi import estimate_gain, expected_power
from device_agent.channel.ofdm import interpolate
from device_agent.channel.sampling import Complex, NumpyDraws, sample_noise
from device_agent.channel.tdl import Tdl


@dataclass(frozen=True)
class Crossed:
    """What arrived, before equalisation.

    Attributes:
        y_TS: of each symbol, complex64 [T, C/2].
        h_TS: the gain that the receiver takes it to have had.
        true_TS: the gain that it had.
        gain: |h|^2 as far as the receiver knows: of each symbol, or of each pilot.
        channel_uses: pilots and prefix included.
        airtime_s: of these [s].
    """

    y_TS: Complex
    h_TS: Complex
    true_TS: Complex
    gain: npt.NDArray[np.float64]
    channel_uses: int
    airtime_s: float


def cross(
    model: Tdl, s_TS: Complex, n0: float, amplitude: float, pilot_spacing: int, rng: np.random.Generator
) -> Crossed:
    """Send a codeword.

    Args:
        model: the channel.
        s_TS: complex64 [T, C/2], Es = 1.
        n0: noise power per complex symbol.
        amplitude: by which data and pilots are sent louder.
        pilot_spacing: subcarriers between pilots, from which the receiver estimates; 0: it knows the gains.
        rng: of gains, noise and the pilots' noise.
    """
    grid = model.grid(pilot_spacing)
    place_D, place_Q = grid.places(s_TS.size)
    response = model.response(NumpyDraws(rng), (), grid.symbols(s_TS.size))
    h_E = (amplitude * response.reshape(-1)).astype(np.complex64)
    h_TS = true_TS = h_E[place_D].reshape(s_TS.shape)
    y_TS = apply(s_TS, h_TS, sample_noise(s_TS.shape, rng), n0)
    gain: npt.NDArray[np.float64] = power(h_TS).astype(np.float64)
    if pilot_spacing:
        estimate_Q = estimate_gain(h_E[place_Q], n0, 1, rng)
        h_TS = interpolate(estimate_Q, place_Q, place_D, grid).reshape(s_TS.shape)
        steady, scattered = model.paths()
        gain = expected_power(estimate_Q, n0, 1, amplitude * steady, amplitude**2 * scattered)
    uses = grid.channel_uses(s_TS.size)
    return Crossed(y_TS, h_TS, true_TS, gain, uses, uses / (grid.subcarriers * grid.spacing_hz))
