"""What systemd is told, over a real socket."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from device_agent.bundle.bundle import Bundle
from device_agent.systemd import Supervisor, supervised
from tests.waiting import PATIENCE_S, turns


@dataclass
class Manager:
    """The end of a notification socket that systemd holds."""

    sock: socket.socket
    name: str

    def next(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.sock.recv(4096).decode().splitlines())

    def silent(self) -> bool:
        self.sock.setblocking(False)
        try:
            self.sock.recv(4096)
        except BlockingIOError:
            return True
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@tokenlink-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        sock.settimeout(PATIENCE_S)
        yield Manager(sock, name)


async def test_ready_alive_stopping(manager: Manager) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "40000"})
    assert supervisor.sign_of_life_s == 0.02
    async with supervised("watching /clips", supervisor):
        assert manager.next() == {"READY": "1", "STATUS": "watching /clips"}
        for _ in range(3):
            assert await asyncio.to_thread(manager.next) == {"WATCHDOG": "1"}
    told = manager.next()
    while told == {"WATCHDOG": "1"}:
        told = manager.next()
    assert told == {"STOPPING": "1", "STATUS": "stopping"}
    assert manager.silent()


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "nonsense"}, {"WATCHDOG_USEC": "40000", "WATCHDOG_PID": "1"}],
    ids=["none wanted", "no number", "for another process"],
)
async def test_no_sign_of_life_where_none_is_wanted(manager: Manager, environment: dict[str, str]) -> None:
    async with supervised("watching", Supervisor({"NOTIFY_SOCKET": manager.name, **environment})):
        assert manager.next()["READY"] == "1"
        await turns(100)  # the first sign of life would come in the first
        assert manager.silent()


async def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    class Watched(socket.socket):
        def __init__(self, family: int = -1, *arguments: Any, **more: Any) -> None:
            super().__init__(family, *arguments, **more)
            opened.append(family)

    monkeypatch.setattr("device_agent.systemd.socket.socket", Watched)
    for environment in ({}, {"NOTIFY_SOCKET": ""}):
        supervisor = Supervisor({"WATCHDOG_USEC": "1000", **environment})
        assert supervisor.sign_of_life_s == 0.0
        async with supervised("watching", supervisor):
            await turns(100)
    assert opened == []
    Supervisor({"NOTIFY_SOCKET": "/nobody/listens/here"}).tell(READY="1")
    assert opened == [socket.AF_UNIX]  # by which the way to a manager is known


async def test_a_manager_that_has_gone_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with supervised("watching", Supervisor({"NOTIFY_SOCKET": str(tmp_path / "gone")})):
        pass
    assert "cannot be told READY" in caplog.text


def test_watch_is_a_notifying_service(
    manager: Manager, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    command = [sys.executable, "-m", "device_agent.cli.main", "watch", str(folder), "what plays"]
    command += ["--server", "127.0.0.1:1", "--bundle", str(bundle.folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        # Ready although no server can be reached: what it watches for waits until one can.
        assert manager.next() == {"READY": "1", "STATUS": f"watching {folder}"}
        assert manager.next() == {"WATCHDOG": "1"}
        process.send_signal(signal.SIGTERM)
        assert next(told for told in iter(manager.next, {}) if "STOPPING" in told)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, errors) == (0, "")


def test_a_loop_that_stands_still_gives_no_sign_of_life(manager: Manager) -> None:
    """What the watchdog is for."""

    async def hang(stand_still: Callable[[], None]) -> None:
        async with supervised(
            "working", Supervisor({"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "20000"})
        ):
            assert manager.next()["READY"] == "1"
            await asyncio.to_thread(manager.next)
            stand_still()

    def stand_still() -> None:
        while not manager.silent():
            pass
        # As long as ten signs of life would take.
        manager.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            manager.next()
        manager.sock.settimeout(PATIENCE_S)

    asyncio.run(hang(stand_still))
