"""Scenes in memory: gone with the process."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from edge_server.scenes.clocks import MAX_CLOCKS, SenderClock
from edge_server.scenes.scene import At, Scene, Vector
from edge_server.scenes.store import Change, DeviceScenes, Eviction, Found, SceneBounds, Wanted


class MemoryScenes:
    """Implements :class:`edge_server.scenes.store.SceneStore`.

    Args:
        bounds: how much is kept.
    """

    def __init__(self, bounds: SceneBounds | None = None) -> None:
        self._bounds = bounds or SceneBounds()
        self._scenes: dict[str, Scene] = {}
        self._bytes = 0
        self._clocks: dict[str, SenderClock] = {}
        self._untold: dict[str, bool] | None = None

    def put(
        self, scene: Scene, clock: SenderClock | None = None, *, heard: bool = False
    ) -> dict[Eviction, int]:
        """Keep a scene; as the port says."""
        if scene.scene_id in self._scenes:
            return {}
        if clock is not None:
            self._clocks.pop(clock.sender, None)
            self._clocks[clock.sender] = clock
            while len(self._clocks) > MAX_CLOCKS:
                del self._clocks[next(iter(self._clocks))]
        self._scenes[scene.scene_id] = scene
        self._bytes += scene.size_bytes
        if not heard:
            self._note(scene.scene_id, kept=True)
        gone: dict[Eviction, int] = {}
        own = self._sorted(Wanted((scene.device,)))
        for old in own[: max(len(own) - self._bounds.per_device, 0)]:
            self._drop(old)
            gone["device_full"] = gone.get("device_full", 0) + 1
        while self._scenes and (
            len(self._scenes) > self._bounds.in_all or self._bytes > self._bounds.max_bytes
        ):
            self._drop(min(self._scenes.values(), key=_by_time))
            gone["full"] = gone.get("full", 0) + 1
        return gone

    def clocks(self) -> list[SenderClock]:
        """Clocks of senders; as the port says."""
        return list(self._clocks.values())

    def find(self, device: str, at: At) -> Scene | None:
        """A device's scene; as the port says."""
        if at.scene_id:
            scene = self._scenes.get(at.scene_id)
            return scene if scene is not None and scene.device == device else None
        # A copy, made in one go: another thread may put a scene meanwhile.
        begun = (s for s in list(self._scenes.values()) if s.device == device and s.start_s <= at.time_s)
        return max(begun, key=_by_time, default=None)

    def thumbnail(self, scene_id: str) -> bytes:
        """A scene's small picture; as the port says."""
        scene = self._scenes.get(scene_id)
        return b"" if scene is None else scene.thumbnail

    def scenes(self, wanted: Wanted, most: int) -> list[Scene]:
        """The latest; as the port says."""
        return self._sorted(wanted)[::-1][:most]

    def devices(self, wanted: Wanted) -> list[DeviceScenes]:
        """Devices; as the port says."""
        of_device: dict[str, list[Scene]] = {}
        for scene in self._sorted(wanted):
            of_device.setdefault(scene.device, []).append(scene)
        return [
            DeviceScenes(name, len(own), sum(s.size_bytes for s in own), own[0].start_s, own[-1].start_s)
            for name, own in sorted(of_device.items())
        ]

    def search(self, space: str, vector: Vector, wanted: Wanted, most: int) -> list[Found]:
        """Every vector is compared; as the port says."""
        found = [
            Found(scene, float(np.dot(scene.vector, vector)))
            for scene in self._scenes.values()
            if scene.vector is not None and scene.space == space and wanted.matches(scene)
        ]
        return sorted(found, key=lambda one: (-one.score, -one.scene.start_s))[:most]

    def delete(self, wanted: Wanted) -> int:
        """Delete; as the port says."""
        gone = self._sorted(wanted)
        for scene in gone:
            self._drop(scene)
            self._note(scene.scene_id, kept=False)
        return len(gone)

    def expire(self, now_s: float) -> int:
        """Delete what is over; as the port says."""
        gone = [scene for scene in self._scenes.values() if scene.keep_until_s <= now_s]
        for scene in gone:
            self._drop(scene)
        return len(gone)

    def count(self) -> int:
        """Scenes that are kept."""
        return len(self._scenes)

    def begin_telling(self) -> None:
        """Note what others are to be told of; as the port says."""
        if self._untold is None:
            self._untold = dict.fromkeys(self._scenes, True)

    def untold(self, most: int) -> list[Change]:
        """What others are to be told of; as the port says."""
        return [Change(*each) for each in itertools.islice((self._untold or {}).items(), most)]

    def told(self, changes: Iterable[Change]) -> None:
        """Others were told; as the port says."""
        for each in changes:
            if self._untold is not None and self._untold.get(each.scene_id) is each.kept:
                del self._untold[each.scene_id]

    def missing(self, scene_ids: Iterable[str]) -> list[str]:
        """Those that are not kept; as the port says."""
        return [scene_id for scene_id in scene_ids if scene_id not in self._scenes]

    def whole(self, scene_id: str) -> Scene | None:
        """A scene; as the port says."""
        return self._scenes.get(scene_id)

    def drop(self, scene_ids: Iterable[str]) -> int:
        """Delete what others have deleted; as the port says."""
        gone = [self._scenes[scene_id] for scene_id in scene_ids if scene_id in self._scenes]
        for scene in gone:
            self._drop(scene)
        return len(gone)

    def close(self) -> None:
        """Forget them."""
        self._scenes.clear()

    def _sorted(self, wanted: Wanted) -> list[Scene]:
        return sorted((s for s in self._scenes.values() if wanted.matches(s)), key=_by_time)

    def _note(self, scene_id: str, *, kept: bool) -> None:
        if self._untold is not None:
            self._untold.pop(scene_id, None)
            self._untold[scene_id] = kept

    def _drop(self, scene: Scene) -> None:
        del self._scenes[scene.scene_id]
        self._bytes -= scene.size_bytes


def _by_time(scene: Scene) -> tuple[float, str]:
    return scene.start_s, scene.scene_id
