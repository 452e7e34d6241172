"""What a run counted: offered, achieved, dropped, outcomes, and the latency histogram."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from hdrh.histogram import HdrHistogram

RequestFate: TypeAlias = Literal["answered", "refused", "expired", "failed"]
"""How a question ended; ``refused``: it was turned away, and its user's patience had an end."""

_TICK_S = 1e-6
_LONGEST_TICKS = 3600 * 10**6
_SIGNIFICANT_DIGITS = 3
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


class Latencies:
    """A histogram of seconds: 1 µs to 1 h, three significant digits."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LONGEST_TICKS, _SIGNIFICANT_DIGITS)

    def __len__(self) -> int:
        return int(self._histogram.get_total_count())

    def record(self, seconds: float) -> None:
        """One latency [s]."""
        self._histogram.record_value(min(max(round(seconds / _TICK_S), 1), _LONGEST_TICKS))

    def add(self, other: Latencies) -> None:
        """All of another's."""
        self._histogram.add(other._histogram)

    def at(self, percentile: float) -> float:
        """The latency that this share [%] does not exceed; NaN of none [s]."""
        if not len(self):
            return math.nan
        return float(self._histogram.get_value_at_percentile(percentile)) * _TICK_S

    def curve(self) -> list[tuple[float, float]]:
        """(percentile, latency [s]) wherever the distribution rises."""
        if not len(self):
            return []
        return [
            (item.percentile_level_iterated_to, item.value_iterated_to * _TICK_S)
            for item in self._histogram.get_percentile_iterator(10)
        ]

    def to_json(self) -> dict[str, Any]:
        """Percentiles, mean and most [s], and the curve; only the count where there is nothing else."""
        if not len(self):
            return {"count": 0}
        return {
            "count": len(self),
            "mean_s": self._histogram.get_mean_value() * _TICK_S,
            **{f"p{percentile:g}_s": self.at(percentile) for percentile in PERCENTILES},
            "max_s": self.at(100.0),
            "curve": self.curve(),
        }


@dataclass
class Measurement:
    """One run of a generator, complete once the generator returns and readable while it runs.

    Attributes:
        mode: ``"closed"`` or ``"open"``.
        users: how many asked.
        seconds: how long questions were begun [s].
        offered: questions that were to be asked.
        sent: questions that were asked.
        dropped: offered, but not sent: too many were outstanding already.
        held_back: offered, but not sent: its user had been told to wait, and did.
        outcomes: of the questions that were sent.
        in_window: outcomes that came before the time was up: what rates are taken from.
        faults: codes of those that failed.
        refusals: how often a question was turned away; one that tries again can be turned away again.
        refusals_without_delay: those among them that did not say when to come back.
        latencies: of the answers, from the *intended* send time on.
        lag: from the intended to the actual send time: what the generator itself was late.
    """

    mode: Literal["closed", "open"]
    users: int
    seconds: float
    offered: int = 0
    sent: int = 0
    dropped: int = 0
    held_back: int = 0
    outcomes: Counter[RequestFate] = field(default_factory=Counter)
    in_window: Counter[RequestFate] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    refusals: int = 0
    refusals_without_delay: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    lag: Latencies = field(default_factory=Latencies)

    @property
    def ended(self) -> int:
        """Questions that were sent and have ended."""
        return self.outcomes.total()

    @property
    def answered_hz(self) -> float:
        """Answers per second while questions were begun: goodput."""
        return self.in_window["answered"] / self.seconds

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "mode": self.mode,
            "users": self.users,
            "seconds": self.seconds,
            "offered": self.offered,
            "offered_hz": self.offered / self.seconds,
            "sent": self.sent,
            "sent_hz": self.sent / self.seconds,
            "dropped": self.dropped,
            "held_back": self.held_back,
            "answered_hz": self.answered_hz,
            "outcomes": dict(self.outcomes),
            "faults": dict(self.faults),
            "refusals": self.refusals,
            "refusals_without_delay": self.refusals_without_delay,
            "latency": self.latencies.to_json(),
            "generator_lag": self.lag.to_json(),
        }


def together(measurements: Sequence[Measurement]) -> Measurement:
    """Several groups of users in one run as one; at least one of them."""
    whole = Measurement(
        measurements[0].mode,
        sum(each.users for each in measurements),
        max(each.seconds for each in measurements),
    )
    for each in measurements:
        whole.offered += each.offered
        whole.sent += each.sent
        whole.dropped += each.dropped
        whole.held_back += each.held_back
        whole.outcomes += each.outcomes
        whole.in_window += each.in_window
        whole.faults += each.faults
        whole.refusals += each.refusals
        whole.refusals_without_delay += each.refusals_without_delay
        whole.latencies.add(each.latencies)
        whole.lag.add(each.lag)
    return whole
