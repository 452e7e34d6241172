"""Doors of a cluster tell each other which scenes they were given, each with a file, or a memory, of its own.

    device ── share ──▶ a door's scenes ── untold ──▶ bucket ── told ──▶ every other door's scenes
    delete ───────────▶        "                         "                       "

What a device shares at one door can be asked about, found and watched by rules at all of them a moment later,
and what is deleted at one is deleted at all. What goes for want of room goes at that door alone. It is looked
at what the store has noted, not at who wrote it: other doors of one machine, and ``edge-server scenes``, have
the same file. What happens while the broker is away is told later.

The bucket is no second copy of everything: its oldest scenes go. A door that comes takes what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from edge_server.cluster.ending import end
from edge_server.scenes import Change, Scenes
from edge_server.server import scene_messages

if TYPE_CHECKING:
    from edge_server.cluster.shared_records import SharedRecords

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_AT_ONCE = 64
"""Changes that are told before that is noted: so many are told again, at most, after a kill."""


class SharedScenes:
    """Tells a door's scenes to the others, and takes theirs.

    Args:
        scenes: the door's.
        shared: the cluster's, by their ids; its watch tells names alone.
        thumbnails: whether small pictures of others' scenes are kept too.
        look_s: time between two looks for what others wrote into the door's file [s].
    """

    def __init__(
        self, scenes: Scenes, shared: SharedRecords, *, thumbnails: bool = False, look_s: float = _LOOK_S
    ) -> None:
        self._scenes = scenes
        self._shared = shared
        self._thumbnails = thumbnails
        self._look_s = look_s
        #: What was heard and not seen to yet, in that order: whether a scene is there, by its id.
        self._heard: dict[str, bool] = {}
        self._news = asyncio.Event()
        scenes.follow(lambda scene: self._news.set())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For as long as the server serves."""
        await self._scenes.call(lambda store: store.begin_telling())
        async with self._shared.watched(self._hear):
            telling = asyncio.create_task(self._run(), name="tokenlink-shared-scenes")
            try:
                yield
            finally:
                await end(telling)

    async def _hear(self, came: dict[str, bytes | None], whole: bool) -> None:
        """Others say something; or, as a whole, there is nothing else. Own words come back, too."""
        for name, told in came.items():
            self._heard.pop(name, None)
            self._heard[name] = told is not None
        self._news.set()

    async def _run(self) -> None:
        late = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_s):
                    await self._news.wait()
            self._news.clear()
            try:
                # First what was deleted here: it would be taken from there otherwise.
                await self._tell()
                await self._take()
                late = False
            except ConnectionError as error:
                if not late:
                    logger.warning("scenes are told to other doors later: %s", error)
                late = True
                await asyncio.sleep(self._look_s)
            except Exception:
                # Whatever it is, what is shared later has to reach the others all the same.
                logger.exception("scenes are not told to other doors, and are looked at again")
                await asyncio.sleep(self._look_s)

    async def _tell(self) -> None:
        while changes := await self._scenes.call(lambda store: store.untold(_AT_ONCE)):
            told: list[Change] = []
            try:
                for change in changes:
                    await self._tell_one(change)
                    told.append(change)
            finally:
                await self._note(told)

    async def _note(self, told: Sequence[Change]) -> None:
        await self._scenes.call(lambda store: store.told(told))

    async def _tell_one(self, change: Change) -> None:
        if not change.kept:
            done = await self._shared.take_away(change.scene_id)
        else:
            scene = await self._scenes.call(lambda store: store.whole(change.scene_id))
            if scene is None or scene.keep_until_s <= self._scenes.wall_clock():
                return  # it went for want of room, or its time is over
            message = scene_messages.written(scene)
            most = self._shared.largest_bytes
            if len(message) > most:
                logger.error(
                    "a scene is too large for the broker and stays at this door",
                    extra={"scene": scene.scene_id, "bytes": len(message), "most": most},
                )
                return
            done = await self._shared.put(change.scene_id, message)
        if not done:
            raise ConnectionError("the broker does not take them")

    async def _take(self) -> None:
        heard, self._heard = self._heard, {}
        try:
            gone = [name for name, is_there in heard.items() if not is_there]
            if gone:
                await self._scenes.drop(gone)
            names = [name for name, is_there in heard.items() if is_there]
            # The newest first: where there is no room, it is the older ones that are left out.
            for name in reversed(await self._scenes.call(lambda store: store.missing(names))):
                if not await self._take_one(name):
                    break
        except BaseException:
            self._heard = heard | self._heard  # what was heard since then counts more
            raise

    async def _take_one(self, name: str) -> bool:
        """Take a scene, where it is one; whether there is room for another."""
        told = await self._shared.get(name)
        if told is None:
            return True  # it was deleted a moment ago
        scene = scene_messages.read(name, told, thumbnails=self._thumbnails)
        if scene is None or scene.keep_until_s <= self._scenes.wall_clock():
            return True
        return await self._scenes.hear(scene)
