"""A server process without weights, for tests of what processes do.

Run as ``python -m tests.contract.serve_weightless``, with a key after it to have the page ask for one, or
with ``--member``, to be told what it is by a supervisor. While there is a file where ``WEIGHTLESS_HOLD``
says, the model stands still.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from device_agent.media.limits import MediaLimits
from edge_server.cell import Peer
from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.ports import LinkShape
from edge_server.server import logs
from edge_server.server.config import ServerConfig
from edge_server.server.ingest import MediaIngest
from edge_server.server.process import serve
from edge_server.server.supervisor import supervise
from edge_server.server.telling import be_told
from tests.waiting import until_true
from tests.weightless import CHANNEL_DIM, WeightlessModel, WeightlessTransmitter

NEWER_BUNDLE_HASH = "cd" * 32
"""Of what is served after a SIGHUP."""
NEWER_ANSWER = "a newer answer"
HOLD = "WEIGHTLESS_HOLD"
MEMBER = "--member"


class KeyGate:
    """Implements the page's gate with one key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def needs_key(self, host: str) -> bool:
        return True

    def user_of(self, key: str, host: str) -> str:
        if key != self._key:
            raise InvalidQuestionError("key", "is not known here")
        return "key-1"

    def peer_of(self, key: str) -> Peer:
        return Peer(self.user_of(key, ""), "1")

    def still_good(self, key: str) -> bool:
        return key == self._key


def take_time() -> None:
    """A step takes as long as one can see, and as long as it is held."""
    time.sleep(0.1)
    hold = os.environ.get(HOLD, "")
    if hold:
        until_true(lambda: not Path(hold).exists())


def served(limits: MediaLimits | None = None) -> Served:
    """What :mod:`tests.weightless` can do, as slowly as something can be watched."""
    ingest = MediaIngest(
        WeightlessTransmitter(),  # type: ignore[arg-type]
        token_length=16,
        limits=limits or MediaLimits(),
        threads=1,
        max_pending=4,
        rng=np.random.default_rng(1),
    )
    model = WeightlessModel(answer=lambda prompt: "a long answer", decode_fault=lambda rows: take_time())
    shape = LinkShape(CHANNEL_DIM, 96)
    return Served(model, lambda _: model, ingest, shape, (1, 2, 4, 8, 16, 32), close=ingest.close)


def main() -> None:
    place, key = None, sys.argv[1] if len(sys.argv) > 1 else ""
    if key == MEMBER:
        heard = be_told(sys.stdin.buffer)
        config, place, key = heard.config, heard.place, ""
    else:
        config = ServerConfig()
    if place is None and config.server.front_doors > 1:
        logs.configure(config.server.log_level)
        asyncio.run(supervise(config, (sys.executable, "-m", "tests.contract.serve_weightless", MEMBER)))
        return
    first = served(config.media)

    class Newer:
        def __call__(self) -> Served:
            model = WeightlessModel(
                answer=lambda prompt: NEWER_ANSWER, name="newer", bundle_hash=NEWER_BUNDLE_HASH
            )
            return replace(served(config.media), model=model, runner_of=lambda _: model)

        def call_off(self) -> None:
            pass

    logs.configure(config.server.log_level)
    gate = KeyGate(key) if key else None
    asyncio.run(serve(config, first, Newer(), gate=gate, place=place))
    first.close()


if __name__ == "__main__":
    main()
