"""How a question that came over HTTP is asked, by whichever of the REST doors.

    admit ─▶ ingest (off the loop) ─▶ submit ─▶ answer
      └──────── a client that disconnects cancels whatever stage it is in ────────┘

There are no sessions here: every API client is a user of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from fastapi import Request

from edge_server import engine
from edge_server.cell import Cell, Peer
from edge_server.engine import GREEDY, AnswerStream, FeatureBlock, Priority, Prompt, Sampling
from edge_server.errors import (
    EdgeServerError,
    InvalidQuestionError,
    OverloadedError,
    QuestionCancelledError,
)
from edge_server.frontdoor.backend import Backends, EngineBackend, not_served
from edge_server.frontdoor.http.body_limit import PEER
from edge_server.frontdoor.http.history import History, fitted
from edge_server.frontdoor.http.turns import RestTurn, check_shown, fitted_prompt, ready_turns
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.ports import BlockCost, Ingested, LinkSettings, RawMedia
from edge_server.frontdoor.questions import check_modalities, check_text
from edge_server.frontdoor.sampling import check_sampling, check_stops
from edge_server.frontdoor.scene_blocks import SceneAsked, SceneFacts, Shown
from edge_server.frontdoor.scenes import SceneDesk
from edge_server.frontdoor.tracing import NotTraced, Tracing
from protos.metadata import TRACEPARENT_KEY

_SAMPLING = "sampling."
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class RestQuestion:
    """A question as a REST door understood it.

    Attributes:
        text: the question; empty only where a text block carries it.
        user: whom it counts for.
        context: text that goes with it.
        history: turns that go before it, in place of a context.
        turns: the whole conversation, for a model that tells turns apart; in place of history and text.
        media: files, not decoded yet.
        blocks: token blocks, decoded.
        link: what the tokens of ``media`` pass on their way.
        max_new_tokens: of the answer; 0: the engine's default.
        deadline_s: 0: the engine's default.
        priority: whether somebody waits for it.
        whole: the answer is wanted in one piece.
        sampling: how it is decoded.
        stop: texts that end it.
        tokens: its language tokens are wanted too.
        scenes: what devices shared that it is about, in place of media.
        shown: the same, looked up by who need not be let see it: the server itself.
        choices: so many answers are wanted; each counts as a question.
        peer: who asks, as the door has verified.
        backend: the model that is asked, of those that are served; None: the current one, or the scenes'.
            With scenes it has to be theirs.
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
    sampling: Sampling = GREEDY
    stop: tuple[str, ...] = ()
    tokens: bool = False
    choices: int = 1
    peer: Peer | None = None
    history: History | None = None
    turns: tuple[RestTurn, ...] = ()
    scenes: tuple[SceneAsked, ...] = ()
    shown: Shown | None = None
    backend: EngineBackend | None = None


@dataclass(frozen=True)
class Asked:
    """A question that the engine accepted.

    Attributes:
        streams: its answers.
        ready: what it was made into; nothing in it where it came without media.
        model: name of the model that answers.
        bundle_hash: of the device bundle that the model belongs to.
        spell: the bytes of a language token of that model.
        left_out: numbers of the turns of its history that did not fit.
        scenes: what it was answered from, as it named them.
    """

    streams: tuple[AnswerStream, ...]
    ready: Ingested
    model: str
    bundle_hash: str
    spell: Callable[[int], bytes]
    left_out: tuple[int, ...] = ()
    scenes: tuple[SceneFacts, ...] = ()

    @property
    def stream(self) -> AnswerStream:
        """The first answer."""
        return self.streams[0]

    def cancel(self) -> None:
        """Take the question back; harmless after its end."""
        for stream in self.streams:
            stream.cancel()

    @property
    def costs(self) -> tuple[BlockCost, ...]:
        """What the blocks made here took."""
        return self.ready.costs


