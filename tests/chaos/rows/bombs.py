"""Decoder bombs against a running server: how long each refusal takes, and what it does to the memory."""

from __future__ import annotations

import asyncio
import base64
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from tests.chaos.row import Row, Scale, at_most, exactly
from tests.chaos.watched import WatchedServer
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


async def run(scale: Scale, folder: Path) -> Row:
    """Every bomb; in a test, every fifth."""
    names = list(BOMBS)[:: 5 if scale == "test" else 1]
    blows, answers = await asyncio.to_thread(_measure, names)
    refused = [each for each in blows.values() if each.status in (400, 413) and each.field == "media[0].data"]
    slowest = max(blows, key=lambda name: blows[name].seconds)
    largest = max(blows, key=lambda name: blows[name].growth_bytes)
    return Row(
        "Decoder bombs",
        f"{len(blows)} files that ask for much, sent to a running server: images, videos, sound",
        [
            exactly("refused by their field", len(refused), len(blows)),
            at_most("the slowest refusal [ms]", blows[slowest].seconds * 1000, MOST_S * 1000),
            at_most(
                "growth of the server's memory [MB]", blows[largest].growth_bytes / 1e6, MOST_BYTES / 1e6
            ),
            exactly("questions answered afterwards", answers, 1),
        ],
        {
            "slowest": slowest,
            "largest": largest,
            "bombs": {name: asdict(each) for name, each in blows.items()},
        },
    )


def _measure(names: Sequence[str]) -> tuple[dict[str, Blow], int]:
    """What each bomb did, and how many of one question are answered afterwards."""
    with WatchedServer() as server, httpx.Client(base_url=server.doors.rest, timeout=120) as http:
        # Libraries are loaded, and buffers grown, by what is honest.
        for warm in COSTLY.values():
            blow(http, server, warm)
        blows = {name: blow(http, server, BOMBS[name]) for name in names}
        after = http.post("/v1/infer", json={"question": "ab"})
        return blows, int(server.alive and after.status_code == 200)
