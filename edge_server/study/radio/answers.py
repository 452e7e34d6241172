"""What a radio that is more than noise does to the shipped model's answers.

Tapped delay lines at walking and driving speed, old estimates, an amplifier that saturates, a neighbour on
the same resource: one knob each, everything else as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from device_agent.channel import ChannelConfig, SnrPer, to_symbols
from device_agent.channel.amplifier import peak_to_average_db, scrambled
from edge_server.evaluation.accuracy import Evaluator, Setting
from protos.names import CsiName

FULL = 16
"""Tokens per modality."""
_SUBCARRIERS = 66


@dataclass(frozen=True)
class Plan:
    """What is asked.

    Attributes:
        questions: of the test split.
        snrs_db: over which tapped delay lines are looked at [dB].
        speeds_kmh: at which.
        ages_ms: of estimates.
        clips_db: power at which the amplifier saturates, over the mean; None: never.
        sirs_db: of a neighbour.
        told_snrs_db: over which one SNR per block is compared with one per token [dB].
        told_questions: that are asked for that, at each setting.
        seed: of channel realisations.
    """

    questions: int = 1200
    snrs_db: tuple[float, ...] = (-10.0, -5.0, 0.0, 5.0, 10.0, 20.0)
    speeds_kmh: tuple[float, ...] = (3.0, 60.0)
    ages_ms: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 5.0)
    clips_db: tuple[float | None, ...] = (None, 6.0, 3.0, 0.0, -3.0)
    sirs_db: tuple[float, ...] = (-10.0, -5.0, 0.0, 5.0, 10.0, 20.0)
    told_snrs_db: tuple[float, ...] = (-5.0, 0.0, 5.0, 10.0)
    told_questions: int = 600
    seed: int = 1


QUICK = Plan(24, (0.0,), (3.0,), (1.0,), (0.0,), (0.0,), (0.0,), 24)

Row = dict[str, Any]


def tapped(plan: Plan) -> Iterator[tuple[str, ChannelConfig]]:
    """TDL-C of 300 ns over SNR, at each speed, with known and with estimated gains; AWGN beside it."""
    for snr_db in plan.snrs_db:
        yield "tapped", ChannelConfig(model="awgn", snr_db=snr_db)
        for speed_kmh in plan.speeds_kmh:
            known = ChannelConfig(model="tdl_c", snr_db=snr_db, speed_kmh=speed_kmh)
            yield "tapped", known
            yield "tapped", replace(known, csi="estimated")


def spoiled(plan: Plan) -> Iterator[tuple[str, ChannelConfig]]:
    """Each of the other knobs, at 10 dB; neighbours at 20 dB."""
    estimated = ChannelConfig(model="tdl_c", snr_db=10.0, csi="estimated")
    for speed_kmh in plan.speeds_kmh:
        for age_ms in plan.ages_ms:
            yield "aged", replace(estimated, speed_kmh=speed_kmh, csi_age_ms=age_ms)
    for clip_db in plan.clips_db:
        yield "clipped", replace(estimated, clip_db=clip_db)
    for sir_db in plan.sirs_db:
        yield "shared", ChannelConfig(model="awgn", snr_db=20.0, sir_db=sir_db)
        yield "shared", ChannelConfig(model="rayleigh", snr_db=20.0, sir_db=sir_db)


def told(plan: Plan, snr_per: SnrPer) -> Iterator[tuple[str, ChannelConfig]]:
    """TDL-C of 300 ns over SNR, at each speed, with known and with estimated gains, told in one way."""
    for csi in get_args(CsiName):
        for speed_kmh in plan.speeds_kmh:
            for snr_db in plan.told_snrs_db:
                yield (
                    "told",
                    ChannelConfig(
                        model="tdl_c", snr_db=snr_db, csi=csi, speed_kmh=speed_kmh, snr_per=snr_per
                    ),
                )


def ask(
    evaluator: Evaluator,
    settings: Sequence[tuple[str, ChannelConfig]],
    seed: int,
    advance: Callable[[int], None] = lambda done: None,
) -> list[Row]:
    """Accuracy at each setting, as JSON.

    Args:
        evaluator: of the model, on the test split.
        settings: name of the part, and channel.
        seed: of channel realisations.
        advance: told of questions that were asked.
    """
    rows = []
    for part, channel in settings:
        score = evaluator.through_channel(Setting(channel, FULL, seed), advance)
        told = {
            name: getattr(channel, name)
            for name in ("model", "snr_db", "csi", "speed_kmh", "csi_age_ms", "clip_db", "sir_db", "snr_per")
        }
        rows.append({"part": part, **told, "accuracy": score.accuracy, "questions": score.asked.total()})
    return rows


def peaks(evaluator: Evaluator) -> Row:
    """PAPR of the model's own codewords over OFDM, as they are and scrambled [dB].

    Median, and what one OFDM symbol in a hundred is above.
    """
    found: dict[str, list[Any]] = {"as_they_are": [], "scrambled": []}
    for slot in evaluator.link.slots:
        symbols = to_symbols(evaluator.sent(slot, FULL)).reshape(-1)
        whole = symbols[: len(symbols) // _SUBCARRIERS * _SUBCARRIERS]
        grid_NK = whole.reshape(-1, _SUBCARRIERS).astype(np.complex64)
        found["as_they_are"].append(peak_to_average_db(grid_NK))
        found["scrambled"].append(peak_to_average_db(scrambled(grid_NK)))
    return {
        how: {
            "median_db": float(np.median(np.concatenate(parts))),
            "one_in_a_hundred_db": float(np.quantile(np.concatenate(parts), 0.99)),
        }
        for how, parts in found.items()
    }
