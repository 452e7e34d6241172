"""One codeword across the radio link, end to end.

x_TC ─▶ symbols ─▶ h s + sqrt(n0) w ─▶ CSI (perfect, or pilots) ─▶ equalize ─▶ x_TC, effective SNR, cost
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from device_agent.channel.application import (
    apply,
    equalize_mmse,
    equalize_zf,
    n0_from_snr_db,
    power,
    to_symbols,
    token_snr,
)
from device_agent.channel.csi import estimate_gain, expected_power, pilot_uses
from device_agent.channel.interference import neighbour
from device_agent.channel.models import MODELS, channel_model
from device_agent.channel.pacing import airtime_s
from device_agent.channel.sampling import (
    Complex,
    sample_gain,
    sample_noise,
)
from device_agent.channel.selective import cross
from device_agent.channel.tdl import Tdl
from device_agent.channel.trace import SnrTrace
from device_agent.errors import ConfigurationError
from protos.names import (
    MAX_ABS_SNR_DB,
    MAX_SNR_DB,
    MIN_SNR_DB,
    ChannelName,
    CsiName,
    FadingName,
    clamp_snr_db,
)

EqualizerName: TypeAlias = Literal["mmse", "zf"]
SnrPer: TypeAlias = Literal["block", "token"]


def from_symbols(s: Complex) -> npt.NDArray[np.float32]:
    """[..., T, C/2] complex to [..., T, C] reals: the inverse of :func:`to_symbols`."""
    return np.concatenate([s.real, s.imag], axis=-1).astype(np.float32, copy=False)


@dataclass(frozen=True)
class ChannelConfig:
    """What lies between device and base station.

    Raises:
        ConfigurationError: names the field, what was found and what is allowed.
    """

    model: ChannelName = "awgn"
    """A name in :data:`device_agent.channel.models.MODELS`; ``none``: a perfect wire."""
    fading: FadingName = "block"
    """One gain per codeword, or one per symbol."""
    snr_db: float = 10.0
    """Mean Es/N0 [dB]."""
    k_factor_db: float = 6.0
    """Rician only: line-of-sight power over scattered power [dB]."""
    csi: CsiName = "perfect"
    """Whether the receiver knows the gain or estimates it from pilots, which cost channel uses."""
    pilots: int = 4
    """Pilots per gain, with estimated CSI."""
    equalizer: EqualizerName = "mmse"
    """How the gain is undone."""
    bandwidth_hz: float = 1e6
    """Symbols per second."""
    tx_power_db: float = 0.0
    """Gain on the energy of every symbol, pilots too, before the channel [dB]."""
    delay_spread_ns: float = 300.0
    """TDL only: root of the mean squared delay [ns]."""
    speed_kmh: float = 3.0
    """TDL only: of the device [km/h]."""
    carrier_ghz: float = 3.5
    """TDL only: carrier frequency [GHz]."""
    subcarrier_khz: float = 15.0
    """TDL only: between subcarriers [kHz]."""
    pilot_spacing: int = 6
    """TDL only: with estimated CSI, subcarriers from one pilot to the next."""
    csi_age_ms: float = 0.0
    """TDL only: by which the gains that the receiver knows or estimates are older than the tokens [ms]."""
    clip_db: float | None = None
    """TDL only: power at which the amplifier saturates, over the mean power [dB]; None: it never does."""
    sir_db: float | None = None
    """Mean power of this device over that of a neighbour on the same resource [dB]; None: there is none."""
    snr_per: SnrPer = "block"
    """Whether the receiver is told one SNR of the codeword, or that of each token too where they differ."""

    def __post_init__(self) -> None:
        choices: dict[str, tuple[str, ...]] = {
            "model": tuple(MODELS),
            "fading": get_args(FadingName),
            "csi": get_args(CsiName),
            "equalizer": get_args(EqualizerName),
            "snr_per": get_args(SnrPer),
        }
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in choices:
                if value not in choices[each.name]:
                    allowed = ", ".join(choices[each.name])
                    raise ConfigurationError(f"channel {each.name} is {value!r}; allowed: {allowed}")
            elif value is not None and not math.isfinite(value):
                raise ConfigurationError(f"channel {each.name} is {value}; must be finite")
        if self.bandwidth_hz <= 0:
            raise ConfigurationError(f"channel bandwidth_hz is {self.bandwidth_hz}; must be above 0")
        for name, least in (("pilots", 1), ("pilot_spacing", 2)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"channel {name} is {getattr(self, name)}; must be at least {least}")
        for name in ("delay_spread_ns", "speed_kmh", "carrier_ghz", "subcarrier_khz", "csi_age_ms"):
            lowest = 1e-3 if name in ("carrier_ghz", "subcarrier_khz") else 0.0
            if not lowest <= getattr(self, name) <= 1e6:
                raise ConfigurationError(
                    f"channel {name} is {getattr(self, name)}; must be from {lowest:g} to 1e6"
                )
        decibels = ("snr_db", "k_factor_db", "tx_power_db", "clip_db", "sir_db")
        if max(abs(getattr(self, name) or 0.0) for name in decibels) > MAX_ABS_SNR_DB:
            names = f"{', '.join(decibels[:-1])} and {decibels[-1]}"
            raise ConfigurationError(f"channel {names} must lie within ±{MAX_ABS_SNR_DB:g} dB")


@dataclass(frozen=True)
class Reception:
    """A codeword as the base station has it after equalisation.

    Attributes:
        x_TC: float32, [token_length, channel_dim].
        effective_snr_db: what the receiver is told, transmit power included, within [-30, 40] [dB].
        channel_uses: complex symbols sent, pilots included.
        airtime_s: what sending them took on the air [s].
        gain_TS: what became of each symbol, noise aside: what was sent times this, complex, [T, C/2] or of a
            shape that broadcasts to it. A gradient by x_TC goes back through its conjugate.
        subcarrier_TS: that each symbol went over, counted from 0; None: not over OFDM.
        token_snr_db_T: what the receiver is told of each token, float32 [T], within the same bounds [dB];
            None: effective_snr_db is that of all, or all that is told.
        pilots: from so many its one gain was estimated by which MMSE equalised it; 0: it was known, there
            were several, or it was equalised otherwise.
    """

    x_TC: npt.NDArray[np.float32]
    effective_snr_db: float
    channel_uses: int
    airtime_s: float
    gain_TS: Complex = field(default_factory=lambda: np.ones((1, 1), np.complex64), repr=False)
    subcarrier_TS: npt.NDArray[np.int64] | None = field(default=None, repr=False)
    token_snr_db_T: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    pilots: int = 0

    def told_db(self) -> npt.NDArray[np.float32]:
        """What the receiver knows of each token, float32 [T] [dB]."""
        if self.token_snr_db_T is None:
            return np.full(len(self.x_TC), self.effective_snr_db, np.float32)
        return self.token_snr_db_T

    def back(self, gradient_TC: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """A loss's gradient by what arrived, as its gradient by what was sent, [T, C]."""
        return from_symbols(np.conj(self.gain_TS) * to_symbols(gradient_TC))


