"""A server process without weights, for tests of what processes do.

Run as ``python -m tests.contract.serve_weightless``.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import numpy as np

from edge_server import logs
from edge_server.app import Served, serve
from edge_server.config import ServerConfig
from edge_server.frontdoor.ports import LinkShape
from edge_server.ingest import MediaIngest
from tests.weightless import CHANNEL_DIM, WeightlessModel, WeightlessTransmitter

NEWER_BUNDLE_HASH = "cd" * 32
"""Of what is served after a SIGHUP."""


def main() -> None:
    config = ServerConfig()
    ingest = MediaIngest(
        WeightlessTransmitter(),  # type: ignore[arg-type]
        token_length=16,
        limits=config.media(),
        threads=1,
        max_pending=4,
        rng=np.random.default_rng(1),
    )
    model = WeightlessModel(answer=lambda prompt: "a long answer", decode_fault=lambda rows: time.sleep(0.1))
    served = Served(model, ingest, LinkShape(CHANNEL_DIM, 96), (1, 2, 4, 8, 16, 32))
    newer = replace(served, model=WeightlessModel(name="newer", bundle_hash=NEWER_BUNDLE_HASH))
    logs.configure(config.log_level)
    asyncio.run(serve(config, served, lambda: newer))
    ingest.close()


if __name__ == "__main__":
    main()
