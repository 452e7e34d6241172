"""The port to where scenes are kept, what is asked of it, and what names of devices match.

    share ─▶ put (safe when it returns) ─▶ bounds: per device, in all, time to live
    question ─▶ find        text ─▶ search

Blocking, and for one thread at a time but where it says otherwise; :mod:`edge_server.scenes.keeper` is for
the event loop.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from edge_server.scenes.clocks import SenderClock
from edge_server.scenes.scene import At, Scene, Vector

Eviction: TypeAlias = Literal["expired", "device_full", "full", "deleted"]
Patterns: TypeAlias = tuple[str, ...]
"""Names of devices, in which ``*`` stands for anything."""


@dataclass(frozen=True)
class SceneBounds:
    """How much is kept.

    Attributes:
        per_device: scenes of one device; its oldest go.
        in_all: scenes; the oldest go.
        max_bytes: of tokens, in all.
    """

    per_device: int = 10_000
    in_all: int = 1_000_000
    max_bytes: int = 4 * 2**30


@dataclass(frozen=True)
class Wanted:
    """Which scenes.

    Attributes:
        devices: of any of these.
        readable: and of any of these, which whoever asks may see; None: of any.
        since_s: that ended after this, by the server's clock [s].
        until_s: and began before this.
    """

    devices: Patterns = ("*",)
    readable: Patterns | None = None
    since_s: float = -math.inf
    until_s: float = math.inf

    def matches(self, scene: Scene) -> bool:
        """Whether a scene is among them."""
        return (
            matches(self.devices, scene.device)
            and (self.readable is None or matches(self.readable, scene.device))
            and scene.end_s > self.since_s
            and scene.start_s < self.until_s
        )


@dataclass(frozen=True)
class DeviceScenes:
    """What is kept of one device.

    Attributes:
        device: its name.
        scenes: how many.
        size_bytes: of their tokens.
        first_s: when the first begins, by the server's clock [s].
        last_s: when the last begins, likewise.
    """

    device: str
    scenes: int
    size_bytes: int
    first_s: float
    last_s: float


@dataclass(frozen=True)
class Found:
    """A scene that a text was found in.

    Attributes:
        scene: the scene.
        score: cosine of the angle between text and scene, -1 to 1.
    """

    scene: Scene
    score: float


@dataclass(frozen=True)
class Change:
    """What others are to be told of.

    Attributes:
        scene_id: of a scene.
        kept: whether it was put, and not deleted by somebody.
    """

    scene_id: str
    kept: bool


class SceneStore(Protocol):
    """Where scenes are kept."""

    def put(
        self, scene: Scene, clock: SenderClock | None = None, *, heard: bool = False
    ) -> dict[Eviction, int]:
        """Keep a scene; one of the same id is there already, and stays, where it was shared twice.

        Args:
            scene: what is kept.
            clock: by which its start was told, kept with it; None: by the server's.
            heard: whether others told of it: they need not be told.

        Returns:
            How many went for it, by which bound.

        Raises:
            OSError, sqlite3.Error: it cannot be kept.
        """

    def clocks(self) -> list[SenderClock]:
        """Clocks of at most so many senders as are known, that which was silent longest first."""

    def find(self, device: str, at: At) -> Scene | None:
        """A device's scene; None: there is none. From a thread of its own, whatever the others are at."""

    def thumbnail(self, scene_id: str) -> bytes:
        """The small JPEG that came with a scene; empty: none did, or it is gone."""

    def scenes(self, wanted: Wanted, most: int) -> list[Scene]:
        """The latest scenes, newest first."""

    def devices(self, wanted: Wanted) -> list[DeviceScenes]:
        """Devices of which something is kept, by name."""

    def search(self, space: str, vector: Vector, wanted: Wanted, most: int) -> list[Found]:
        """Scenes nearest to a vector, nearest first.

        Args:
            space: that the vector is in; scenes of another are not found.
            vector: of unit length, [D].
            wanted: among which.
            most: so many.
        """

    def delete(self, wanted: Wanted) -> int:
        """Delete scenes for good; how many there were."""

    def expire(self, now_s: float) -> int:
        """Delete those whose time is over, by the server's clock [s]; how many there were."""

    def count(self) -> int:
        """Scenes that are kept."""

    def begin_telling(self) -> None:
        """Note what others are to be told of: what is kept now, and from now on what is put or deleted."""

    def untold(self, most: int) -> list[Change]:
        """What others are to be told of, in the order in which it happened."""

    def told(self, changes: Iterable[Change]) -> None:
        """Others were told of these; of what has changed again since, they are to be told again."""

    def missing(self, scene_ids: Iterable[str]) -> list[str]:
        """Those that are not kept, in their order."""

    def whole(self, scene_id: str) -> Scene | None:
        """A scene, its thumbnail with it; None: it is gone."""

    def drop(self, scene_ids: Iterable[str]) -> int:
        """Delete for good what others have deleted; how many there were."""

    def close(self) -> None:
        """Give up the file, where there is one."""


def matches(patterns: Iterable[str], device: str) -> bool:
    """Whether a name is one of these."""
    return any(_expression(pattern).fullmatch(device) is not None for pattern in patterns)


@functools.lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def glob_of(pattern: str) -> str:
    """A pattern as SQLite's GLOB reads it, where ``?`` and ``[`` mean more than they do here."""
    return "".join(f"[{c}]" if c in "?[]" else c for c in pattern)
