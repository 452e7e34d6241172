"""Where rows are measured: a broker, and nodes at it, in a folder that goes with them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.cluster.serve_sleeping import STEP
from tests.brokers import Broker
from tests.nodes import Nodes


@contextmanager
def place(brokers: int, step_s: float) -> Iterator[tuple[Broker, Nodes]]:
    """A broker of so many servers, and nodes whose steps take so long [s]."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder), brokers)
        nodes = Nodes(Path(folder), broker, "tests.benchmarks.cluster.serve_sleeping", {STEP: str(step_s)})
        try:
            yield broker, nodes
        finally:
            nodes.stop()
            broker.stop()
