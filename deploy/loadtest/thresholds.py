"""Whether what was measured is what a profile asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deploy.loadtest.measurement import Measurement
from deploy.loadtest.profile import Phase, Thresholds


def broken(phase: Phase, measurements: Mapping[str, Measurement], capacity_hz: float | None) -> list[str]:
    """Thresholds of a phase that do not hold, in words.

    Args:
        phase: with its thresholds.
        measurements: by group, and ``all``.
        capacity_hz: answers per second that were measured before [Hz].
    """
    return [
        f"{phase.name}, {name}: {complaint}"
        for name, limits in phase.thresholds.items()
        for complaint in _complaints(limits, measurements[name], capacity_hz)
    ]


def _complaints(limits: Thresholds, found: Measurement, capacity_hz: float | None) -> Iterator[str]:
    if not found.outcomes["answered"]:
        yield f"none of {found.sent} questions was answered"
        return
    for percentile, limit_s in ((50, limits.max_p50_s), (99, limits.max_p99_s)):
        latency_s = found.latencies.at(percentile)
        if limit_s is not None and latency_s > limit_s:
            yield f"p{percentile} is {latency_s:.3g} s, at most {limit_s:g} s"
    failed = found.outcomes["failed"] + found.outcomes["expired"]
    for what, count, limit in (
        ("failed or expired", failed, limits.max_failed_share),
        ("were refused for good", found.outcomes["refused"], limits.max_refused_share),
    ):
        if limit is not None and count > limit * found.sent:
            faults = ", ".join(f"{code} {number}" for code, number in found.faults.most_common())
            yield f"{count} of {found.sent} {what}, at most {limit:.2%}{f' ({faults})' if faults else ''}"
    if limits.min_goodput_of_capacity is not None:
        ratio = found.answered_hz / capacity_hz if capacity_hz else 0.0
        if ratio < limits.min_goodput_of_capacity:
            yield f"goodput is {ratio:.2f} of the capacity, at least {limits.min_goodput_of_capacity:g}"
    if limits.max_dropped_share is not None and found.dropped > limits.max_dropped_share * found.offered:
        yield f"{found.dropped} of {found.offered} questions were dropped: the generator did not keep up"
    if limits.refusals_say_when and found.refusals_without_delay:
        yield f"{found.refusals_without_delay} of {found.refusals} refusals came without a retry delay"
