"""Files that appear: complete ones, once each, across restarts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.errors import ConfigurationError
from device_agent.sources.folder import AWAY_CAP_S, STATE_NAME, Watcher, read_state


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


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="no folder"):
        Watcher(tmp_path / "file", {})


async def test_a_folder_that_goes_away_is_waited_for_and_that_is_said_once(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    away = folder.path.with_name("away")
    folder.write("a.mp4", b"x")
    folder.changes = [
        nothing,
        lambda: (folder.path.rename(away), None)[1],
        *[nothing] * 5,
        lambda: (away.rename(folder.path), folder.write("b.mp4", b"y"))[1],
        nothing,
        nothing,
    ]
    assert [name for _, name in await folder.run(watcher_of(folder))] == ["a.mp4", "b.mp4"]
    assert ["waiting for it" in record.getMessage() for record in caplog.records] == [True, False]
    assert "is there" in caplog.text


async def test_a_folder_that_is_not_there_yet_may_come(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "later")
    folder.changes = [
        *[nothing] * 3,
        lambda: (folder.path.mkdir(), folder.write("a.mp4", b"x"))[1],
        nothing,
    ]
    assert [name for _, name in await folder.run(watcher_of(folder))] == ["a.mp4"]


async def test_the_longer_a_folder_is_away_the_less_often_it_is_looked_for(tmp_path: Path) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 8:
            raise Stopped

    with pytest.raises(Stopped):
        await anext(Watcher(tmp_path / "none", {}, sleep=sleep).files())
    assert waits == [0.5, 1.0, 2.0, 4.0, *[AWAY_CAP_S] * 4]


async def test_a_file_whose_name_is_no_unicode_comes_like_any_other(folder: Folder) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    folder.write(name, b"x")
    folder.changes = [nothing]
    assert [found for _, found in await folder.run(watcher_of(folder))] == [name]
