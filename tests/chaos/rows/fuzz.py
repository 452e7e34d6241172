"""Malformed messages in bulk, at a running server and at what reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.chaos.fuzz import fuzz_bundles, fuzz_frames, fuzz_media, fuzz_payloads
from tests.chaos.row import Row, Scale, exactly

COUNTS: Mapping[Scale, tuple[int, int, int, int]] = MappingProxyType(
    {
        "test": (300, 1_000, 100, 100),
        "quick": (2_000, 5_000, 200, 200),
        "full": (100_000, 100_000, 10_000, 20_000),
    }
)
"""Frames, payloads, bundles, media files."""


async def run(scale: Scale, folder: Path) -> Row:
    """All four, in so many messages."""
    frames, payloads, bundles, media = COUNTS[scale]
    found = {
        "frames": await asyncio.to_thread(fuzz_frames, frames),
        "payloads": await asyncio.to_thread(fuzz_payloads, payloads),
        "bundles": await asyncio.to_thread(fuzz_bundles, bundles),
        "media files": await asyncio.to_thread(fuzz_media, media),
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
        # Not asdict, which makes of a counter one of its items.
        {name: {**vars(each), "codes": dict(each.codes)} for name, each in found.items()},
    )
