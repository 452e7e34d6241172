"""Ends what another thread computes, where that can be ended at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stop:
    """A wish that work in other threads ends; once called, for good. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wished = False
        self._ends: list[Callable[[], None]] = []

    def __call__(self) -> None:
        """End what runs now, and what would begin later."""
        with self._lock:
            self._wished = True
            for end in self._ends:
                end()

    @property
    def wished(self) -> bool:
        """Whether it was called."""
        return self._wished

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """While this lasts, ``end`` is called, from any thread, when the work is to end."""
        with self._lock:
            if self._wished:
                end()
            self._ends.append(end)
        try:
            yield
        finally:
            with self._lock:
                self._ends.remove(end)
