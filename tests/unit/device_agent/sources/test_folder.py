"""Files that appear: complete ones, once each, across restarts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.errors import ConfigurationError
from device_agent.sources.folder import STATE_NAME, Watcher, read_state


class Folder:
    """A folder whose files change while the watcher sleeps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changes: list[Callable[[], None]] = []
        self.sleeps = 0
        self.done: dict[str, tuple[int, int]] = {}

    def write(self, name: str, data: bytes, changed_s: float = 1000.0) -> None:
        file = self.path / name
        file.write_bytes(data)
        os.utime(file, (changed_s, changed_s))

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        if not self.changes:
            raise Stopped
        self.changes.pop(0)()

    async def run(
        self, watcher: Watcher, deal: Callable[[Path], None] | None = None
    ) -> list[tuple[int, str]]:
        """(looks slept through, name) of each file until the changes are used up; all are remembered."""
        seen = []
        try:
            async for path, stamp in watcher.files():
                seen.append((self.sleeps, path.name))
                if deal is not None:
                    deal(path)
                else:
                    watcher.remember(path.name, stamp)
                    self.done[path.name] = stamp
        except Stopped:
            pass
        return seen


class Stopped(Exception):  # noqa: N818 (no error)
    pass


def nothing() -> None:
    """Nothing changes while the watcher sleeps."""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def watcher_of(folder: Folder) -> Watcher:
    return Watcher(folder.path, folder.done, sleep=folder.sleep)


async def test_a_file_is_taken_only_when_it_has_stopped_growing(folder: Folder) -> None:
    folder.write("a.mp4", b"")
    folder.changes = [
        lambda: folder.write("a.mp4", b"12"),
        lambda: folder.write("a.mp4", b"1234"),
        lambda: folder.write("a.mp4", b"4321", changed_s=1001.0),  # as large, but written again
        nothing,
        nothing,
    ]
    assert await folder.run(watcher_of(folder)) == [(4, "a.mp4")]


async def test_files_come_oldest_first_and_only_media(folder: Folder) -> None:
    folder.write("b.WAV", b"x", 1002.0)
    folder.write("a.png", b"x", 1003.0)
    folder.write("c.mp4", b"x", 1001.0)
    folder.write(".hidden.mp4", b"x")
    folder.write("notes.txt", b"x")
    folder.write("upload.mp4.part", b"x")
    (folder.path / "folder.mp4").mkdir()
    folder.changes = [nothing]
    assert [name for _, name in await folder.run(watcher_of(folder))] == ["c.mp4", "b.WAV", "a.png"]


async def test_an_answered_file_is_new_again_only_when_it_changes(folder: Folder) -> None:
    folder.write("a.mp4", b"x")
    folder.changes = [nothing, nothing, nothing]
    assert len(await folder.run(watcher_of(folder))) == 1
    folder.changes = [nothing, nothing]
    assert await folder.run(watcher_of(folder)) == []  # another watcher, as after a restart
    folder.changes = [lambda: folder.write("a.mp4", b"xy"), nothing, nothing]
    assert len(await folder.run(watcher_of(folder))) == 1


async def test_a_file_that_is_not_remembered_comes_again(folder: Folder) -> None:
    folder.write("a.mp4", b"x")
    folder.changes = [nothing, nothing, nothing]
    seen = await folder.run(watcher_of(folder), lambda path: None)
    assert [name for _, name in seen] == ["a.mp4"] * 3


def test_a_state_of_earlier_versions_still_counts(folder: Folder) -> None:
    lines = [
        f'{{"file": "{name}", "size": 1, "changed_ns": 5, "answer": "x"}}' for name in ("a.mp4", "b.mp4")
    ]
    state = folder.path / STATE_NAME
    state.write_text("\n".join(lines)[:-20])  # killed while it wrote the last line
    assert read_state(state) == {"a.mp4": (1, 5)}
    assert read_state(folder.path / "none") == {}
    state.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_state(state)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no folder"):
        Watcher(tmp_path / "none", {})
