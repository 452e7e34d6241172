"""Who is compared, and how each may be set up; every library's documentation leaves the numbers to a trial.

The trial stands at the beginning of a run: each peer's choices are measured, the fastest is kept.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.peer_servers.settings import Forward, Settings
from tests.benchmarks.peers import environments, wires
from tests.benchmarks.peers.wires import Wire

CORES = os.cpu_count() or 1
_APPS = "tests.benchmarks.peer_servers"


@dataclass(frozen=True)
class Choice:
    """One way to set a peer up.

    Attributes:
        workers: copies of the model.
        threads: of each copy's operators.
        max_batch: questions that are answered together.
        wait_s: how long a batch waits for more [s].
        environment: variables that its process gets.
        forward: what computes.
    """

    workers: int
    threads: int
    max_batch: int
    wait_s: float
    environment: Mapping[str, str] = field(default_factory=dict)
    forward: Forward = "lent"

    def settings(self, model: Path, port: int) -> Settings:
        """For a server of this model on this port."""
        return Settings(
            str(model), port, self.workers, self.threads, self.max_batch, self.wait_s, self.forward
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"environment": dict(self.environment)}


@dataclass(frozen=True)
class Peer:
    """A library that serves the model.

    Attributes:
        name: of its requirements and its environment.
        label: for people.
        distribution: name of its package.
        wire: its envelope over HTTP.
        choices: ways to set it up, the likeliest first.
        arguments: of the interpreter, from the port.
        own_environment: whether it has one, or runs in this one.
        environment: variables that its process needs, whatever is chosen.
    """

    name: str
    label: str
    distribution: str
    wire: Wire
    choices: tuple[Choice, ...]
    arguments: Callable[[int], Sequence[str]]
    own_environment: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, port: int) -> list[str | Path]:
        """What starts it.

        Raises:
            MissingEnvironmentError: its environment was not made.
        """
        python = environments.python_of(self.name) if self.own_environment else Path(sys.executable)
        return [python, *self.arguments(port)]

    def version(self) -> str:
        """Of the library."""
        if self.own_environment:
            return environments.version_of(self.name, self.distribution)
        from importlib.metadata import version

        return version(self.distribution)


def _module(name: str) -> Callable[[int], Sequence[str]]:
    return lambda port: ("-m", f"{_APPS}.{name}")


def _copies(*waits_s: float, batches: Sequence[int] = (32, 64)) -> tuple[Choice, ...]:
    """A copy of the model per core with one thread each, and one copy with a thread per core."""
    return tuple(
        Choice(workers, CORES // workers or 1, max_batch, wait_s)
        for max_batch in batches
        for wait_s in waits_s
        for workers in dict.fromkeys((CORES, 1))
    )


FASTAPI = Peer(
    name="fastapi",
    label="FastAPI, no batching",
    distribution="fastapi",
    wire=wires.TEXT,
    choices=_copies(0.0, batches=(1,)),
    arguments=_module("fastapi_app"),
    own_environment=False,
)
LITSERVE = Peer(
    name="litserve",
    label="LitServe",
    distribution="litserve",
    wire=wires.JSON_TEXT,
    choices=_copies(0.002, 0.01),
    arguments=_module("litserve_app"),
)
_RAY_FAST = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"}
RAY = Peer(
    name="ray",
    label="Ray Serve",
    distribution="ray",
    wire=wires.TEXT,
    choices=tuple(
        Choice(choice.workers, choice.threads, choice.max_batch, choice.wait_s, environment)
        for environment in (_RAY_FAST, {})
        for choice in _copies(0.002, 0.01, batches=(32,))
    ),
    arguments=_module("ray_app"),
    environment={"RAY_USAGE_STATS_ENABLED": "0"},
)
PYTRITON = Peer(
    name="pytriton",
    label="PyTriton",
    distribution="nvidia-pytriton",
    wire=wires.TENSOR,
    choices=_copies(0.0, 0.005),
    arguments=_module("pytriton_app"),
    # Triton's Python backend loads libpython: that of this interpreter, not of the system.
    # https://triton-inference-server.github.io/pytriton/latest/installation/
    environment={"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR") or ""},
)
BENTOML = Peer(
    name="bentoml",
    label="BentoML",
    distribution="bentoml",
    wire=wires.JSON_LIST,
    # Its wait is not set but learnt; this is the latency above which it gives questions up.
    choices=_copies(60.0),
    arguments=lambda port: (
        *("-m", "bentoml", "serve", f"{_APPS}.bentoml_app:TokenLink"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ),
    environment={"BENTOML_DO_NOT_TRACK": "True"},
)
PEERS = (LITSERVE, RAY, PYTRITON, BENTOML, FASTAPI)
