"""What a run says while it goes on, and by what it decides: a line, and one number, per turn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tests.benchmarks.peers.contestants import Choice
from tests.benchmarks.peers.questions import WORKLOADS


def speed(found: Mapping[str, Any]) -> float:
    """Answers per second, the geometric mean over workloads; 0 where there are none."""
    speeds = [found[workload]["answered_hz"] for workload in WORKLOADS if workload in found]
    return math.prod(speeds) ** (1 / len(speeds)) if speeds else 0.0


def setup(choice: Choice) -> str:
    """One choice in words."""
    size = f"{choice.workers} x {choice.threads} threads, batch {choice.max_batch}"
    return ", ".join((size, f"wait {choice.wait_s:g} s", *map(str.lower, choice.environment)))


def outcome(found: Mapping[str, Any]) -> str:
    """One turn in words."""
    if "fault" in found:
        return f"could not run: {found['fault']}"
    parts = []
    for workload in WORKLOADS:
        if workload in found:
            figures = found[workload]
            latency = f", p99 {1e3 * figures['p99_s']:.0f} ms" if "p99_s" in figures else ""
            wrong = f", {figures['wrong']} other answers" if figures["wrong"] else ""
            parts.append(f"{workload} {figures['answered_hz']:.0f}/s{latency}{wrong}")
    return "; ".join(parts)
