"""The one thread that runs the model, and what happens when it dies."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from edge_server.engine.model import StateT
from edge_server.engine.queue import FairQueue
from edge_server.engine.scheduler import Scheduler

logger = logging.getLogger(__name__)


class Worker:
    """Drives a scheduler until told to stop.

    Args:
        scheduler: what to drive.
        queue: where it sleeps while nothing is to be done.
        clock: monotonic seconds.
        on_death: called from the dying thread when anything but the model's own errors ends it.
        takes_over: whether a worker before this one died and left questions behind.
    """

    def __init__(
        self,
        scheduler: Scheduler[StateT],
        queue: FairQueue,
        clock: Callable[[], float],
        on_death: Callable[[BaseException], None],
        *,
        takes_over: bool = False,
    ) -> None:
        self._scheduler = scheduler
        self._queue = queue
        self._clock = clock
        self._on_death = on_death
        self._takes_over = takes_over
        self._stopping = False
        self._step_began: float | None = None
        # A daemon: a model that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="tokenlink-engine", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current step. Returns at once; :meth:`join` waits."""
        self._stopping = True
        self._queue.wake()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False if it did not come in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def step_s(self) -> float:
        """How long the current step has been going on; 0 between steps [s]."""
        began = self._step_began
        return 0.0 if began is None else self._clock() - began

    def _run(self) -> None:
        try:
            if self._takes_over:
                self._step_began = self._clock()
                self._scheduler.revive()
            while not self._stopping:
                self._step_began = None
                if not self._scheduler.rows:
                    self._queue.wait()
                self._step_began = self._clock()
                self._scheduler.step()
            self._step_began = None
        except BaseException as death:
            # BaseException too: whatever ends this thread must not leave its questions waiting for ever.
            logger.exception("the engine's worker died")
            self._on_death(death)
