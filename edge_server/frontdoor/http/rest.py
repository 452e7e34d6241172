"""REST: ``/v1/infer``, the OpenAI door, health, metrics, API description."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from edge_server.cell import Limits, SharedBound
from edge_server.frontdoor.http import errors as http_errors
from edge_server.frontdoor.http import openai, openai_honoured, openai_responses, root
from edge_server.frontdoor.http.api_keys import OPEN_PATHS, ApiKeys, KeyRing
from edge_server.frontdoor.http.as_written import AsWritten
from edge_server.frontdoor.http.asking import (
    Asker,
    RestQuestion,
    peer_of,
    traceparent_of,
    user_of,
    while_connected,
)
from edge_server.frontdoor.http.body_limit import BodyLimit
from edge_server.frontdoor.http.description import OwnPagesOnly
from edge_server.frontdoor.http.errors import ErrorBody, ErrorDetail
from edge_server.frontdoor.http.every import about_every
from edge_server.frontdoor.http.hosts import HostCheck
from edge_server.frontdoor.http.openai_asking import Door
from edge_server.frontdoor.http.openai_question import ChatRules
from edge_server.frontdoor.http.rest_schema import (
    CostPart,
    InferRequest,
    InferResponse,
    SceneShownPart,
    ShownPart,
)
from edge_server.frontdoor.http.scenes import build_scenes
from edge_server.frontdoor.http.spool import in_memory, with_files
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.ports import Page, RawMedia
from edge_server.frontdoor.questions import block_of

_FLOAT32_BYTES = 4


class Health(BaseModel):
    """What a probe is told.

    Attributes:
        status: ``alive``, ``ready`` or ``degraded``.
        model: name of the model.
        bundle_hash: of the device bundle that it belongs to.
        runners: how many of what the engine computes with can compute.
        of_runners: how many of those there are.
    """

    status: str
    model: str
    bundle_hash: str
    runners: int
    of_runners: int


def build_app(
    asker: Asker,
    metrics: Metrics,
    *,
    max_body_bytes: int,
    receive_s: float,
    limits: Limits,
    held: SharedBound,
    uploads: SharedBound,
    max_upload_bytes: int,
    upload_folder: Path | None,
    max_windows: int,
    version: str,
    wall_clock: Callable[[], float],
    new_id: Callable[[], str],
    chat: ChatRules,
    cors_origins: Sequence[str] = (),
    hosts: Collection[str] | None = None,
    checks_origin: bool = True,
    keys: KeyRing | None = None,
    metrics_open: bool = True,
    page: Page | None = None,
) -> FastAPI:
    """The REST application.

    Args:
        asker: brings questions to the engine.
        metrics: counts, and is served.
        max_body_bytes: largest HTTP body.
        receive_s: time for a body to arrive [s].
        limits: on what each API key may ask.
        held: bytes of bodies that are in memory.
        uploads: bytes of media of bodies that are in files.
        max_upload_bytes: of the media of one body.
        upload_folder: on whose disk they lie; None: that of temporary files.
        max_windows: that one request may ask about.
        version: of this server.
        wall_clock: seconds since the Unix epoch.
        new_id: makes ids of answers.
        chat: what the OpenAI door keeps to.
        cors_origins: of pages elsewhere whose scripts may ask here; ``*``: of any.
        hosts: names by which it may be called; None: any.
        checks_origin: other pages may not ask unless ``cors_origins`` names them.
        keys: the API keys that are good; None: none is asked for.
        metrics_open: ``/metrics`` is shown without one.
        page: for browsers, at ``/``; it asks for keys itself.
    """
    app = FastAPIOffline(
        title="TokenLink edge server",
        version=version,
        summary="Questions about what a device saw and heard, answered by the model at the base station.",
        responses={
            "4XX": {"model": ErrorBody, "description": "The question is at fault, or too much is asked."},
            "5XX": {"model": ErrorBody, "description": "The server is at fault."},
        },
        # The description's pages ask nobody elsewhere, not to check it either.
        swagger_ui_parameters={"validatorUrl": None},
        # A redirect names the scheme that a proxy in front does not have.
        redirect_slashes=False,
    )
    http_errors.install(app)
    door = Door(asker, chat, limits, wall_clock, new_id)
    app.include_router(_operations(asker, metrics))
    app.include_router(_infer(asker, limits, max_windows))
    app.include_router(build_scenes(asker.desk))
    app.include_router(openai.build_router(door))
    app.include_router(openai_responses.build_router(door))
    app.add_middleware(OwnPagesOnly)
    root.install(app, page, lambda: asker.backend.model.name)
    app.add_middleware(
        BodyLimit,
        max_bytes=max_body_bytes,
        within_s=receive_s,
        limits=limits,
        held=held,
        uploads=uploads,
        max_upload_bytes=max_upload_bytes,
        folder=upload_folder,
        takes_body=lambda method, path: _takes_body(method, path, page),
        is_there=functools.partial(http_errors.is_there, app),
        refused=metrics.rejected,
    )
    if keys is not None:
        open_paths = OPEN_PATHS | {"/metrics"} if metrics_open else OPEN_PATHS
        # Added last, asked first: nobody without a key is read from.
        app.add_middleware(
            ApiKeys,
            keys=keys,
            is_open=lambda path: path in open_paths or (page is not None and page.serves(path)),
            refused=metrics.rejected,
        )
    if hosts is not None or checks_origin:
        app.add_middleware(
            HostCheck,
            hosts=hosts,
            origins=cors_origins,
            is_open=OPEN_PATHS.__contains__,
            refused=metrics.rejected,
        )
    if cors_origins:
        # Before the keys: a browser asks whether it may ask without one.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "Retry-After-Ms", openai_honoured.HEADER],
        )
    app.add_middleware(AsWritten, leaves=lambda path: page is not None and page.serves(path))
    return app


def _takes_body(method: str, path: str, page: Page | None) -> bool:
    if path.startswith("/v1/"):
        # Whatever the method: what is wrong with it is told by the route.
        return True
    return page is not None and page.takes_body(method, path)


def _infer(asker: Asker, limits: Limits, max_windows: int) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/infer", tags=["tokenlink"])
    async def infer(question: InferRequest, request: Request) -> InferResponse:
        """Ask about media, which the server tokenises and sends over an emulated link, or token blocks."""
        named = asker.named(question.model) if question.model else None
        backend = named or asker.backend
        shape, max_token_length = backend.served.shape, max(backend.token_lengths)
        most_bytes = max(max_token_length, shape.max_text_token_length) * shape.channel_dim * _FLOAT32_BYTES
        blocks = tuple(
            block_of(
                part.model_copy(
                    update={"data": in_memory(request.scope, part.data, most_bytes, f"{field}.data")}
                ).payload(field, most_bytes),
                field,
                max_token_length,
                shape,
            )
            for part, field in ((part, f"blocks[{index}]") for index, part in enumerate(question.blocks))
        )
        shown = (
            RawMedia(
                part.type,
                part.data,
                f"media[{index}].data",
                None if part.window is None else part.window.window(f"media[{index}].window"),
            )
            for index, part in enumerate(question.media)
        )
        media = with_files(request.scope, shown)

        async def answer(media: tuple[RawMedia, ...]) -> InferResponse:
            asked = await asker.ask(
                RestQuestion(
                    text=question.question,
                    user=user_of(request, question.user),
                    context=question.context,
                    media=media,
                    blocks=blocks,
                    link=question.link.settings(),
                    sampling=question.sampling(),
                    stop=tuple(question.stop),
                    peer=peer_of(request),
                    max_new_tokens=question.max_new_tokens,
                    deadline_s=question.deadline_s,
                    priority=question.priority,
                    backend=named,
                    scenes=tuple(
                        part.asked(f"scenes[{index}]") for index, part in enumerate(question.scenes)
                    ),
                ),
                traceparent_of(request),
            )
            try:
                completion = await asked.stream.completion()
            finally:
                asked.stream.cancel()
            return InferResponse(
                answer=completion.text,
                probability=completion.probability,
                logprobs=list(completion.logprobs),
                confidence=completion.confidence,
                abstained=completion.abstained,
                guess=completion.guess or None,
                prompt_tokens=completion.prompt_tokens,
                answer_tokens=completion.answer_tokens,
                queue_s=completion.queue_s,
                compute_s=completion.compute_s,
                finish_reason=completion.finish_reason,
                model=asked.model,
                bundle_hash=asked.bundle_hash,
                uplink=[CostPart(**asdict(cost)) for cost in asked.costs],
                scenes=[SceneShownPart(**asdict(facts)) for facts in asked.scenes] or None,
                window=None if asked.ready.window is None else ShownPart(**asdict(asked.ready.window)),
            )

        async def answers() -> InferResponse:
            limited = functools.partial(limits.spend, peer_of(request), questions=1)
            found = [one async for one in about_every(answer, media, limited, max_windows)]
            return found[0].model_copy(update={"windows": found})

        return await while_connected(request, answers() if question.every else answer(media))

    return router


def _operations(asker: Asker, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["operations"])

    def health(status: str) -> Health:
        backend = asker.backend
        model, engine = backend.model, backend.engine.status
        return Health(
            status=status,
            model=model.name,
            bundle_hash=model.bundle_hash,
            runners=engine.runners,
            of_runners=engine.of_runners,
        )

    @router.get("/livez")
    async def livez() -> Health:
        """Whether the process answers at all."""
        return health("alive")

    @router.get("/readyz", response_model=Health)
    async def readyz() -> Health | JSONResponse:
        """Whether questions are accepted and the engine makes progress.

        ``degraded``: it does, with fewer runners than it has, or without one of the models beside the first;
        an operator is told, a balancer need not be.
        """
        engine = asker.backend.engine.status
        if engine.ready:
            whole = all(each.engine.status.ready and not each.engine.status.degraded for each in asker.newest)
            return health("ready" if whole else "degraded")
        reason = "the server is draining" if engine.draining else "the engine makes no progress"
        detail = ErrorDetail(message=reason, type="server_error", code="unavailable")
        return JSONResponse(ErrorBody(error=detail).model_dump(), 503)

    @router.get("/metrics", response_class=Response)
    async def exposition() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return router
