"""Files that appear in a folder, each once, when it is complete.

A file counts as complete when neither its size nor its time of change moved between two looks. What has
been dealt with is remembered in a file, so that a restart does not ask again; a file that changes later is
new again.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

from device_agent.errors import ConfigurationError

STATE_NAME = ".tokenlink-watch.jsonl"
SUFFIXES = frozenset(
    (
        *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".flv", ".3gp"),
        *(".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"),
        *(".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".caf"),
    )
)
"""Names of files that are looked at, in lower case."""

Stamp: TypeAlias = tuple[int, int]
"""Size [bytes] and time of last change [ns]."""


class Watcher:
    """Watches one folder, not those within it.

    Args:
        folder: must exist.
        state: where to remember; None: :data:`STATE_NAME` in the folder.
        poll_s: between two looks [s].
        sleep: waits that many seconds.

    Raises:
        ConfigurationError: there is no such folder, or the state cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        state: Path | None = None,
        poll_s: float = 0.5,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not folder.is_dir():
            raise ConfigurationError(f"watch: {folder} is no folder")
        self._folder = folder
        self._state = state or folder / STATE_NAME
        self._poll_s = poll_s
        self._sleep = sleep
        self._done: dict[str, Stamp] = self._read_state()

    async def files(self) -> AsyncIterator[Path]:
        """Complete files that were not dealt with, for ever, oldest first."""
        last_seen: dict[str, Stamp] = {}
        while True:
            seen = self._look()
            # Before anything is yielded: what is dealt with meanwhile must not count as a second look.
            ready = [name for name, stamp in seen.items() if last_seen.get(name) == stamp and stamp[0] > 0]
            last_seen = seen
            for name in sorted(ready, key=lambda name: (seen[name][1], name)):
                if self._done.get(name) != seen[name]:
                    yield self._folder / name
            await self._sleep(self._poll_s)

    def remember(self, path: Path, record: dict[str, Any]) -> None:
        """Note that a file was dealt with, and how.

        Raises:
            ConfigurationError: the state cannot be written.
        """
        try:
            stamp = _stamp(path.stat())
        except FileNotFoundError:
            return
        self._done[path.name] = stamp
        line = {"file": path.name, "size": stamp[0], "changed_ns": stamp[1], **record}
        try:
            with self._state.open("a", encoding="utf-8") as state:
                state.write(json.dumps(line) + "\n")
        except OSError as error:
            raise ConfigurationError(
                f"watch: {self._state} cannot be written ({error.strerror}); name another place with --state"
            ) from error

    def _look(self) -> dict[str, Stamp]:
        seen = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or Path(entry.name).suffix.lower() not in SUFFIXES:
                    continue
                try:
                    if entry.is_file():
                        seen[entry.name] = _stamp(entry.stat())
                except FileNotFoundError:
                    continue
        return seen

    def _read_state(self) -> dict[str, Stamp]:
        done: dict[str, Stamp] = {}
        try:
            lines = self._state.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return done
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"watch: {self._state} cannot be read: {error}") from error
        for line in lines:
            try:
                record = json.loads(line)
                done[str(record["file"])] = (int(record["size"]), int(record["changed_ns"]))
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a run that was killed while writing
        return done


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns
