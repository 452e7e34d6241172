"""What a confined process can do no more: tried in one."""

from __future__ import annotations

import ctypes
import json
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from device_agent.media import confinement

TRY = """
import ctypes, json, os, socket, subprocess, sys, threading
from device_agent.media.confinement import confine

folder = sys.argv[1]
before = os.open(folder, os.O_RDONLY)

def tried(what):
    try:
        what()
        return "done"
    except OSError as error:
        return type(error).__name__

def child():
    if os.fork() == 0:
        os._exit(0)

def connect():
    socket.create_connection(("127.0.0.1", int(sys.argv[2])), 5).close()

tries = {
    "read": lambda: open(folder + "/there").close(),
    "write": lambda: open(folder + "/new", "w").close(),
    "write from an open folder": lambda: os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=before),
    "truncate": lambda: os.truncate(folder + "/there", 0),
    "remove": lambda: os.unlink(folder + "/there"),
    "make a folder": lambda: os.mkdir(folder + "/folder"),
    "list": lambda: os.listdir(folder),
    "connect": connect,
    "talk": lambda: socket.socketpair()[0].close(),
    "start a program": lambda: os.execv("/bin/true", ["true"]),
    "start a process": child,
    "signal": lambda: os.kill(os.getppid(), 0),
}
# What no kernel refuses is no proof: each is possible before, but for what would end this process.
possible = {name: tried(what) for name, what in tries.items()
            if name not in ("remove", "start a program", "truncate", "make a folder")}
try:
    os.unlink(folder + "/new")
except OSError:
    pass
confined = confine()
ran = []
thread = threading.Thread(target=lambda: ran.append(sum(range(10))))
thread.start()
thread.join()
after = {name: tried(what) for name, what in tries.items()}
print(json.dumps([list(confined), possible, after, ran, bytearray(10**6).count(0)]))
"""

OF_LANDLOCK = {"read", "write", "write from an open folder", "truncate", "remove", "make a folder", "list"}
OF_SECCOMP = {"connect", "talk", "start a program", "start a process", "signal"}


@pytest.mark.skipif(platform.system() != "Linux", reason="the kernel is another one")
def test_a_confined_process_reaches_no_file_no_network_and_no_program(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", TRY, str(tmp_path), port], capture_output=True, text=True, check=True
        )
    confined, possible, after, ran, zeros = json.loads(done.stdout)
    assert set(possible.values()) == {"done"}
    # Threads and memory it needs.
    assert (ran, zeros) == ([45], 10**6)
    if "landlock" in confined:
        assert {after[name] for name in OF_LANDLOCK} == {"PermissionError"}
        assert (tmp_path / "there").read_text() == "x"
    if "seccomp" in confined:
        assert {after[name] for name in OF_SECCOMP} == {"PermissionError"}
    if not confined:
        pytest.skip("this kernel has neither Landlock nor seccomp")


def test_where_the_kernel_has_none_of_it_nothing_is_said_to_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert confinement.confine() == ()


class Refusing:
    """A kernel that has none of it."""

    def prctl(self, option: int, *_: object) -> int:
        return 0 if option == confinement._PR_SET_NO_NEW_PRIVS else -1

    def syscall(self, *_: object) -> int:
        return -1


def test_an_old_kernel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Refusing())
    assert confinement.confine() == ()