class Channel:
    """An emulated radio link with its own randomness.

    Args:
        config: what it does; may be replaced between two codewords.
        rng: where gains and noise come from; the same seed repeats the same channel.
        trace: SNR over time; takes the place of ``config.snr_db``. Time runs from this construction on.
        clock: monotonic seconds, for the trace.
    """

    def __init__(
        self,
        config: ChannelConfig,
        rng: np.random.Generator,
        *,
        trace: SnrTrace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._rng = rng
        self._trace = trace
        self._clock = clock
        self._start_s = clock()

    @property
    def snr_db(self) -> float:
        """Mean Es/N0 right now [dB]."""
        if self._trace is None:
            return self.config.snr_db
        return self._trace.at(self._clock() - self._start_s)

    def transmit(self, x_TC: npt.NDArray[np.float32]) -> Reception:
        """Send one codeword and equalise what arrives.

        Args:
            x_TC: float32, [token_length, channel_dim], Es = 1 by its transmitter; channel_dim even.

        Raises:
            ConfigurationError: the block is not two-dimensional or channel_dim is odd.
        """
        if x_TC.ndim != 2 or x_TC.shape[1] % 2 or not x_TC.size:
            raise ConfigurationError(
                f"token block has shape {x_TC.shape}; [token_length, even channel_dim] needed"
            )
        config = self.config
        uses = x_TC.size // 2
        model = channel_model(config.model, config)
        if model.perfect:
            return Reception(x_TC.astype(np.float32), MAX_SNR_DB, uses, airtime_s(uses, config.bandwidth_hz))
        s = to_symbols(x_TC.astype(np.float32, copy=False))
        snr_db = self.snr_db
        n0 = n0_from_snr_db(snr_db)
        # The receiver sees one gain: that of what was sent louder, through the channel.
        amplitude = 10.0 ** (config.tx_power_db / 20.0)
        added, mean_power, subcarrier_TS = np.zeros((), np.complex64), 0.0, None
        if config.sir_db is not None:
            added, mean_power = neighbour(model, config.fading, s.shape, config.sir_db, self._rng)
        if isinstance(model, Tdl):
            crossed = cross(
                model,
                s,
                n0,
                amplitude,
                self._rng,
                interference=mean_power,
                pilot_spacing=config.pilot_spacing if config.csi == "estimated" else 0,
                csi_age_s=config.csi_age_ms * 1e-3,
                clip_db=config.clip_db,
            )
            y, h, true, gain = crossed.y_TS, crossed.h_TS, crossed.true_TS, crossed.gain
            gain_TS = crossed.gain_TS
            uses, on_air_s = crossed.channel_uses, crossed.airtime_s
            subcarrier_TS = crossed.subcarrier_TS
        else:
            h = true = sample_gain(model, config.fading, s.shape, self._rng) * np.float32(amplitude)
            y = apply(s, h, sample_noise(s.shape, self._rng), n0)
            gain = power(h)
            if config.csi == "estimated":
                uses += pilot_uses(h, config.pilots)
                h = estimate_gain(h, n0 + mean_power, config.pilots, self._rng)
                steady, scattered = model.paths()
                scattered *= amplitude**2
                gain = expected_power(h, n0 + mean_power, config.pilots, amplitude * steady, scattered)
            gain_TS = gain
            on_air_s = airtime_s(uses, config.bandwidth_hz)
        # What a neighbour adds is noise to the receiver, of a power that it has measured.
        sinr_db = snr_db - 10.0 * math.log10(1.0 + mean_power / n0)
        received = self._received(y + added, h, true, gain, sinr_db, uses, on_air_s)
        told_T = self._of_each_token(gain_TS, sinr_db) if gain_TS.shape == s.shape else None
        rough = config.csi == "estimated" and h.size == 1 and config.equalizer == "mmse"
        return replace(
            received,
            subcarrier_TS=subcarrier_TS,
            token_snr_db_T=told_T,
            pilots=config.pilots if rough else 0,
        )

    def _of_each_token(
        self, gain_TS: npt.NDArray[np.float64], sinr_db: float
    ) -> npt.NDArray[np.float32] | None:
        if self.config.snr_per == "block":
            return None
        gamma_TS = np.maximum(gain_TS.astype(np.float64) / n0_from_snr_db(sinr_db), 1e-30)
        snr_db_T = 10.0 * np.log10(token_snr(gamma_TS, zero_forcing=self.config.equalizer == "zf"))
        told: npt.NDArray[np.float32] = np.clip(snr_db_T, MIN_SNR_DB, MAX_SNR_DB).astype(np.float32)
        return told

    def _received(
        self,
        y: Complex,
        h: Complex,
        true: Complex,
        gain: npt.NDArray[np.float64],
        sinr_db: float,
        channel_uses: int,
        airtime_s: float,
    ) -> Reception:
        """What is left of the channel after it was undone: of gains ``true``, taken to be ``h``."""
        n0 = n0_from_snr_db(sinr_db)
        mmse = self.config.equalizer == "mmse"
        s_hat = equalize_mmse(y, h, n0) if mmse else equalize_zf(y, h)
        mean_gain_db = 10.0 * math.log10(max(float(gain.mean(dtype=np.float64)), 1e-30))
        return Reception(
            x_TC=from_symbols(s_hat),
            effective_snr_db=clamp_snr_db(sinr_db + mean_gain_db),
            channel_uses=channel_uses,
            airtime_s=airtime_s,
            gain_TS=equalize_mmse(true, h, n0) if mmse else equalize_zf(true, h),
        )
