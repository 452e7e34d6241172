"""The server where little is as usual: letters, no home, nowhere to write, a full disk, another time."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from edge_server.server.config import ServerConfig
from tests.e2e.conftest import ROOT
from tests.e2e.test_wheel import NOBODY
from tests.ports import free_port
from tests.waiting import PATIENCE_S, until_true

CLIP = ROOT / "deploy" / "demo" / "clips" / "soundstage_test_000016.mp4"
SETTINGS_ERROR = 2
Changes = Mapping[str, str | None]


class Server:
    """``edge-server serve`` on free ports; what it says goes through a pipe, which needs no disk.

    Args:
        folder: for what it says.
        changes: of its environment.
        prefix: what starts it.
        more: flags.
    """

    def __init__(
        self,
        folder: Path,
        changes: Changes,
        prefix: Sequence[str] = (),
        more: Sequence[str] = (),
    ) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        command = [*prefix, str(Path(sys.executable).parent / "edge-server"), "serve", *more]
        command += ["--model", str(ROOT / ServerConfig().runtime.model), "--threads", "1"]
        command += ["--grpc-port", str(free_port()), "--rest-port", str(self._port)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TOKENLINK")}
        changed = kept | {"PYTHONPATH": str(ROOT)} | changes
        self._log = folder / "said"
        with self._log.open("wb") as sink:
            self.process = subprocess.Popen(
                command,
                cwd="/",
                env={name: value for name, value in changed.items() if value is not None},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            assert self.process.stdout is not None
            self._copy = subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=sink)
            self.process.stdout.close()

    def said(self) -> str:
        """All of it, once the process has ended."""
        self._copy.wait(PATIENCE_S)
        return self._log.read_text(errors="replace")

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, clip: bytes = b"") -> httpx.Response:
        """Its answer to a question."""
        media = [{"type": "video", "data": base64.b64encode(clip).decode()}] if clip else []
        return httpx.post(
            f"{self.url}/v1/infer",
            json={"question": "Where is the guitar?", "media": media},
            timeout=PATIENCE_S,
            trust_env=False,
        )


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """A server that has come up; at the end it is told to go, and must."""
    process = server.process
    try:
        until_true(lambda: server.is_ready() or process.poll() is not None)
        assert process.poll() is None, server.said()
        yield server
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, server.said()
        assert "Traceback" not in server.said()
    finally:
        process.kill()
        process.wait()


def faketime() -> Changes:
    """What makes a process believe that it is 1970."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("faketime is not installed")
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": "@1970-01-02 00:00:00", "DONT_FAKE_MONOTONIC": "1"}


SURROUNDINGS: dict[str, Changes] = {
    "narrow": {"COLUMNS": "80", "TERM": "dumb"},
    "c": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1", "LANG": "de_DE.ISO-8859-1"},
    "no home": {"HOME": None, "XDG_STATE_HOME": None, "XDG_CACHE_HOME": None},
    "home that cannot be written": {"HOME": "/proc/nowhere", "XDG_STATE_HOME": "/proc/nowhere"},
    "proxies": dict.fromkeys(
        ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "grpc_proxy"), "http://127.0.0.1:1"
    ),
    "1970": {},
    "unknown user": {"HOME": None, "USER": None, "LOGNAME": None},
}


TOGETHER = (
    ("narrow", "latin-1", "home that cannot be written", "proxies", "1970"),
    ("c", "unknown user"),
)
"""A server takes long to come up: each surrounding once, and by itself among the slow tests."""


@pytest.mark.parametrize(
    "names",
    [
        *TOGETHER,
        *(pytest.param((name,), marks=pytest.mark.slow) for name in SURROUNDINGS if (name,) not in TOGETHER),
    ],
    ids=", ".join,
)
def test_a_server_answers_in_odd_surroundings(names: tuple[str, ...], tmp_path: Path) -> None:
    changes, prefix = dict[str, str | None](), []
    for name in names:
        changes.update(SURROUNDINGS[name])
    if "1970" in names:
        changes.update(faketime())
    if "unknown user" in names:
        if os.getuid() != 0 or shutil.which("setpriv") is None:
            pytest.skip("only root can become somebody else")
        # May read whatever there is: the interpreter can lie in somebody's home.
        prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        prefix += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    with serving(Server(tmp_path, changes, prefix)) as server:
        assert server.ask().status_code == 200
        shown = server.ask(CLIP.read_bytes())
        assert (shown.status_code, bool(shown.json()["answer"])) == (200, True), shown.text


def read_only(then: str) -> list[str]:
    """What starts a command where nothing can be written, but what a shell command before it allows."""
    unshared = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    script = "for place in / /tmp /var /run; do mount -o remount,ro,bind $place 2>/dev/null; done; "
    probe = [*unshared, f"{script} ! touch /tmp/tokenlink-probe 2>/dev/null"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no user namespaces here, in which a root can be made read-only")
    return [*unshared, f'{script} {then} exec "$@"', "sh"]


@pytest.mark.slow
def test_a_server_answers_from_a_read_only_root_with_a_scratch_disk(tmp_path: Path) -> None:
    with TemporaryDirectory(dir="/tmp") as scratch:  # short, as a socket lies in it
        prefix = read_only(f"mount -t tmpfs -o size=256m none {scratch} || exit 99;")
        with serving(Server(tmp_path, {"TMPDIR": scratch}, prefix)) as server:
            shown = server.ask(CLIP.read_bytes())
            assert (shown.status_code, bool(shown.json()["answer"])) == (200, True), shown.text


def test_a_path_of_temporary_files_that_is_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    server = Server(tmp_path, {"TMPDIR": str(deep)}, [])
    assert server.process.wait(PATIENCE_S) == SETTINGS_ERROR
    assert "TMPDIR: a model's process does not start" in server.said()
    assert "Traceback" not in server.said()


def test_a_server_with_nowhere_to_write_says_what_it_needs(tmp_path: Path) -> None:
    if Path("/dev/shm").is_dir() and os.environ.get("TMPDIR", "").startswith("/dev/shm"):
        pytest.skip("temporary files are kept in memory here")
    server = Server(tmp_path, {}, read_only(""))
    assert server.process.wait(PATIENCE_S) == SETTINGS_ERROR
    assert "Traceback" not in server.said()
    assert "needs a folder for temporary files" in server.said()


def test_a_server_whose_disk_is_full_says_so(tmp_path: Path) -> None:
    prefix = ["sh", "-c", 'ulimit -f 64; exec "$@"', "sh"]
    server = Server(tmp_path, {}, prefix)
    assert server.process.wait(PATIENCE_S) == SETTINGS_ERROR
    assert "Traceback" not in server.said()
    assert "File too large" in server.said()


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_only_what_needs_it(tmp_path: Path) -> None:
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("no prlimit: util-linux")
    with serving(Server(tmp_path, {})) as server:
        # From now on no file can be written.
        subprocess.run([prlimit, f"--pid={server.process.pid}", "--fsize=0"], check=True)
        assert server.ask().status_code == 200
        refused = server.ask(CLIP.read_bytes() * 3)
        assert refused.status_code in (429, 503), refused.text
        assert refused.json()["error"]["message"]
        assert server.ask().status_code == 200


@pytest.mark.slow
def test_a_ready_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    server = Server(tmp_path, {}, more=["--ready-file", "/proc/nowhere/ready.json"])
    assert server.process.wait(PATIENCE_S) == SETTINGS_ERROR
    assert "Traceback" not in server.said()
    assert "ready_file: /proc/nowhere/ready.json cannot be written" in server.said()
