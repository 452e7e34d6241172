"""Nodes of a cluster as processes: doors and engines of a model without weights, on free ports."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.brokers import Broker
from tests.waiting import PATIENCE_S, until_true

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Node:
    """A process.

    Attributes:
        process: it.
        facts: what it says of itself.
        hold: while this is there, its model stands still.
        log: what it logs.
        told: where it says what it is, anew whenever that changes.
    """

    process: subprocess.Popen[bytes]
    facts: Mapping[str, Any]
    hold: Path
    log: Path
    told: Path

    @property
    def facts_now(self) -> Mapping[str, Any]:
        """What it says of itself by now."""
        found: Mapping[str, Any] = json.loads(self.told.read_text(encoding="utf-8"))
        return found

    @property
    def rest(self) -> str:
        """Base URL of its REST door."""
        return str(self.facts["rest"])

    @property
    def grpc(self) -> str:
        """Target of a gRPC channel."""
        return str(self.facts["grpc"])

    @property
    def bundle_hash(self) -> str:
        """Of the bundle that it answers for."""
        return str(self.facts["bundle_hash"])

    @property
    def ready(self) -> bool:
        """Whether it says so."""
        try:
            with urllib.request.urlopen(f"{self.rest}/readyz", timeout=PATIENCE_S) as response:
                return int(response.status) == 200
        except urllib.error.HTTPError:
            return False

    @property
    def series(self) -> str:
        """Its metrics."""
        with urllib.request.urlopen(f"{self.rest}/metrics", timeout=PATIENCE_S) as response:
            return str(response.read().decode())

    def count(self, series: str) -> float:
        """A number of its metrics; 0 where it is not there."""
        values = [
            line.rsplit(" ", 1)[1] for line in self.series.splitlines() if line.startswith(f"{series} ")
        ]
        return float(values[0]) if values else 0.0

    def kill(self) -> None:
        """End it without notice."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """Tell it to end, and wait; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


class Nodes:
    """Starts nodes at a broker, and ends them.

    Args:
        folder: for logs and ready files.
        broker: theirs.
        module: the program; it takes the settings of ``edge-server serve``.
        environment: of all of them.
    """

    def __init__(
        self,
        folder: Path,
        broker: Broker | None,
        module: str = "tests.contract.serve_weightless",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self._broker = folder, broker
        self._module, self._environment = module, dict(environment or {})
        self._numbers = itertools.count()
        self._started: list[Node] = []

    def start(self, role: str, **settings: str) -> Node:
        """Start a node and wait until it listens.

        Args:
            role: of the cluster; ``alone``: it is in none.
            settings: by the names of variables, without their prefix.
        """
        return self.start_all([role], **settings)[0]

    def start_all(self, roles: list[str], **settings: str) -> list[Node]:
        """Start several at once."""
        begun = [self._begin(role, settings) for role in roles]
        return [self._listening(*each) for each in begun]

    def stop(self) -> None:
        """End all of them."""
        for node in self._started:
            if node.process.poll() is None:
                node.kill()

    def _begin(
        self, role: str, settings: Mapping[str, str]
    ) -> tuple[subprocess.Popen[bytes], Path, Path, Path]:
        number = next(self._numbers)
        ready, hold, log = (self.folder / f"{role}-{number}.{what}" for what in ("json", "hold", "log"))
        given = {
            "GRPC_PORT": "0",
            "REST_PORT": "0",
            "READY_FILE": str(ready),
            "UI": "off",
            "LOG_LEVEL": "WARNING",
            **settings,
        }
        if self._broker is not None and role != "alone":
            given = {"CLUSTER": self._broker.url, "ROLE": role, "ACK_WAIT_S": "1", **given}
        environment = {f"TOKENLINK_SERVER_{name}": value for name, value in given.items()}
        with log.open("wb") as into:
            process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                cwd=ROOT,
                env=os.environ | self._environment | environment | {"WEIGHTLESS_HOLD": str(hold)},
                stderr=into,
            )
        return process, ready, hold, log

    def _listening(self, process: subprocess.Popen[bytes], ready: Path, hold: Path, log: Path) -> Node:
        until_true(lambda: ready.exists() or process.poll() is not None)
        assert process.poll() is None, log.read_text(encoding="utf-8")
        node = Node(process, json.loads(ready.read_text(encoding="utf-8")), hold, log, ready)
        self._started.append(node)
        return node
