"""Several processes that are a server together: whoever dies has a successor, and all serve one model."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_server.errors import ConfigurationError
from edge_server.server import supervisor as supervising
from edge_server.server.config import ServerConfig
from edge_server.server.supervisor import Supervisor
from tests.waiting import until

MEMBER = (sys.executable, "-S", "-E", str(Path(__file__).with_name("fake_member.py")))


class Server:
    """A supervisor, and what it tells."""

    def __init__(self, folder: Path, program: Sequence[str] = MEMBER, role: str = "both") -> None:
        self.folder = folder
        self.told: list[dict[str, Any]] = []
        self.holds("old")
        config = ServerConfig(model=folder, cluster="nats://127.0.0.1:4222", front_doors=2, role=role)
        self.supervisor = Supervisor(config, program, folder, self.told.append)

    def holds(self, model: str) -> None:
        """The model folder holds another model from now on."""
        (self.folder / "name").write_text(model)

    @property
    def serves(self) -> set[str]:
        """What any of them serves now."""
        return {each.facts.get("bundle_hash", "") for each in self.supervisor._members}

    @property
    def started(self) -> list[int]:
        """All that ever were, by their pid."""
        return [int(pid) for pid in (self.folder / "started").read_text().split()]

    def pid(self, what: str, number: int = 0) -> int:
        return int(self.told[-1][what][number]["pid"])

    def kill(self, what: str, number: int = 0) -> int:
        """Kill one without notice."""
        pid = self.pid(what, number)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def end(self) -> None:
        await self.supervisor.end(asyncio.Event())


@asynccontextmanager
async def serving(folder: Path, role: str = "both") -> AsyncIterator[Server]:
    server = Server(folder, role=role)
    await server.supervisor.start()
    try:
        yield server
    finally:
        await server.end()


@pytest.fixture(autouse=True)
def begun_anew_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "_AGAIN_S", 0.01)
    monkeypatch.setattr(supervising, "_AGAIN_MOST_S", 0.02)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("what", "number"), [("doors", 1), ("engines", 0)])
async def test_whoever_dies_has_a_successor_and_it_is_told(tmp_path: Path, what: str, number: int) -> None:
    async with serving(tmp_path) as server:
        others = [server.pid("doors", 0)]
        died = server.kill(what, number)
        await until(lambda: len(server.told) == 2)
        assert server.pid(what, number) not in (died, os.getpid())
        assert lives(server.pid(what, number))
        assert [server.pid("doors", 0)] == others
        assert len(server.started) == 4


async def test_all_end_though_one_has_just_died(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        server.kill("doors", 1)
        server.kill("engines")
        await server.end()
        assert not any(map(lives, server.started))
        assert len(server.started) == 3


async def test_all_end_though_one_is_being_begun_anew(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        door = server.supervisor._doors[1]
        before = door.process
        server.kill("doors", 1)
        await until(lambda: door.process is not before)
        await server.end()
        await until(lambda: not any(map(lives, server.started)))


async def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "member"
    program.symlink_to(MEMBER[0])
    server = Server(tmp_path, (str(program), *MEMBER[1:]))
    await server.supervisor.start()
    door = server.supervisor._doors[0]
    program.unlink()
    died = server.kill("doors")
    await until(lambda: door.died > 12)
    program.symlink_to(MEMBER[0])
    await until(lambda: len(server.told) == 2)
    assert server.pid("doors") != died
    await server.end()


async def test_one_that_does_not_start_at_first_is_told(tmp_path: Path) -> None:
    server = Server(tmp_path, (sys.executable, "-S", "-c", "input()"))
    with pytest.raises(ConfigurationError, match="engine did not start; its lines above say why"):
        await server.supervisor.start()
    await server.end()


@pytest.mark.parametrize("role", ["both", "door"])
async def test_all_take_up_another_model(tmp_path: Path, role: str) -> None:
    async with serving(tmp_path, role) as server:
        server.holds("new")
        await server.supervisor.reload()
        assert server.serves == {"new"}
        assert server.told[-1]["bundle_hash"] == "new"


async def test_doors_take_up_the_model_that_the_engine_already_has(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        server.holds("new")
        # As one does whose answer to a reload that was called off came late.
        (engine,) = server.supervisor._engine
        engine.signal(signal.SIGHUP)
        await until(lambda: engine.facts.get("bundle_hash") == "new")
        await server.supervisor.reload()
        assert server.serves == {"new"}


async def test_an_engine_begun_anew_with_another_model_is_followed_by_the_doors(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        server.holds("new")
        server.kill("engines")
        await until(lambda: server.told[-1]["bundle_hash"] == "new")
        assert server.serves == {"new"}
        assert len(server.started) == 4


def test_a_member_that_finds_another_model_than_is_meant_says_so() -> None:
    from edge_server.server.process import run

    door = ServerConfig(cluster="nats://127.0.0.1:4222", role="door")
    with pytest.raises(ConfigurationError, match="the others serve sha256:0 "):
        run(door, meant=("sha256:0", ""))


async def test_a_door_does_not_serve_what_no_engine_does_until_all_take_it_up(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        door = server.supervisor._doors[1]
        server.holds("new")
        server.kill("doors", 1)
        await until(lambda: door.died > 2)
        assert server.serves <= {"old", ""}
        await server.supervisor.reload()
        assert server.serves == {"new"}
        assert server.told[-1]["bundle_hash"] == "new"
