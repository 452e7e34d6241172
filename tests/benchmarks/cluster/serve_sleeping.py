"""A node whose model has no weights and whose steps sleep: what is measured is the cluster, not two cores.

    SLEEPING_STEP_S=0.05 python -m tests.benchmarks.cluster.serve_sleeping

An answer is made from its question and the model's version alone, so that anybody can tell whether it is the
right one, and whose. The version stands in the file that ``SLEEPING_VERSION`` names, read again at a SIGHUP.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from device_agent.media.limits import MediaLimits
from edge_server.engine import Prompt
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.ports import LinkShape
from edge_server.server import logs
from edge_server.server.config import ServerConfig
from edge_server.server.ingest import MediaIngest
from edge_server.server.process import serve
from tests.weightless import BUNDLE_HASH, WeightlessModel, WeightlessTransmitter

STEP, VERSION = "SLEEPING_STEP_S", "SLEEPING_VERSION"
CHANNEL_DIM, TOKEN_LENGTH = 80, 32
"""A block of float16 takes 5 kB."""


def bundle_of(version: int) -> str:
    """Hash of the bundle that a version of the model answers for."""
    return BUNDLE_HASH if version == 1 else f"{version:02x}" * 32


def answer_to(question_ids: tuple[int, ...], version: int = 1) -> str:
    """Two letters that the question and the version decide: no two versions answer one question alike."""
    number = sum(id_ * (place + 1) for place, id_ in enumerate(question_ids)) + version - 1
    return chr(97 + number % 26) + chr(97 + number // 26 % 26)


@dataclass
class SleepingModel(WeightlessModel):
    """Takes blocks of 5 kB; each of its steps takes as long as it is told, whatever its rows."""

    step_s: float = 0.0
    answer_tokens: int = field(default=2, init=False)

    def check(self, prompt: Prompt) -> int:
        """Any block is fine."""
        return len(prompt.question_ids) + sum(len(block.x_TC) for block in prompt.blocks)


def served(step_s: float, version: int = 1) -> Served:
    """The model, with what doors need of one."""
    ingest = MediaIngest(
        WeightlessTransmitter(),  # type: ignore[arg-type]
        token_length=16,
        limits=MediaLimits(),
        threads=1,
        max_pending=4,
        rng=np.random.default_rng(1),
    )

    def sleep(rows: object) -> None:
        if step_s:
            time.sleep(step_s)

    model = SleepingModel(
        answer=lambda prompt: answer_to(prompt.question_ids, version),
        prefill_fault=sleep,
        decode_fault=sleep,
        bundle_hash=bundle_of(version),
    )
    shape = LinkShape(CHANNEL_DIM, 96)
    return Served(model, lambda _: model, ingest, shape, (1, 2, 4, 8, 16, 32), close=ingest.close)


def main() -> None:
    """Serve until told to end."""
    config = ServerConfig()
    logs.configure(config.server.log_level)
    first = _load()

    class Again:
        def __call__(self) -> Served:
            return _load()

        def call_off(self) -> None:
            pass

    asyncio.run(serve(config, first, Again()))
    first.close()


def _load() -> Served:
    told = os.environ.get(VERSION, "")
    version = int(Path(told).read_text(encoding="utf-8")) if told else 1
    return served(float(os.environ.get(STEP, "0")), version)


if __name__ == "__main__":
    main()
