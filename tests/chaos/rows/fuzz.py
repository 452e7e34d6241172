"""Malformed messages in bulk, at a running server and at what reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from tests.chaos.fuzz import fuzz_bundles, fuzz_frames, fuzz_payloads
from tests.chaos.row import Row, Scale, exactly

COUNTS: Mapping[Scale, tuple[int, int, int]] = MappingProxyType(
    {"test": (300, 1_000, 100), "quick": (3_000, 10_000, 500), "full": (100_000, 100_000, 10_000)}
)
"""Frames, payloads, bundles."""


async def run(scale: Scale, folder: Path) -> Row:
    """All three, in so many messages."""
    frames, payloads, bundles = COUNTS[scale]
    found = {
        "frames": await asyncio.to_thread(fuzz_frames, frames),
        "payloads": await asyncio.to_thread(fuzz_payloads, payloads),
        "bundles": await asyncio.to_thread(fuzz_bundles, bundles),
    }
    promises = {
        "crashes": "crashes",
        "hangs": "hangs",
        "internal": "ended INTERNAL",
        "unnamed": "refused without a field",
        "changed": "good answers changed",
    }
    return Row(
        "Malformed messages",
        ", ".join(f"{each.sent} {name}" for name, each in found.items()) + ", good questions beside them",
        [
            exactly(words, sum(getattr(each, name) for each in found.values()), 0)
            for name, words in promises.items()
        ],
        {name: asdict(each) for name, each in found.items()},
    )
