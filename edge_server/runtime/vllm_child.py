"""The process in which vLLM computes, as who started it sees it: started, told, heard, ended, started again.

What runs there is :mod:`edge_server.runtime.vllm_process`, under vLLM's own interpreter.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_server.engine.ports import BatchLostError
from edge_server.errors import ModelError
from edge_server.runtime import vllm_process
from edge_server.runtime.vllm_process import receive, send

SILENCE_S = 30.0
"""A process that says nothing for so long, not even that it lives, is stopped or stuck [s]. Loading libraries
holds the interpreter, and every thread of it, for seconds."""
_STARTS_WITHIN_S, _ANSWERS_WITHIN_S = 600.0, 120.0
_ENDS_WITHIN_S = 5.0
_THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM computes.

    Attributes:
        model: Hugging Face folder of the language model.
        width: of its embeddings E.
        max_positions: longest prompt with its answer.
        max_rows: questions that it computes at once.
        threads: of its operators.
        dtype: of weights and products.
        compiled: whether its graph is compiled, which takes minutes once; else it runs eagerly.
        cache_gib: of its keys and values, on a CPU.
    """

    model: Path
    width: int
    max_positions: int
    max_rows: int = 64
    threads: int = 1
    dtype: str = "float32"
    compiled: bool = False
    cache_gib: int = 1


class VllmProcess:
    """The process, and what is said to it.

    Args:
        settings: how it computes.
        python: its interpreter.

    Raises:
        ModelError: it is not installed, or does not start.
    """

    def __init__(self, settings: VllmSettings, python: Path) -> None:
        if not python.is_file():
            raise ModelError(
                f"runner: vLLM is not installed at {python.parents[1]}; install it with "
                "`edge-server engines install vllm`"
            )
        self._settings, self._python = settings, python
        self._process: subprocess.Popen[bytes] | None = None
        self.epoch = 0
        self.start()

    def start(self) -> None:
        """Start it, and wait until it can compute.

        Raises:
            ModelError: it does not come up; tells what it said last.
        """
        ours, theirs = socket.socketpair()
        settings = self._settings
        told = {
            "model": str(settings.model),
            "dtype": settings.dtype,
            "max_positions": settings.max_positions,
            "max_rows": settings.max_rows,
            "compiled": settings.compiled,
        }
        # Nothing is fetched and nothing is told to anybody; it computes in the process that is started here.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_CPU_KVCACHE_SPACE": str(settings.cache_gib),
            # As many threads as are asked for, on whichever cores: those of other batches have theirs too.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "HF_HUB_OFFLINE": "1",
            _THREADS: str(settings.threads),
        }
        with theirs, tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter is the one that was installed
                [self._python, vllm_process.__file__, str(theirs.fileno()), json.dumps(told)],
                pass_fds=(theirs.fileno(),),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._socket = ours
            self.epoch += 1
            theirs.close()
            try:
                message = self._answer(_STARTS_WITHIN_S)
            except BatchLostError as error:
                log.seek(max(log.tell() - 2000, 0))
                said = log.read().decode(errors="replace").strip().splitlines()[-3:]
                self.close()
                raise ModelError(f"runner: vLLM does not start: {error}; {' / '.join(said)}") from error
            assert message.get("ready")  # noqa: S101 - it says nothing else at first

    def ask(self, message: dict[str, Any], data: bytes = b"") -> dict[str, Any]:
        """Tell it something, and hear what it says.

        Raises:
            BatchLostError: it failed; another process has taken its place.
        """
        try:
            send(self._socket, message, data)
            return self._answer(_ANSWERS_WITHIN_S)
        except (OSError, BatchLostError) as error:
            self.close()
            self.start()
            raise BatchLostError(f"vLLM failed: {error}") from error

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        with contextlib.suppress(OSError):
            self._socket.close()
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process is not None  # noqa: S101 - it was started
        return self._process.pid

    def _answer(self, within_s: float) -> dict[str, Any]:
        """What it says but for signs of life, in time."""
        self._socket.settimeout(SILENCE_S)
        until_s = time.monotonic() + within_s
        try:
            message, _ = receive(self._socket)
            while "alive" in message:
                if time.monotonic() > until_s:
                    raise BatchLostError(f"its process was not through within {within_s:g} s")
                message, _ = receive(self._socket)
        except (EOFError, OSError) as error:
            raise BatchLostError(f"its process {'said nothing' if str(error) else 'ended'}") from error
        finally:
            self._socket.settimeout(None)
        if "fault" in message:
            raise BatchLostError(str(message["fault"]))
        return message
