"""Scenes as the event loop sees them: kept, found and searched on a thread of their own, told in metrics.

Where a scene or a text stands is computed on another thread, and one finds scenes that are asked about: who
asks waits for no vector, no write to the disk and no standing question.

share ─▶ vector (where the model has a space) ─▶ store ─▶ acknowledged ─▶ whoever follows new scenes
question, search ─▶ may they? ─▶ store
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from edge_server.errors import EngineFailureError
from edge_server.scenes.clocks import SenderClock
from edge_server.scenes.scene import At, Scene, SceneBlock, Vector
from edge_server.scenes.store import Eviction, Found, Patterns, SceneStore, Wanted, matches

logger = logging.getLogger(__name__)

EXPIRE_EVERY_S = 30.0
"""Between two looks for scenes whose time is over [s]."""
_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


class SceneSpace(Protocol):
    """The space in which scenes stand beside the texts that say what is in them. Called on one thread."""

    @property
    def name(self) -> str:
        """Of the space; another model has another."""

    def of_scene(self, blocks: Sequence[SceneBlock]) -> Vector | None:
        """Where a scene stands, of unit length; None: nowhere."""

    def of_text(self, text: str) -> Vector | None:
        """Where a text stands, of unit length; None: nowhere."""


class SceneObserver(Protocol):
    """The port through which scenes are watched."""

    def scenes_kept(self, count: int) -> None:
        """Scenes that are kept, after this changed."""

    def scene_shared(self) -> None:
        """A scene was stored."""

    def scenes_gone(self, reason: Eviction, count: int) -> None:
        """Scenes went, by a bound or because somebody deleted them."""

    def scenes_searched(self, seconds: float) -> None:
        """A text was looked for; it took so long [s]."""


class Readers(Protocol):
    """The port that says whose scenes somebody may see. Asked at every question and search."""

    def readable(self, name: str | None) -> Patterns | None:
        """Of which devices; None: of any.

        Args:
            name: of the device, or the API key after ``key:``, as was shown; None: nobody has shown anything.
        """


class Scenes:
    """What devices shared.

    Args:
        store: where it is kept.
        ttl_s: for so long [s].
        wall_clock: seconds since the Unix epoch.
        clock: monotonic seconds.
        observer: is told what happens.
        stale_s: a scene that ended longer ago is not the present [s].
    """

    def __init__(
        self,
        store: SceneStore,
        *,
        ttl_s: float,
        stale_s: float,
        wall_clock: Callable[[], float],
        clock: Callable[[], float],
        observer: SceneObserver,
    ) -> None:
        self._store = store
        self._ttl_s, self.stale_s = ttl_s, stale_s
        self.wall_clock = wall_clock
        self._clock = clock
        self._observer = observer
        self._followers: list[Callable[[Scene], None]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenlink-scenes")
        self._finding_thread = ThreadPoolExecutor(1, thread_name_prefix="tokenlink-scene-finding")
        self._space_thread = ThreadPoolExecutor(1, thread_name_prefix="tokenlink-scene-space")

    async def call(
        self,
        work: Callable[Concatenate[SceneStore, _Arguments], _Result],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        """Have something done with the store, on its thread; raises what that raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: work(self._store, *args, **kwargs))

    async def share(
        self, scene: Scene, space: SceneSpace | None = None, clock: SenderClock | None = None
    ) -> Scene:
        """Keep a scene; it is safe when this returns.

        Args:
            scene: without a vector, and without a time at which it goes.
            space: of the model that its tokens are for; None: it is not found by a text.
            clock: by which its start was told; None: by the server's.

        Raises:
            EngineFailureError: it cannot be kept.
        """

        def keep(store: SceneStore, vector: Vector | None) -> tuple[Scene, dict[Eviction, int], int]:
            kept = replace(scene, keep_until_s=self.wall_clock() + self._ttl_s)
            if space is not None and vector is not None:
                kept = replace(kept, space=space.name, vector=vector)
            return kept, store.put(kept, clock), store.count()

        try:
            vector = None if space is None else await self._place(partial(space.of_scene, scene.blocks))
            kept, gone, count = await self.call(keep, vector)
        except Exception as error:
            logger.exception("a scene could not be kept", extra={"device_id": scene.device})
            raise EngineFailureError("the scene cannot be kept now; share it again later") from error
        self._observer.scene_shared()
        self._tell(gone, count)
        for follower in self._followers:
            follower(kept)
        return kept

    async def hear(self, scene: Scene) -> bool:
        """Keep a scene that another door was given, as it is kept there; whether there was room for it."""
        gone, count = await self.call(lambda store: (store.put(scene, heard=True), store.count()))
        self._tell(gone, count)
        for follower in self._followers:
            follower(scene)
        return "full" not in gone

    async def drop(self, scene_ids: Sequence[str]) -> None:
        """Delete scenes for good that were deleted at another door."""
        gone, count = await self.call(lambda store: (store.drop(scene_ids), store.count()))
        self._tell({"deleted": gone}, count)

    async def find(self, device: str, at: At) -> Scene | None:
        """A device's scene; None: there is none. Whoever asks was let see this device's."""
        loop = asyncio.get_running_loop()
        scene = await loop.run_in_executor(self._finding_thread, self._store.find, device, at)
        return scene if scene is not None and scene.keep_until_s > self.wall_clock() else None

    async def search(self, text: str, space: SceneSpace, wanted: Wanted, most: int) -> list[Found]:
        """Scenes that a text says something of, the likeliest first.

        Args:
            text: not empty.
            space: of the model that is served.
            wanted: among which; its ``readable`` is what whoever asks may see.
            most: so many.
        """
        started_s = self._clock()
        vector = await self._place(partial(space.of_text, text))
        found: list[Found] = []
        if vector is not None:
            found = await self.call(lambda store: store.search(space.name, vector, wanted, most))
        self._observer.scenes_searched(self._clock() - started_s)
        return found

    async def delete(self, wanted: Wanted) -> int:
        """Delete scenes for good; how many there were."""
        gone, count = await self.call(lambda store: (store.delete(wanted), store.count()))
        self._tell({"deleted": gone}, count)
        return gone

    def follow(self, told: Callable[[Scene], None]) -> None:
        """Be told of every scene once it is stored; on the event loop."""
        self._followers.append(told)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delete what is over for as long as this lasts; the store is closed at its end."""
        self._observer.scenes_kept(await self.call(lambda store: store.count()))
        expiring = asyncio.create_task(self._expire(), name="tokenlink-scenes")
        try:
            yield
        finally:
            expiring.cancel()
            await asyncio.wait([expiring])
            self._finding_thread.shutdown()
            await self.call(lambda store: store.close())
            self._thread.shutdown()
            self._space_thread.shutdown()

    async def _place(self, of: Callable[[], Vector | None]) -> Vector | None:
        """Where something stands, computed on the thread of spaces."""
        return await asyncio.get_running_loop().run_in_executor(self._space_thread, of)

    async def _expire(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        while True:
            try:
                now_s = self.wall_clock()
                gone, count = await self.call(lambda store, at_s: (store.expire(at_s), store.count()), now_s)
                self._tell({"expired": gone}, count)
            except Exception:
                logger.exception("scenes whose time is over could not be deleted")
            await sleep(EXPIRE_EVERY_S)

    def _tell(self, gone: dict[Eviction, int], count: int) -> None:
        for reason, scenes in gone.items():
            if scenes:
                self._observer.scenes_gone(reason, scenes)
        self._observer.scenes_kept(count)


def may_read(readable: Patterns | None, device: str) -> bool:
    """Whether somebody who may see these devices may see this one."""
    return readable is None or matches(readable, device)
