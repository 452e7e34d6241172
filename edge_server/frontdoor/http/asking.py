"""How a question that came over HTTP is asked, by whichever of the REST doors.

    admit ─▶ ingest (off the loop) ─▶ submit ─▶ answer
      └──────── a client that disconnects cancels whatever stage it is in ────────┘

There are no sessions here: every API client is a user of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import Request

from edge_server import engine
from edge_server.cell import Cell, Peer
from edge_server.engine import AnswerStream, FeatureBlock, Priority, Prompt
from edge_server.errors import InvalidQuestionError, OverloadedError, QuestionCancelledError
from edge_server.frontdoor.backend import Backends, EngineBackend
from edge_server.frontdoor.http.body_limit import PEER
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.ports import BlockCost, Ingested, LinkSettings, RawMedia
from edge_server.frontdoor.questions import check_modalities, check_text
from edge_server.frontdoor.tracing import NotTraced, Tracing
from protos.metadata import TRACEPARENT_KEY

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class RestQuestion:
    """A question as a REST door understood it.

    Attributes:
        text: the question; empty only where a text block carries it.
        user: whom it counts for.
        context: text that goes with it.
        media: files, not decoded yet.
        blocks: token blocks, decoded.
        link: what the tokens of ``media`` pass on their way.
        max_new_tokens: of the answer; 0: the engine's default.
        deadline_s: 0: the engine's default.
        priority: whether somebody waits for it.
        whole: the answer is wanted in one piece.
    """

    text: str
    user: str
    context: str = ""
    media: tuple[RawMedia, ...] = ()
    blocks: tuple[FeatureBlock, ...] = ()
    link: LinkSettings = field(default_factory=LinkSettings)
    max_new_tokens: int = 0
    deadline_s: float = 0.0
    priority: Priority = "interactive"
    whole: bool = True


@dataclass(frozen=True)
class Asked:
    """A question that the engine accepted.

    Attributes:
        stream: its answer.
        ready: what it was made into; nothing in it where it came without media.
        model: name of the model that answers.
        bundle_hash: of the device bundle that the model belongs to.
    """

    stream: AnswerStream
    ready: Ingested
    model: str
    bundle_hash: str

    @property
    def costs(self) -> tuple[BlockCost, ...]:
        """What the blocks made here took."""
        return self.ready.costs


class Asker:
    """Brings questions to the current model's engine.

    Args:
        cell: admits them.
        backends: the models that are served.
        metrics: counts.
        tracing: begins spans.
    """

    def __init__(
        self,
        cell: Cell[EngineBackend],
        backends: Backends,
        metrics: Metrics,
        tracing: Tracing | None = None,
    ) -> None:
        self._cell = cell
        self._backends = backends
        self._metrics = metrics
        self._tracing = tracing or NotTraced()

    @property
    def backend(self) -> EngineBackend:
        """What answers at present."""
        return self._backends.current

    async def ask(self, question: RestQuestion, traceparent: str = "") -> Asked:
        """Admit, make ready, submit.

        Args:
            question: as a door understood it.
            traceparent: W3C Trace Context of the span that asks; empty: none.

        Raises:
            EdgeServerError: the question was not accepted.
        """
        trace = self._tracing.question("REST", traceparent)
        with trace.admission():
            asked = await self._admitted(question)
        trace.follow(asked.stream)
        return asked

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except OverloadedError as error:
            self._metrics.rejected(error.reason)
            raise
        except InvalidQuestionError:
            self._metrics.rejected("invalid")
            raise

    async def _admitted(self, question: RestQuestion) -> Asked:
        with self._counted():
            shape = self.backend.served.shape
            check_text(question.text, "question", shape)
            check_text(question.context, "context", shape)
            analog = any(block.modality == "text" for block in question.blocks)
            if not question.text.strip() and not analog:
                raise InvalidQuestionError("question", "is empty; ask something")
            if question.text.strip() and analog:
                raise InvalidQuestionError("question", "came as text and as a text block; one of them")
            check_modalities([part.modality for part in question.media], "media")
        # The same from here to the end, whatever takes its place meanwhile.
        backend = self._cell.admit(question.user, question.priority)
        with self._counted():
            ready = await backend.served.ingest.prepare(
                question.media, question.text, question.context, question.link, question.user
            )
            blocks = (*question.blocks, *ready.blocks)
            # A video brings its sound along: only now is it known what there is.
            check_modalities([block.modality for block in blocks], "media")
        for cost in ready.costs:
            self._metrics.block(cost.modality, cost.token_length, cost.airtime_s, cost.effective_snr_db)
        for block in question.blocks:
            self._metrics.block(block.modality, len(block.x_TC), 0.0, block.snr_db)
        stream = self._cell.submit(
            backend,
            engine.Request(
                prompt=Prompt(blocks, ready.question_ids, ready.context_ids),
                user=question.user,
                max_new_tokens=question.max_new_tokens,
                deadline_s=question.deadline_s,
                priority=question.priority,
                whole=question.whole,
            ),
        )
        model = backend.model
        return Asked(stream, ready, model.name, model.bundle_hash)


def user_of(request: Request, claimed: str | None) -> str:
    """Whom a request counts for: whose key it came with, or who it says it is, or where it comes from."""
    peer: Peer | None = request.scope.get(PEER)
    if peer is not None:
        return peer.name
    return claimed or (request.client.host if request.client is not None else "unknown")


def traceparent_of(request: Request) -> str:
    """W3C Trace Context of the span that asks; empty where the client is not traced."""
    return str(request.headers.get(TRACEPARENT_KEY, ""))


async def while_connected(request: Request, work: Awaitable[_Result]) -> _Result:
    """Await work for as long as its client is there.

    Raises:
        QuestionCancelledError: the client went away; the work was cancelled.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise QuestionCancelledError
        return await working
    finally:
        for task in (working, watching):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        if not working.done():
            # Its own clean-up gives the slot in the batch back.
            await asyncio.wait({working})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
