"""A server process whose model has no weights and answers each question with what it was asked.

Run as ``python -m tests.chaos.server``; settings as of any server, from ``TOKENLINK_SERVER_*``.
"""

from __future__ import annotations

import asyncio

from edge_server.engine import FeatureBlock, Prompt
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.ports import Ingested, LinkSettings, LinkShape, RawMedia
from edge_server.server import logs
from edge_server.server.config import ServerConfig
from edge_server.server.process import serve
from tests.chaos.questions import answer_to
from tests.weightless import CHANNEL_DIM, WeightlessModel


class NoIngest:
    """Takes text over REST; no media, so that no decoder has to be loaded."""

    async def prepare(
        self, media: tuple[RawMedia, ...], question: str, context: str, link: LinkSettings, user: str = ""
    ) -> Ingested:
        """Bytes as language tokens."""
        blocks: tuple[FeatureBlock, ...] = ()
        return Ingested(blocks, tuple(question.encode()), tuple(context.encode()), (), (), ())


def echo(prompt: Prompt) -> str:
    """What :func:`tests.chaos.questions.answer_to` expects."""
    return answer_to(prompt.question_ids)


def main() -> None:
    """Serve until SIGTERM."""
    config = ServerConfig()
    logs.configure(config.server.log_level)
    model = WeightlessModel(answer=echo)
    served = Served(
        model,
        lambda _: model,
        NoIngest(),  # type: ignore[arg-type]
        LinkShape(CHANNEL_DIM, 96),
        (1, 2, 4, 8, 16, 32),
    )
    asyncio.run(serve(config, served))


if __name__ == "__main__":
    main()
