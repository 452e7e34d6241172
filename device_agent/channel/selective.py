"""A codeword over a channel whose gain differs by time and frequency.

OFDM, an amplifier that may saturate, pilots among data, and estimates that may be old.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.channel.amplifier import clip
from device_agent.channel.application import apply, power
from device_agent.channel.csi import PILOT, estimate_gain, expected_power
from device_agent.channel.ofdm import blur, interpolate
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
        gain_TS: the same of each symbol.
        channel_uses: pilots and prefix included.
        airtime_s: of these [s].
        subcarrier_TS: that each symbol went over.
    """

    y_TS: Complex
    h_TS: Complex
    true_TS: Complex
    gain: npt.NDArray[np.float64]
    gain_TS: npt.NDArray[np.float64]
    channel_uses: int
    airtime_s: float
    subcarrier_TS: npt.NDArray[np.int64]


def cross(
    model: Tdl,
    s_TS: Complex,
    n0: float,
    amplitude: float,
    rng: np.random.Generator,
    *,
    interference: float = 0.0,
    pilot_spacing: int = 0,
    csi_age_s: float = 0.0,
    clip_db: float | None = None,
) -> Crossed:
    """Send a codeword.

    Args:
        model: the channel.
        s_TS: complex64 [T, C/2], Es = 1.
        n0: noise power per complex symbol.
        amplitude: by which data and pilots are sent louder.
        rng: of gains, noise and the pilots' noise.
        interference: power of what a neighbour adds later, which blurs pilots as noise does.
        pilot_spacing: subcarriers between pilots, from which the receiver estimates; 0: it knows the gains.
        csi_age_s: by which the gains that it knows or estimates are older than the data [s].
        clip_db: power at which the amplifier saturates, over the mean [dB]; None: it never does.
    """
    grid = model.grid(pilot_spacing)
    place_D, place_Q = grid.places(s_TS.size)
    times_s = grid.times_s(s_TS.size)
    # One draw of waves for both, so that what is known is what the channel was.
    asked_s = np.concatenate([times_s, times_s - csi_age_s]) if csi_age_s else times_s
    response = (amplitude * model.response(NumpyDraws(rng), (), asked_s)).astype(np.complex64)
    h_E, known_E = response[: len(times_s)].reshape(-1), response[-len(times_s) :].reshape(-1)
    sent_D, pilot_Q = s_TS.reshape(-1), np.full(len(place_Q), PILOT)
    if clip_db is not None:
        # What a codeword leaves empty of its last OFDM symbol the next one fills: here, its own beginning.
        grid_E = np.resize(sent_D, len(h_E))
        grid_E[place_Q], grid_E[place_D] = PILOT, sent_D
        left_E = clip(grid_E.reshape(-1, grid.subcarriers), clip_db).reshape(-1)
        sent_D, pilot_Q = left_E[place_D], left_E[place_Q]
    true_TS = h_E[place_D].reshape(s_TS.shape)
    h_TS = known_E[place_D].reshape(s_TS.shape)
    y_TS = apply(sent_D.reshape(s_TS.shape), true_TS, sample_noise(s_TS.shape, rng), n0)
    gain: npt.NDArray[np.float64] = power(h_TS).astype(np.float64)
    gain_TS = gain
    if pilot_spacing:
        noise = n0 + interference
        estimate_Q = estimate_gain(known_E[place_Q] * (pilot_Q / PILOT), noise, 1, rng)
        h_TS = interpolate(estimate_Q, place_Q, place_D, grid).reshape(s_TS.shape)
        steady, scattered = model.paths()
        paths = (amplitude * steady, amplitude**2 * scattered)
        gain = expected_power(estimate_Q, noise, 1, *paths)
        noise_TS = noise * blur(place_Q, place_D, grid).reshape(s_TS.shape)
        gain_TS = expected_power(h_TS, noise_TS, 1, *paths)
    uses = grid.channel_uses(s_TS.size)
    subcarrier_TS = (place_D % grid.subcarriers).reshape(s_TS.shape)
    airtime_s = uses / (grid.subcarriers * grid.spacing_hz)
    return Crossed(y_TS, h_TS, true_TS, gain, gain_TS, uses, airtime_s, subcarrier_TS)
