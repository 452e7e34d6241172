"""Files that appear in a folder, each once, when it is complete.

A file counts as complete when neither its size nor its time of change moved between two looks; one that
changes later is new again. What was dealt with is remembered in the outbox, not here.

A folder can go away and come back: a stick that is pulled, a share whose server restarts, a camera that makes
it anew. It is waited for, and that is said once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import ClassVar

from device_agent.errors import ConfigurationError
from device_agent.media.clip import Clip
from device_agent.outbox.records import Stamp
from device_agent.sources.registry import Source, register

logger = logging.getLogger(__name__)

AWAY_CAP_S = 5.0
"""Longest time between two looks for a folder that is away [s]."""
STATE_NAME = ".tokenlink-watch.jsonl"
SUFFIXES = frozenset(
    (
        *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".flv"),
        *(".3gp", ".3g2", ".ogv", ".heic", ".heif", ".avif", ".apng"),
        *(".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"),
        *(
            ".wav",
            ".flac",
            ".mp3",
            ".m4a",
            ".aac",
            ".ogg",
            ".oga",
            ".opus",
            ".aiff",
            ".aif",
            ".au",
            ".caf",
            ".amr",
        ),
    )
)
"""Names of files that are looked at, in lower case."""


class Watcher:
    """Watches one folder, not those within it.

    Args:
        folder: need not be there yet.
        done: files that were dealt with, by name.
        poll_s: between two looks [s].
        sleep: waits that many seconds.

    Raises:
        ConfigurationError: it is something else than a folder.
    """

    def __init__(
        self,
        folder: Path,
        done: Mapping[str, Stamp],
        *,
        poll_s: float = 0.5,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        check_folder(folder)
        self._folder = folder
        self._done = dict(done)
        self._poll_s = poll_s
        self._sleep = sleep

    async def files(self) -> AsyncIterator[tuple[Path, Stamp]]:
        """Complete files that were not dealt with, for ever, oldest first."""
        last_seen: dict[str, Stamp] = {}
        looks_in_vain = 0
        while True:
            try:
                seen = self._look()
            except OSError as error:
                if not looks_in_vain:
                    logger.warning(
                        "watch: %s is away (%s); waiting for it", self._folder, error.strerror or error
                    )
                await self._sleep(min(self._poll_s * 2.0 ** min(looks_in_vain, 30), AWAY_CAP_S))
                looks_in_vain += 1
                last_seen = {}
                continue
            if looks_in_vain:
                logger.warning("watch: %s is there", self._folder)
                looks_in_vain = 0
            # Before anything is yielded: what is dealt with meanwhile must not count as a second look.
            ready = [name for name, stamp in seen.items() if last_seen.get(name) == stamp and stamp[0] > 0]
            last_seen = seen
            for name in sorted(ready, key=lambda name: (seen[name][1], name)):
                if self._done.get(name) != seen[name]:
                    yield self._folder / name, seen[name]
            await self._sleep(self._poll_s)

    def remember(self, name: str, stamp: Stamp) -> None:
        """A file was dealt with."""
        self._done[name] = stamp

    def _look(self) -> dict[str, Stamp]:
        seen = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or Path(entry.name).suffix.lower() not in SUFFIXES:
                    continue
                try:
                    if entry.is_file():
                        seen[entry.name] = _stamp(entry.stat())
                except OSError:
                    continue  # gone again, or not readable yet
        return seen


@register
class Folder(Source):
    """A clip of every file that is in a folder or appears. What was dealt with is not remembered."""

    scheme: ClassVar[str] = "folder"
    poll_s: ClassVar[float] = 0.5
    """Between two looks [s]."""

    async def clips(self) -> AsyncIterator[Clip]:
        """A clip of each file, oldest first, for ever."""
        watcher = Watcher(Path(self.where), {}, poll_s=self.poll_s)
        with self.files() as files:
            async for path, stamp in watcher.files():
                yield await asyncio.to_thread(files.clip_from_file, path, spec=self.spec)
                watcher.remember(path.name, stamp)


def looks_like_path(text: str) -> bool:
    """Whether somebody who wrote this meant a file, whether it is there or not."""
    is_media = Path(text).suffix.lower() in SUFFIXES
    one_word = not any(character.isspace() for character in text) and not text.endswith(("?", "？"))
    return (one_word and (is_media or os.sep in text)) or (is_media and os.sep in text)


def check_folder(folder: Path) -> None:
    """Refuse what is something else than a folder; one that is not there may come.

    Raises:
        ConfigurationError: it is a file.
    """
    try:
        wrong = folder.exists() and not folder.is_dir()
    except OSError:
        wrong = False
    if wrong:
        raise ConfigurationError(f"watch: {folder} is no folder")


def read_state(state: Path) -> dict[str, Stamp]:
    """What agents before there was an outbox remembered of a folder; nothing where there is no such file.

    Raises:
        ConfigurationError: it cannot be read.
    """
    done: dict[str, Stamp] = {}
    try:
        lines = state.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return done
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"watch: {state} cannot be read: {error}") from error
    for line in lines:
        try:
            record = json.loads(line)
            done[str(record["file"])] = (int(record["size"]), int(record["changed_ns"]))
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a run that was killed while writing
    return done


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns
