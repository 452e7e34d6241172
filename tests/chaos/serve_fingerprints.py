"""A server process whose answers are fingerprints of all that its model was given.

One value, one id, one SNR that differs makes another answer: what a neighbour does to a question shows. Run
as ``python -m tests.chaos.serve_fingerprints``; settings as for ``edge-server serve``, in the environment.
Faults that tests have to notice are planted here, by name, with ``TOKENLINK_CHAOS_FAULT``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import numpy as np

from edge_server.engine import Prompt
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.ports import LinkShape
from edge_server.server import logs
from edge_server.server.config import ServerConfig, rest_token_length
from edge_server.server.ingest import MediaIngest
from edge_server.server.process import serve
from tests.weightless import CHANNEL_DIM, WeightlessModel, WeightlessTransmitter

FAULT = "TOKENLINK_CHAOS_FAULT"
FAULTS = ("memory", "descriptors", "tasks", "crosstalk")
"""Leaks of each kind, and an answer now and then that is another's."""
TASKS_FILE = "TOKENLINK_CHAOS_TASKS_FILE"
"""Where the number of tasks of the event loop is written, twice a second."""
MAX_TEXT_TOKENS = 96
TOKEN_LENGTHS = (1, 2, 4, 8, 16, 32)

_LEAKED_BYTES = 256 * 1024


def fingerprint(prompt: Prompt) -> str:
    """Twelve hexadecimal digits that depend on every part of a prompt."""
    seen = hashlib.sha256(repr((prompt.question_ids, prompt.context_ids)).encode())
    for block in prompt.blocks:
        seen.update(f"{block.modality}{block.x_TC.shape}{block.snr_db}".encode() + block.x_TC.tobytes())
    return seen.hexdigest()[:12]


class Faulty:
    """Answers with fingerprints, and with the fault that was asked for.

    Args:
        fault: one of :data:`FAULTS`; empty: none.
    """

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._asked = 0
        self._kept: list[object] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, prompt: Prompt) -> str:
        """The answer to a prompt; called from the worker's thread."""
        self._asked += 1
        match self._fault:
            case "memory":
                self._kept.append(bytearray(b"x" * _LEAKED_BYTES))  # written to, so that it is resident
            case "descriptors" if self._asked % 3 == 0:
                self._kept.append(open(os.devnull))  # noqa: SIM115 (it is never closed on purpose)
            case "tasks" if self.loop is not None:
                waiting = asyncio.run_coroutine_threadsafe(asyncio.Event().wait(), self.loop)
                self._kept.append(waiting)
            case "crosstalk" if self._asked % 7 == 0:
                return "another's"
        return fingerprint(prompt)


def main() -> None:
    """Serve until SIGTERM."""
    config = ServerConfig()
    logs.configure(config.server.log_level)
    answer = Faulty(os.environ.get(FAULT, ""))
    ingest = MediaIngest(
        WeightlessTransmitter(),  # type: ignore[arg-type]
        token_length=rest_token_length(config, None),
        limits=config.media,
        threads=config.rest.ingest_threads,
        max_pending=config.rest.max_ingest,
        rng=np.random.default_rng(1),
    )
    # Counting each step, as tests of batches do, would itself be a leak over millions of them.
    model = WeightlessModel(answer=answer, prefills=_Forgetful(), decodes=_Forgetful())
    served = Served(model, lambda _: model, ingest, LinkShape(CHANNEL_DIM, MAX_TEXT_TOKENS), TOKEN_LENGTHS)

    async def serve_watched() -> None:
        answer.loop = asyncio.get_running_loop()
        watching = asyncio.create_task(_count_tasks(os.environ.get(TASKS_FILE)))
        await serve(config, served)
        watching.cancel()

    asyncio.run(serve_watched())
    ingest.close()


async def _count_tasks(path: str | None) -> None:
    while path is not None:
        draft = Path(f"{path}.draft")
        draft.write_text(str(len(asyncio.all_tasks())))
        draft.replace(path)
        await asyncio.sleep(0.5)


class _Forgetful(list[int]):
    def append(self, item: int) -> None:
        """Forget it."""


if __name__ == "__main__":
    main()