class Asker:
    """Brings questions to the engine of the model that they are for.

    Args:
        cell: admits them.
        backends: the models that are served.
        metrics: counts.
        desk: shows scenes.
        tracing: begins spans.
    """

    def __init__(
        self,
        cell: Cell[EngineBackend],
        backends: Backends,
        metrics: Metrics,
        desk: SceneDesk,
        tracing: Tracing | None = None,
    ) -> None:
        self.desk = desk
        self._cell = cell
        self._backends = backends
        self._metrics = metrics
        self._tracing = tracing or NotTraced()

    @property
    def backend(self) -> EngineBackend:
        """What answers whoever names no model."""
        return self._backends.current

    @property
    def newest(self) -> tuple[EngineBackend, ...]:
        """Of each model that is served beside the others; the current one is first."""
        return self._backends.newest

    def named(self, model: str) -> EngineBackend:
        """The model of a name.

        Raises:
            NotFoundError: none that is served has it.
        """
        for backend in self._backends.newest:
            if backend.model.name == model:
                return backend
        raise not_served(model, self._backends)

    @property
    def backends(self) -> tuple[EngineBackend, ...]:
        """All that answer at present, the current one first: an older one until its devices have moved on."""
        return tuple(self._backends)

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
            asked = await self._admitted(question, trace.traceparent)
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

    async def _admitted(self, question: RestQuestion, traceparent: str) -> Asked:
        with self._counted():
            shape = (question.backend or self.backend).served.shape
            check_text(question.text, "question", shape)
            history = question.history or History((question.context,))
            left_out = history.within_bytes(shape)
            analog = any(block.modality == "text" for block in question.blocks)
            if not question.text.strip() and not analog:
                raise InvalidQuestionError("question", "is empty; ask something")
            if question.text.strip() and analog:
                raise InvalidQuestionError("question", "came as text and as a text block; one of them")
            if question.turns and shape.turns:
                check_shown(question.media)
            else:
                check_modalities([part.modality for part in question.media if part.modality], "media")
            check_sampling(question.sampling)
            check_stops(question.stop)
        shown = await self._shown(question) if question.scenes else question.shown
        # The same from here to the end, whatever takes its place meanwhile.
        asked_of = question.backend if shown is None else _theirs(shown, question.backend)
        backend = self._cell.admit(question.user, question.priority, asked_of)
        # The first has been counted with the request that brought it.
        self._cell.limits.spend(question.peer, questions=question.choices - 1)
        with self._counted():
            whole, ready, left_out = await _made_ready(question, backend, history, left_out, shown)
        for cost in ready.costs:
            self._metrics.block(cost.modality, cost.token_length, cost.airtime_s, cost.effective_snr_db)
        for block in question.blocks:
            self._metrics.block(block.modality, len(block.x_TC), 0.0, block.snr_db)
        streams: list[AnswerStream] = []
        try:
            for number in range(question.choices):
                prompt = replace(whole, sampling=question.sampling.of_choice(number))
                streams.append(self._cell.submit(backend, _request(question, prompt, traceparent)))
        except EdgeServerError as error:
            for stream in streams:
                stream.cancel()
            if isinstance(error, InvalidQuestionError) and error.field.startswith(_SAMPLING):
                # Requests have these beside the others.
                field = error.field.removeprefix(_SAMPLING)
                raise InvalidQuestionError(field, str(error).removeprefix(_SAMPLING)) from error
            raise
        model = backend.model
        return Asked(
            streams=tuple(streams),
            ready=ready,
            model=model.name,
            bundle_hash=model.bundle_hash,
            spell=model.token_bytes,
            left_out=history.spare[:left_out],
            scenes=() if shown is None else shown.facts,
        )

    async def _shown(self, question: RestQuestion) -> Shown:
        """The scenes that a question names; raises as :meth:`SceneDesk.shown`."""
        try:
            if question.media or question.blocks:
                raise InvalidQuestionError("scenes", "go without media and blocks; one of them is shown")
            return await self.desk.shown(question.scenes, question.peer)
        except EdgeServerError as error:
            self._cell.refused(error, question.peer)
            raise


def _theirs(shown: Shown, named: EngineBackend | None) -> EngineBackend:
    """The model of scenes, unless another one was named."""
    theirs, wanted = shown.backend.model.name, shown.backend.model.name if named is None else named.model.name
    if wanted != theirs:
        raise InvalidQuestionError("model", f"is {wanted!r}; the scenes were made for {theirs!r}")
    return shown.backend


async def _made_ready(
    question: RestQuestion, backend: EngineBackend, history: History, left_out: int, shown: Shown | None
) -> tuple[Prompt, Ingested, int]:
    """The prompt of a question, what was made of its media, and how many turns are left out."""
    ingest, model = backend.served.ingest, backend.model
    if question.turns and backend.served.shape.turns and shown is None:
        turns, seen = await ready_turns(question.turns, question.media, ingest, question.link, question.user)
        prompt, left_out = fitted_prompt(turns, history.spare, left_out, model, question.user)
        return prompt, seen, left_out
    ready = await ingest.prepare(
        question.media, question.text, history.without(left_out), question.link, question.user
    )
    if history.spare:

        async def ids_of(text: str) -> tuple[int, ...]:
            made = await ingest.prepare((), "", text, question.link, question.user)
            return made.context_ids

        ready, left_out = await fitted(history, left_out, ready, model, ids_of)
    blocks = (*question.blocks, *ready.blocks, *(shown.blocks if shown is not None else ()))
    # A video brings its sound along: only now is it known what there is.
    check_modalities([block.modality for block in blocks], "media")
    # What goes before a question of a conversation is its own, and not asked about by others.
    kept_as = shown.kept_as if shown is not None and not ready.context_ids else ""
    prompt = Prompt(
        blocks, ready.question_ids, ready.context_ids, conversation=question.user, kept_as=kept_as
    )
    return prompt, ready, left_out


def _request(question: RestQuestion, prompt: Prompt, traceparent: str) -> engine.Request:
    return engine.Request(
        prompt=prompt,
        user=question.user,
        max_new_tokens=question.max_new_tokens,
        deadline_s=question.deadline_s,
        priority=question.priority,
        whole=question.whole,
        stop=question.stop,
        tokens=question.tokens,
        traceparent=traceparent,
    )


def peer_of(request: Request) -> Peer | None:
    """Whose key a request came with; None where no key is asked for."""
    peer: Peer | None = request.scope.get(PEER)
    return peer


def user_of(request: Request, claimed: str | None) -> str:
    """Whom a request counts for: whose key it came with, or who it says it is, or where it comes from."""
    peer = peer_of(request)
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
