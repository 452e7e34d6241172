"""A server process whose answers are fingerprints of all that its model was given.

One value, one id, one SNR that differs makes another answer: what a neighbour does to a question shows. Run
as ``python -m tests.chaos.serve_fingerprints``; settings as for ``edge-server serve``, in the environment.
``TOKENLINK_CHAOS_LEAK_BYTES`` makes it keep so many bytes of every question, ``TOKENLINK_CHAOS_CROSSTALK``
makes every seventh answer another one: faults that tests have to notice.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os

import numpy as np

from edge_server import logs
from edge_server.app import Served, serve
from edge_server.config import ServerConfig
from edge_server.engine import Prompt
from edge_server.frontdoor.ports import LinkShape
from edge_server.ingest import MediaIngest
from tests.weightless import CHANNEL_DIM, WeightlessModel, WeightlessTransmitter

LEAK = "TOKENLINK_CHAOS_LEAK_BYTES"
CROSSTALK = "TOKENLINK_CHAOS_CROSSTALK"
MAX_TEXT_TOKENS = 96
TOKEN_LENGTHS = (1, 2, 4, 8, 16, 32)

leaked: list[bytearray] = []


def fingerprint(prompt: Prompt) -> str:
    """Twelve hexadecimal digits that depend on every part of a prompt."""
    seen = hashlib.sha256(repr((prompt.question_ids, prompt.context_ids)).encode())
    for block in prompt.blocks:
        seen.update(f"{block.modality}{block.x_TC.shape}{block.snr_db}".encode() + block.x_TC.tobytes())
    return seen.hexdigest()[:12]


def main() -> None:
    """Serve until SIGTERM."""
    config = ServerConfig()
    logs.configure(config.log_level)
    leak_bytes = int(os.environ.get(LEAK, "0"))

    crosstalk, asked = CROSSTALK in os.environ, itertools.count(1)

    def answer(prompt: Prompt) -> str:
        if leak_bytes:
            leaked.append(bytearray(b"x" * leak_bytes))  # touched, so that it is resident
        if crosstalk and next(asked) % 7 == 0:
            return "another's"
        return fingerprint(prompt)

    ingest = MediaIngest(
        WeightlessTransmitter(),  # type: ignore[arg-type]
        token_length=config.rest_token_length,
        limits=config.media(),
        threads=config.ingest_threads,
        max_pending=config.max_ingest,
        rng=np.random.default_rng(1),
    )
    # Counting each step, as tests of batches do, would itself be a leak over millions of them.
    model = WeightlessModel(answer=answer, prefills=_Forgetful(), decodes=_Forgetful())
    served = Served(model, ingest, LinkShape(CHANNEL_DIM, MAX_TEXT_TOKENS), TOKEN_LENGTHS)
    asyncio.run(serve(config, served))
    ingest.close()


class _Forgetful(list[int]):
    def append(self, item: int) -> None:
        """Forget it."""


if __name__ == "__main__":
    main()
