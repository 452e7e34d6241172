"""A new model takes over while devices still run the bundle of the old one.

    replace ──▶ new engine started ──▶ canaries ──▶ current ──▶ canaries ──▶ old one: until its devices have
                                          │ fail                   │ fail    moved on ──▶ drained, freed
                                          ▼                        ▼
                                     never served            the old one is current again

Nothing is interrupted: accepted questions are answered by the engine that accepted them. Each model that is
kept is memory and processes: there are so many old ones at most, and the oldest goes before another comes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from edge_server.cell import Cell
from edge_server.engine.canary import Canary, CanaryError, try_out
from edge_server.errors import DrainingError, EngineOverloadedError
from edge_server.frontdoor.backend import Backends, EngineBackend

logger = logging.getLogger(__name__)

SETTLE_S = 5.0
"""An old model stays that long in any case: media of REST questions for it may still be decoded [s]."""
_LOOK_S = 0.5


class Rollout:
    """Changes what is served.

    Args:
        backends: what is served.
        cell: knows which devices run what.
        keep_s: longest time that an old model is kept for devices which do not fetch the new bundle [s].
        settle_s: shortest time that it is kept [s].
        max_old: most old models at once; at least one, so that what is new can be rolled back.
        on_change: called when another set of models is served.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        backends: Backends,
        cell: Cell[EngineBackend],
        *,
        keep_s: float,
        settle_s: float = SETTLE_S,
        max_old: int = 2,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backends = backends
        self._cell = cell
        self._keep_s = keep_s
        self._settle_s = settle_s
        self._on_change = on_change
        self._clock = clock
        self._max_old = max_old
        #: Oldest first: what retires each old backend, and what makes it go at once.
        self._retiring: dict[asyncio.Task[None], asyncio.Event] = {}

    async def replace(
        self, backend: EngineBackend, canaries: Sequence[Canary] = (), after: EngineBackend | None = None
    ) -> None:
        """Make a backend the newest of its line; what is served in its place goes once nobody needs it.

        Args:
            backend: the new one.
            canaries: asked of it first, and again once it is served.
            after: in whose place it is served; None: the current one's.

        Raises:
            CanaryError: it does not answer them; it is ended, and what is served stays.
        """
        await self._make_room()
        await backend.engine.start()
        try:
            await try_out(backend.engine.submit, canaries)
        except BaseException:
            await backend.engine.stop()
            await asyncio.to_thread(backend.served.close)
            raise
        old = after or self._backends.current
        self._backends.add(backend, old)
        self._on_change()
        logger.info(
            "serving another model",
            extra={"bundle_hash": backend.bundle_hashes[0], "before": old.bundle_hashes[0]},
        )
        hurry = asyncio.Event()
        task = asyncio.create_task(self._confirm(backend, old, canaries, hurry), name="tokenlink-retire")
        self._retiring[task] = hurry
        task.add_done_callback(self._retiring.pop)

    async def _make_room(self) -> None:
        """Let the oldest models go where there are as many as there may be."""
        while len(self._retiring) >= self._max_old:
            task, hurry = next(iter(self._retiring.items()))
            hurry.set()
            await asyncio.wait([task])

    async def drain(self) -> None:
        """Accept nothing new in any engine and wait until every accepted question has ended."""
        await asyncio.gather(*(backend.engine.drain() for backend in self._backends))

    async def stop(self) -> None:
        """End every engine at once; what is unanswered fails."""
        tasks = list(self._retiring)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for backend in self._backends:
            await backend.engine.stop()
            await asyncio.to_thread(backend.served.close)

    async def _confirm(
        self, new: EngineBackend, old: EngineBackend, canaries: Sequence[Canary], hurry: asyncio.Event
    ) -> None:
        """See how the new backend does under load; then one of the two goes."""
        began = self._clock()
        while self._clock() - began < self._settle_s:
            await asyncio.sleep(min(_LOOK_S, self._settle_s))
        try:
            await try_out(new.engine.submit, canaries)
        except (EngineOverloadedError, DrainingError):
            pass  # full of others' questions: that is no fault of its own
        except CanaryError as error:
            if new in self._backends.newest:
                logger.error(
                    "the model is rolled back: %s", error, extra={"bundle_hash": old.bundle_hashes[0]}
                )
                self._backends.restore(old)
                self._on_change()
                await self._end(new)
                return
        await self._retire(old, began, hurry)

    async def _retire(self, old: EngineBackend, began: float, hurry: asyncio.Event) -> None:
        while not hurry.is_set() and (
            (waited_s := self._clock() - began) < max(self._keep_s, self._settle_s)
            # Doors elsewhere have this bound themselves, on how long they ask an old model.
            or old.engine.status.askers
        ):
            needed = old.engine.status.askers or self._cell.sessions_with(old)
            if not needed and waited_s >= self._settle_s:
                break
            await asyncio.sleep(_LOOK_S)
        else:
            logger.warning(
                "an old model goes although devices still run its bundle",
                extra={"bundle_hash": old.bundle_hashes[0], "devices": self._cell.sessions_with(old)},
            )
        await self._end(old)
        logger.info("an old model is gone", extra={"bundle_hash": old.bundle_hashes[0]})

    async def _end(self, backend: EngineBackend) -> None:
        """What it has accepted is answered; then it is gone."""
        await backend.engine.drain()
        self._backends.remove(backend)
        self._on_change()
        await backend.engine.stop()
        await asyncio.to_thread(backend.served.close)
