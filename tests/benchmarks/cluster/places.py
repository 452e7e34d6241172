"""Where rows are measured: a broker, and nodes at it, in a folder that goes with them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.cluster.serve_sleeping import STEP, VERSION
from tests.brokers import Broker
from tests.nodes import Nodes

SERVE = "tests.benchmarks.cluster.serve_sleeping"


@contextmanager
def place(brokers: int, step_s: float) -> Iterator[tuple[Broker, Nodes]]:
    """A broker of so many servers, and nodes whose steps take so long [s]."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder), brokers)
        version = Path(folder) / "version"
        version.write_text("1", encoding="utf-8")
        nodes = Nodes(Path(folder), broker, SERVE, {STEP: str(step_s), VERSION: str(version)})
        try:
            yield broker, nodes
        finally:
            nodes.stop()
            broker.stop()
