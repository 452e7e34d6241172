"""Decoder bombs against a running server: how long each refusal takes, and what it does to the memory.

Run alone: ``python -m tests.chaos.bombs``.
"""

from __future__ import annotations

import base64
import statistics
import time
from dataclasses import dataclass

import httpx

from tests.chaos.watched import WatchedServer
from tests.chaos.row import Row, main_of
from tests.hostile_media import BOMBS, COSTLY, Hostile

MOST_S = 0.100
MOST_BYTES = 50 * 2**20
_TIMES = 3


@dataclass(frozen=True)
class Blow:
    """What one bomb did."""

    status: int
    field: str
    seconds: float
    growth_bytes: int


def blow(http: httpx.Client, server: WatchedServer, hostile: Hostile) -> Blow:
    """Send one file, a few times; the median of the times [s], the most of the memory [bytes]."""
    data = base64.b64encode(hostile.make()).decode()
    body = httpx.Request(
        "POST", "http://x", json={"question": "ab", "media": [{"type": hostile.kind, "data": data}]}
    ).content
    times, growth = [], 0
    for _ in range(_TIMES):
        # The body itself is received and kept while it is looked at; that is measured too.
        before = server.memory_bytes
        server.forget_peak()
        began = time.perf_counter()
        response = http.post("/v1/infer", content=body, headers={"content-type": "application/json"})
        times.append(time.perf_counter() - began)
        growth = max(growth, server.peak_bytes - before)
    error = response.json().get("error", {})
    return Blow(response.status_code, error.get("param") or "", statistics.median(times), growth)


def run(scale: float = 1.0) -> Row:
    """Every bomb; below full scale, a part of them.

    Args:
        scale: part of the bombs.
    """
    names = list(BOMBS)[: max(5, round(len(BOMBS) * min(scale, 1.0)))]
    blows: dict[str, Blow] = {}
    with WatchedServer() as server, httpx.Client(base_url=server.doors.rest, timeout=120) as http:
        for warm in (
            COSTLY["a photo of 12 megapixels"],
            COSTLY["an hour of silence, of which four seconds are heard"],
        ):
            blow(http, server, warm)
        for name in names:
            blows[name] = blow(http, server, BOMBS[name])
        alive = server.alive and http.post("/v1/infer", json={"question": "ab"}).status_code == 200
    refused = [
        name for name, each in blows.items() if each.status in (400, 413) and each.field == "media[0].data"
    ]
    slowest = max(blows, key=lambda name: blows[name].seconds)
    largest = max(blows, key=lambda name: blows[name].growth_bytes)
    holds = (
        alive
        and len(refused) == len(blows)
        and blows[slowest].seconds < MOST_S
        and blows[largest].growth_bytes < MOST_BYTES
    )
    return Row(
        "Decoder bombs",
        f"refused in under {MOST_S * 1000:.0f} ms each, memory growth under {MOST_BYTES >> 20} MB",
        f"{len(refused)} of {len(blows)} refused by their field; "
        f"slowest {blows[slowest].seconds * 1000:.0f} ms ({slowest}); "
        f"most memory {blows[largest].growth_bytes / 2**20:.1f} MB ({largest})",
        holds,
        {
            "bombs": len(blows),
            "refused": len(refused),
            "slowest_s": blows[slowest].seconds,
            "slowest": slowest,
            "growth_bytes": blows[largest].growth_bytes,
            "largest": largest,
        },
    )


if __name__ == "__main__":
    main_of(run, __doc__.splitlines()[0])
