"""A node whose model has no weights and whose steps sleep: what is measured is the cluster, not two cores.

    SLEEPING_STEP_S=0.05 python -m tests.benchmarks.cluster.serve_sleeping

An answer is made from its question alone, so that anybody can tell whether it is the right one.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field

import numpy as np

from device_agent.media.limits import MediaLimits
from edge_server.engine import Prompt
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.ports import LinkShape
from edge_server.server import logs
from edge_server.server.config import ServerConfig
from edge_server.server.ingest import MediaIngest
from edge_server.server.process import serve
from tests.weightless import WeightlessModel, WeightlessTransmitter

STEP = "SLEEPING_STEP_S"
CHANNEL_DIM, TOKEN_LENGTH = 80, 32
"""A block of float16 takes 5 kB."""


def answer_to(question_ids: tuple[int, ...]) -> str:
    """Two letters that the question decides."""
    number = sum(id_ * (place + 1) for place, id_ in enumerate(question_ids))
    return chr(97 + number % 26) + chr(97 + number // 26 % 26)


@dataclass
class SleepingModel(WeightlessModel):
    """Takes blocks of 5 kB; each of its steps takes as long as it is told, whatever its rows."""

    step_s: float = 0.0
    answer_tokens: int = field(default=2, init=False)

    def check(self, prompt: Prompt) -> int:
        """Any block is fine."""
        return len(prompt.question_ids) + sum(len(block.x_TC) for block in prompt.blocks)


def served(step_s: float) -> Served:
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
        answer=lambda prompt: answer_to(prompt.question_ids), prefill_fault=sleep, decode_fault=sleep
    )
    shape = LinkShape(CHANNEL_DIM, 96)
    return Served(model, lambda _: model, ingest, shape, (1, 2, 4, 8, 16, 32), close=ingest.close)


def main() -> None:
    """Serve until told to end."""
    config = ServerConfig()
    logs.configure(config.server.log_level)
    made = served(float(os.environ.get(STEP, "0")))
    asyncio.run(serve(config, made))
    made.close()


if __name__ == "__main__":
    main()
