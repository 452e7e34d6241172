"""Bit error rates of QPSK over tapped delay lines: the device's channel beside Sionna's.

Both send the same kind of grid: OFDM symbols of :data:`SUBCARRIERS` subcarriers, a pilot on every sixth,
least squares, a line between pilots, one tap of MMSE. Apart from that they share no line of code. What is
compared is how many decibels more the one needs than the other for the same bit error rate.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from device_agent.channel import Channel, ChannelConfig
from protos.names import ChannelName, CsiName

OFDM_SYMBOLS = 4
SUBCARRIERS = 67
"""About 1 MHz at 15 kHz. The last one is a pilot, so that all data lies between two: beyond the last pilot
the device's estimate stays what it is there, Sionna's goes on along the line, and is worse for it."""
PILOT_SPACING = 6
DATA_SUBCARRIERS = SUBCARRIERS - -(-SUBCARRIERS // PILOT_SPACING)
WITHIN_DB = 0.5
_BATCH = 500
_AMPLITUDE = 0.5**0.5


def ours(config: ChannelConfig, blocks: int, seed: int, advance: Callable[[int], None]) -> float:
    """Share of wrong bits.

    Args:
        config: of a tapped delay line, its band :data:`SUBCARRIERS` wide.
        blocks: codewords, each with a channel of its own.
        seed: of bits and channels.
        advance: told of blocks that were sent.
    """
    rng = np.random.default_rng(seed)
    channel, wrong = Channel(config, rng), 0.0
    for _ in range(blocks):
        bits = rng.integers(0, 2, (OFDM_SYMBOLS, 2 * DATA_SUBCARRIERS))
        sent_TC = ((2.0 * bits - 1.0) * _AMPLITUDE).astype(np.float32)
        wrong += float(((channel.transmit(sent_TC).x_TC > 0) != (bits > 0)).mean())
        advance(1)
    return wrong / blocks


def sionnas(config: ChannelConfig, blocks: int, seed: int, advance: Callable[[int], None]) -> float:
    """The same of Sionna's TDL, OFDM channel, estimator and equaliser.

    Args:
        config: as of :func:`ours`.
        blocks: OFDM grids, each with a channel of its own.
        seed: of bits and channels.
        advance: told of blocks that were sent.

    Raises:
        ImportError: Sionna is not installed (extra ``evaluation``).
    """
    with warnings.catch_warnings(action="ignore"):
        import torch
        from sionna.phy import config as global_config
        from sionna.phy import ofdm
        from sionna.phy.channel import OFDMChannel, tr38901
        from sionna.phy.mimo import StreamManagement

        state = torch.random.get_rng_state()
        global_config.seed = seed
        grid = ofdm.ResourceGrid(
            OFDM_SYMBOLS, SUBCARRIERS, config.subcarrier_khz * 1e3, pilot_pattern=_comb(ofdm.PilotPattern)
        )
        speed_mps = config.speed_kmh / 3.6
        model = tr38901.TDL(
            config.model[-1].upper(),
            config.delay_spread_ns * 1e-9,
            config.carrier_ghz * 1e9,
            min_speed=speed_mps,
            max_speed=speed_mps,
        )
        send = OFDMChannel(model, grid, normalize_channel=False, return_channel=True)
        fill = ofdm.ResourceGridMapper(grid)
        estimate = ofdm.LSChannelEstimator(grid, interpolation_type="lin")
        equalise = ofdm.LMMSEEqualizer(grid, StreamManagement(np.ones((1, 1)), 1))
        rng, n0, wrong = np.random.default_rng(seed), 10.0 ** (-config.snr_db / 10.0), 0.0
        for begin in range(0, blocks, _BATCH):
            count = min(_BATCH, blocks - begin)
            bits = rng.integers(0, 2, (count, 1, 1, 2, OFDM_SYMBOLS * DATA_SUBCARRIERS))
            parts = torch.from_numpy((2.0 * bits - 1.0) * _AMPLITUDE).to(torch.float32)
            sent = torch.complex(parts[..., 0, :], parts[..., 1, :])
            y, h = send(fill(sent), n0)
            if config.csi == "estimated":
                h_hat, error = estimate(y, n0)
            else:
                h_hat, error = h[:, :, :1], torch.zeros(1)
            found, _ = equalise(y, h_hat, error, n0)
            parts = torch.stack([found.real, found.imag], dim=-2)
            wrong += float(((parts.numpy() > 0) != (bits > 0)).mean()) * count
            advance(count)
        torch.random.set_rng_state(state)
    return wrong / blocks


def _comb(pattern: Any) -> Any:
    """Pilots where the device has them."""
    mask = np.zeros((1, 1, OFDM_SYMBOLS, SUBCARRIERS), bool)
    mask[..., ::PILOT_SPACING] = True
    pilots = np.full((1, 1, int(mask.sum())), (1.0 + 1.0j) * _AMPLITUDE)
    return pattern(mask, pilots)


def more_db(
    snrs_db: Sequence[float], ours_rates: Sequence[float], their_rates: Sequence[float]
) -> list[float]:
    """How much more SNR ours needs for each rate of theirs that lies among ours [dB].

    Rates fall over SNR; between two points their logarithm is taken to lie on a line.
    """
    ours_log: npt.NDArray[np.float64] = np.log10(np.maximum(ours_rates, 1e-12))[::-1]
    rising_db = np.asarray(snrs_db, np.float64)[::-1]
    return [
        float(np.interp(np.log10(rate), ours_log, rising_db) - snr_db)
        for snr_db, rate in zip(snrs_db, their_rates, strict=True)
        if 10.0 ** ours_log[0] <= rate <= 10.0 ** ours_log[-1]
    ]


def compare(
    models: Sequence[ChannelName],
    speeds_kmh: Sequence[float],
    snrs_db: Sequence[float],
    blocks: int,
    seed: int,
    advance: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Both over every model, speed and SNR, estimated gains and known ones, as JSON."""
    rows, band = [], ChannelConfig(bandwidth_hz=SUBCARRIERS * ChannelConfig.subcarrier_khz * 1e3)
    for model in models:
        for speed_kmh in speeds_kmh:
            for csi in get_args(CsiName):
                configs = [
                    replace(band, model=model, csi=csi, snr_db=snr_db, speed_kmh=speed_kmh)
                    for snr_db in snrs_db
                ]
                found = {
                    who: [rate(each, blocks, seed + i, advance) for i, each in enumerate(configs)]
                    for who, rate in (("ours", ours), ("sionna", sionnas))
                }
                gaps = more_db(snrs_db, found["ours"], found["sionna"])
                rows.append(
                    {"model": model, "speed_kmh": speed_kmh, "csi": csi, "snrs_db": list(snrs_db), **found}
                    | {"more_db": gaps}
                )
    return rows
