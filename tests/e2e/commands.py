"""The project's commands as processes that a test may kill and start again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.waiting import PATIENCE_S


class Command:
    """A command whose output goes to files; ended when its context is.

    Args:
        arguments: a command of this environment, by name, or a program by its path, and what goes with it.
        folder: its output lies there, as NAME.out and NAME.err.
        name: of the files.
        environment: all of it.
    """

    def __init__(
        self, arguments: Sequence[str | Path], folder: Path, name: str, environment: Mapping[str, str]
    ) -> None:
        program = Path(sys.executable).parent / arguments[0]
        self._arguments = [str(program), *map(str, arguments[1:])]
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Command:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, or start it again."""
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self._process = subprocess.Popen(self._arguments, env=self._environment, stdout=out, stderr=err)

    def kill(self) -> None:
        """Kill it (-9) and wait until it is gone. Harmless when it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> int:
        """Ask it to end; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE_S)

    def ended(self) -> int | None:
        """Its exit code, once it has one."""
        return None if self._process is None else self._process.poll()

    def out(self) -> str:
        """What it wrote to standard output, over all starts."""
        return self._out.read_text(encoding="utf-8", errors="replace")

    def err(self) -> str:
        """And to standard error."""
        return self._err.read_text(encoding="utf-8", errors="replace")
