"""A cell's bounds, and the grant that each admitted device gets: what it may send, and until when.

Made by :meth:`edge_server.cell.cell.Cell.open` from the SNR that a device reports.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import pydantic
from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt

PolicyName: TypeAlias = Literal[
    "none", "equal", "fixed", "proportional_fair", "max_min", "water_filling", "greedy", "joint"
]
"""A policy of :data:`edge_server.cell.allocation.POLICIES`, or none."""


@pydantic.dataclasses.dataclass(
    frozen=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
)
class CellConfig:
    """Bounds of one cell; as a section of settings, ``[cell]``.

    Raises:
        ValidationError: a bound is not positive.
    """

    max_sessions: PositiveInt = 2048
    """Sessions open at once."""
    max_sessions_of_one: PositiveInt = 64
    """Of them, those of one certificate: a device may run several agents."""
    max_questions_in_flight: PositiveInt = 16
    """Questions of one session that are unanswered at once."""
    max_question_bytes: Annotated[int, Field(ge=1024)] = 256 * 1024
    """Size of one question on the wire, over gRPC."""
    bandwidth_hz: PositiveFloat = 1e6
    """Granted to each device; with an allocation, the bandwidth that powers are told by."""
    allocation: PolicyName = Field(default="none", json_schema_extra={"flag": True})
    """How bandwidth, power and token length are shared out; none: every device is granted the same."""
    total_bandwidth_hz: PositiveFloat = Field(default=4e6, json_schema_extra={"flag": True})
    """What an allocation shares out."""
    max_power_db: Annotated[float, Field(ge=-60, le=60)] = 0.0
    """With an allocation, most power of one device, over what 0 dB of gain takes at bandwidth_hz [dB]."""
    total_power_db: Annotated[float | None, Field(ge=-60, le=90)] = None
    """Likewise of all devices together [dB]; none: not bounded."""
    latency_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """What an allocation counts airtime for, from 0 to 1; the rest goes to right answers."""
    reference_latency_s: PositiveFloat = 0.1
    """Airtime that counts as much as one wrong answer."""
    airtime_within_s: PositiveFloat | None = None
    """Longest airtime of a question's media that an allocation may lead to; none: not bounded [s]."""
    deadline_uplink_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of a question's deadline, what an allocation lets its tokens take, made and sent; 0: not reckoned."""
    energy_price: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """What a second at the power of 0 dB costs, in wrong answers."""
    allocate_every_s: Annotated[float, Field(ge=0.05, le=3600)] = 0.5
    """An allocation is found anew at most this often."""
    allocate_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of the time that allocations may take to find: what takes long is found less often."""
    allocate_within_s: PositiveFloat = 1.0
    """A solver that takes longer is not waited for; a policy that needs none decides."""
    allocate_step_db: PositiveFloat = 1.0
    """A device whose SNR moved by less changes no allocation [dB]."""
    grant_valid_s: PositiveFloat = 3600.0
    """How long a grant lasts."""
    outage_snr_db: float = -12.0
    """Blocks that arrive below this count as lost; it is the least SNR that models are trained at."""
    token_length_by_snr_db: tuple[tuple[float, int], ...] = ((15.0, 8), (5.0, 16))
    """From this SNR on [dB], so many tokens are suggested; below the last one, the most there are."""
    answers: Path | None = Field(default=None, json_schema_extra={"flag": True})
    """SQLite file where answers wait until their device has acknowledged them; none: only in memory."""
    answers_kept: PositiveInt = 256
    """Answers of one device that are kept for a question that is sent again, until acknowledged."""
    answers_kept_in_all: PositiveInt = 16_384
    """Answers of all devices that are kept."""
    answers_kept_s: PositiveFloat = 86_400.0
    """How long an answer is kept, if it is not acknowledged."""
    arrivals_per_s: PositiveFloat = 50.0
    """New sessions per second, once the burst is used up."""
    arrivals_burst: PositiveInt = 40
    """New sessions at once after a quiet spell."""


@dataclass(frozen=True)
class Grant:
    """What an admitted device may send, until when.

    Attributes:
        max_token_length: largest token_length per modality in one question.
        token_length: suggested for the SNR that the device reported.
        max_questions_in_flight: unanswered questions at once.
        max_question_bytes: size of one question on the wire.
        bandwidth_hz: what the device may occupy [Hz].
        valid_s: how long this lasts [s].
        outage_snr_db: a block that arrives below this counts as lost [dB].
        tx_power_db: gain on the energy of every symbol [dB].
        channel_uses: that the media of one question may take; 0: not bounded.
        rounds: whether questions may come in rounds.
    """

    max_token_length: int
    token_length: int
    max_questions_in_flight: int
    max_question_bytes: int
    bandwidth_hz: float
    valid_s: float
    outage_snr_db: float
    tx_power_db: float = 0.0
    channel_uses: int = 0
    rounds: bool = False


def make_grant(
    config: CellConfig,
    snr_db: float,
    token_lengths: Sequence[int],
    token_length: int | None = None,
    *,
    rounds: bool = False,
) -> Grant:
    """The grant of a device that reports this SNR [dB], for a model trained for these token lengths.

    Args:
        config: of the cell.
        snr_db: as reported.
        token_lengths: what the model was trained for.
        token_length: what is suggested whatever the link; None: :func:`suggest_token_length`.
        rounds: whether it is known how sure the model's answers are.
    """
    return Grant(
        max_token_length=max(token_lengths),
        token_length=token_length
        or suggest_token_length(snr_db, token_lengths, config.token_length_by_snr_db),
        max_questions_in_flight=config.max_questions_in_flight,
        max_question_bytes=config.max_question_bytes,
        bandwidth_hz=config.bandwidth_hz,
        valid_s=config.grant_valid_s,
        outage_snr_db=config.outage_snr_db,
        rounds=rounds,
    )


def suggest_token_length(
    snr_db: float, token_lengths: Sequence[int], steps: Sequence[tuple[float, int]]
) -> int:
    """A token length for a link: the worse it is, the more tokens, whose redundancy the receiver uses.

    Args:
        snr_db: what the device reported [dB]; not a number counts as the worst link.
        token_lengths: what the model was trained for.
        steps: (snr_db, token_length): so many from this SNR on.

    Returns:
        One of ``token_lengths``: the shortest that is at least what the steps say.
    """
    wanted = max(token_lengths)
    if not math.isnan(snr_db):
        for from_snr_db, token_length in sorted(steps, reverse=True):
            if snr_db >= from_snr_db:
                wanted = token_length
                break
    return min((length for length in token_lengths if length >= wanted), default=max(token_lengths))
