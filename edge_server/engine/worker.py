"""A thread that runs a scheduler or the detokenizer step by step, and tells when it dies.

Started, watched and replaced by :class:`edge_server.engine.engine.Engine`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger(__name__)


class Driven(Protocol):
    """What a thread can drive. It outlives the thread: what one left half done, the next one takes over."""

    def wait(self) -> None:
        """Block until there is something to do."""

    def wake(self) -> None:
        """End a :meth:`wait` that has nothing to wait for. From any thread."""

    def step(self) -> None:
        """Do some of it."""

    def revive(self) -> None:
        """Take over what a thread that died left behind."""


class Worker:
    """Runs the steps of one part of the engine until it is told to stop.

    Args:
        driven: what to drive.
        name: of the thread.
        clock: monotonic seconds.
        on_death: called from the dying thread when an error ends it.
        takes_over: whether a worker before this one died.
    """

    def __init__(
        self,
        driven: Driven,
        name: str,
        clock: Callable[[], float],
        on_death: Callable[[BaseException], None],
        *,
        takes_over: bool = False,
    ) -> None:
        self._driven = driven
        self._clock = clock
        self._on_death = on_death
        self._takes_over = takes_over
        self._stopping = False
        self._step_began: float | None = None
        # A daemon: a model that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current step. Returns at once; :meth:`join` waits."""
        self._stopping = True
        self._driven.wake()

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
                self._driven.revive()
            while not self._stopping:
                self._step_began = None
                self._driven.wait()
                self._step_began = self._clock()
                self._driven.step()
            self._step_began = None
        except BaseException as death:
            # BaseException too: whatever ends this thread must not leave its questions waiting for ever.
            logger.exception("%s died", self._thread.name)
            self._on_death(death)
