"""Attacks by kind, in a process of their own."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from tests.chaos.attacks import grpc_door, page, rest
from tests.chaos.attacks.target import Target

_NICENESS = 10
"""An attacker has a machine of its own; here it gets what the server leaves of this one."""

Attack: TypeAlias = Callable[[Target], Awaitable[None]]

STRANGERS: Mapping[str, tuple[Attack, ...]] = MappingProxyType(
    {
        "work": (rest.deep_bodies, rest.wrong_keys),
        "memory": (rest.trailers, rest.unfinished_bodies, rest.unread_answers, grpc_door.unread_bundles),
        "everything": (rest.connections, grpc_door.watches, grpc_door.sessions),
        "page": (page.visits, page.sockets, rest.wrong_keys),
    }
)
"""What somebody without a key does, by kind: work before identity, memory, all of something, the page."""

ENROLLED: Mapping[str, tuple[Attack, ...]] = MappingProxyType(
    {
        "memory": (rest.trailers, rest.unfinished_bodies, grpc_door.unread_bundles, grpc_door.large_frames),
        "everything": (grpc_door.watches, grpc_door.sessions, rest.connections),
        "text": (rest.long_texts, grpc_door.large_frames),
    }
)
"""What one enrolled device with a key does, by kind."""


def attack(target: Target, whose: str, kind: str, seconds: float) -> dict[str, int]:
    """Attack for so long; called in a process apart [s]. What was done, and what came of it."""
    logging.disable(logging.CRITICAL)
    if os.nice(0) < _NICENESS:
        os.nice(_NICENESS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    attacks = {"strangers": STRANGERS, "enrolled": ENROLLED}[whose][kind]
    begun = replace(target, until_s=time.monotonic() + seconds)

    async def all_at_once() -> None:
        await asyncio.gather(*(each(begun) for each in attacks))

    asyncio.run(all_at_once())
    return dict(begun.counts)
