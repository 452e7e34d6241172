"""A server under test: what ``edge-server serve`` runs, and an inventory of what is alive on SIGUSR1.

python -m tests.benchmarks.serving.serve [MODEL]

Without a model, one without weights answers at once, through all layers but the model.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import uvloop

from device_agent.media.limits import MediaLimits
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.ports import LinkShape
from edge_server.server import logs
from edge_server.server.config import ServerConfig
from edge_server.server.ingest import MediaIngest
from edge_server.server.loading import load_served
from edge_server.server.process import serve
from tests.benchmarks.serving.served import PROBE_FILE
from tests.weightless import CHANNEL_DIM, WeightlessModel, WeightlessTransmitter

COUNTED = ("Job", "AnswerStream", "Subscription", "Session", "Request")
"""Types of engine and cell of which none may stay behind."""


def inventory() -> dict[str, int]:
    """How many of each are alive: tasks of the running loop, and objects of :data:`COUNTED`."""
    gc.collect()
    kinds = (type(each) for each in gc.get_objects())
    # Of some types the module is no text: descriptors of extension modules.
    found = Counter(kind.__name__ for kind in kinds if str(kind.__module__).startswith("edge_server."))
    return {"tasks": len(asyncio.all_tasks()), **{name: found[name] for name in COUNTED}}


def weightless() -> Served:
    """A model without weights whose answers end with their first step."""
    ingest = MediaIngest(
        WeightlessTransmitter(),  # type: ignore[arg-type]
        token_length=16,
        limits=MediaLimits(),
        threads=1,
        max_pending=4,
        rng=np.random.default_rng(1),
    )
    model = WeightlessModel(answer=lambda prompt: "")
    shape = LinkShape(CHANNEL_DIM, 96)
    return Served(model, lambda _: model, ingest, shape, (1, 2, 4, 8, 16, 32), close=ingest.close)


async def serve_and_tell(config: ServerConfig, served: Served) -> None:
    probe_file = Path(os.environ[PROBE_FILE])

    def tell() -> None:
        draft = probe_file.with_suffix(".draft")
        draft.write_text(json.dumps(inventory()))
        draft.replace(probe_file)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
    await serve(config, served)


def main() -> None:
    config = ServerConfig(model=Path(sys.argv[1])) if len(sys.argv) > 1 else ServerConfig()
    logs.configure(config.server.log_level)
    with contextlib.closing(load_served(config) if len(sys.argv) > 1 else weightless()) as served:
        gc.freeze()  # as ``edge-server serve`` does
        uvloop.run(serve_and_tell(config, served))


if __name__ == "__main__":
    main()
