"""The TokenLink service over gRPC: thin. Translate, delegate, map errors.

A client that goes away cancels its handler, and the handler closes its subscription: a run in which nobody is
interested any more leaves the batch. A device that lost its link asks again under the same request_id; if its
answer was complete by then, it is not run again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TypeAlias, TypeVar

import grpc
import grpc.aio

from edge_server.cell import Cell, Hold, Peer, Session, SharedBound
from edge_server.engine import AnswerStream, Request
from edge_server.errors import (
    AdmissionRefusedError,
    DrainingError,
    EdgeServerError,
    InvalidQuestionError,
    NotFoundError,
)
from edge_server.frontdoor.backend import Backends, EngineBackend, bundle_for, not_served
from edge_server.frontdoor.device_names import checked_device
from edge_server.frontdoor.grpc.call_gate import Callers
from edge_server.frontdoor.grpc.conversation import Admitted, Conversation
from edge_server.frontdoor.grpc.downlink import Downlink, send
from edge_server.frontdoor.grpc.downloads import Downloads
from edge_server.frontdoor.grpc.ending import abort
from edge_server.frontdoor.grpc.grants import grant_message
from edge_server.frontdoor.grpc.messages import Received, parsed
from edge_server.frontdoor.grpc.rounds import RoundsDesk
from edge_server.frontdoor.grpc.sharing import Sharing, digest_of
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.ports import BundleArchive
from edge_server.frontdoor.questions import priority_of, request_of
from edge_server.frontdoor.rounds import Submit
from edge_server.frontdoor.tracing import NotTraced, QuestionTrace, Tracing
from protos.metadata import TRACEPARENT_KEY
from protos.tokenlink.v1 import tokenlink_pb2 as pb

logger = logging.getLogger(__name__)

_Message = TypeVar("_Message")
_Context: TypeAlias = "grpc.aio.ServicerContext[object, _Message]"


class TokenLinkService:
    """Implements the service ``tokenlink.v1.TokenLink``.

    Args:
        cell: admits sessions and questions.
        backends: the models that are served, with the bundles that it gives.
        metrics: counts.
        version: of this server.
        wall_clock: seconds since the Unix epoch.
        callers: tells who makes a call.
        downloads: sends bundles.
        held: bytes of questions that are in memory.
        sharing: keeps and shows scenes.
        rounds: asks for more of questions that come in rounds.
        tracing: begins spans.
    """

    def __init__(
        self,
        cell: Cell[EngineBackend],
        backends: Backends,
        metrics: Metrics,
        *,
        sharing: Sharing,
        rounds: RoundsDesk,
        version: str,
        callers: Callers,
        downloads: Downloads,
        held: SharedBound,
        wall_clock: Callable[[], float] = time.time,
        tracing: Tracing | None = None,
    ) -> None:
        self._cell = cell
        self._backends = backends
        self._metrics = metrics
        self._version = version
        self._wall_clock = wall_clock
        self._callers = callers
        self._downloads = downloads
        self._held = held
        self._sharing = sharing
        self._rounds = rounds
        self._tracing = tracing or NotTraced()
        self._draining = False
        self._readers: set[asyncio.Task[None]] = set()

    def drain(self) -> None:
        """Take nothing new from open streams; each ends once its questions have."""
        self._draining = True
        self._rounds.drain()
        for reader in self._readers:
            reader.cancel()

    async def OpenSession(  # noqa: N802 (named by the contract)
        self, request: Received[pb.OpenSessionRequest], context: _Context[pb.OpenSessionResponse]
    ) -> pb.OpenSessionResponse:
        """Admit a device, or renew its grant."""
        try:
            message = parsed(request)
            if self._draining:
                raise DrainingError
            peer = self._callers.peer_of(context)
            try:
                device_id = checked_device(message.device_id, "device_id")
            except EdgeServerError as error:
                self._cell.refused(error, peer)
                raise
            session = self._cell.open(device_id, message.bundle_hash, message.snr_db, peer=peer)
        except EdgeServerError as error:
            await abort(context, error)
        logger.info("session opened", extra={"device_id": session.device_id})
        self._cell.told(session)
        return pb.OpenSessionResponse(
            session_id=session.session_id,
            grant=grant_message(session.grant, session.grant.valid_s),
            server_version=self._version,
            model_name=self._backends.of(message.bundle_hash).model.name,
            current_bundle_hash=bundle_for(self._backends, message.bundle_hash, message.device_id),
            server_time_s=self._wall_clock(),
        )

    async def CloseSession(  # noqa: N802 (named by the contract)
        self, request: Received[pb.CloseSessionRequest], context: _Context[pb.CloseSessionResponse]
    ) -> pb.CloseSessionResponse:
        """End a session; its questions in flight are cancelled."""
        try:
            self._cell.close(parsed(request).session_id, peer=self._callers.peer_of(context))
        except EdgeServerError as error:
            await abort(context, error)
        return pb.CloseSessionResponse()

    async def Ask(  # noqa: N802 (named by the contract)
        self, request: Received[pb.AskRequest], context: _Context[pb.DownlinkFrame]
    ) -> None:
        """One question. What ends it without an answer is the status of the call."""
        try:
            message = parsed(request)
            request_id = message.question.request_id
            trace = self._tracing.question("Ask", _traceparent_of(context), request_id)
            with self._hold(context, message.ByteSize()):
                admitted = await self._ask(message, self._callers.peer_of(context), trace)
                try:
                    await send(message.question, admitted.subscription, trace, context.write, admitted.scenes)
                finally:
                    admitted.subscription.close()
        except EdgeServerError as error:
            await abort(context, error)

    async def Converse(  # noqa: N802 (named by the contract)
        self,
        uplink: AsyncIterator[Received[pb.UplinkFrame]],
        context: _Context[pb.DownlinkFrame],
    ) -> None:
        """Many questions, multiplexed by request_id. What ends one without an answer is a Failure frame."""
        try:
            conversation = Conversation(
                self._cell,
                self._ask,
                self._tracing,
                Downlink(context),
                self._callers.peer_of(context),
                lambda size_bytes: self._hold(context, size_bytes),
                self._rounds,
            )
            try:
                async with asyncio.TaskGroup() as tasks:
                    reader = tasks.create_task(conversation.read(uplink, tasks))
                    self._readers.add(reader)
                    reader.add_done_callback(self._readers.discard)
                    if self._draining:
                        reader.cancel()
            finally:
                await conversation.close()
            if self._draining:
                raise DrainingError
        except EdgeServerError as error:
            await abort(context, error)

    async def GetBundle(  # noqa: N802 (named by the contract)
        self, request: Received[pb.GetBundleRequest], context: _Context[pb.BundleChunk]
    ) -> None:
        """A device bundle's archive, in chunks."""
        try:
            bundle = self._wanted(parsed(request))
            await self._downloads.send(bundle, self._callers.holder_of(context), context)
        except EdgeServerError as error:
            await abort(context, error)

    def _wanted(self, request: pb.GetBundleRequest) -> BundleArchive:
        precision = request.precision or ("" if request.bundle_hash else "fp32")
        backends = [each for each in self._backends if request.model in ("", each.model.name)]
        if not backends:
            raise not_served(request.model, self._backends)
        bundles = [bundle for backend in backends for bundle in backend.served.bundles]
        for bundle in bundles:
            if request.bundle_hash in ("", bundle.bundle_hash) and precision in ("", bundle.precision):
                return bundle
        here = ", ".join(f"{bundle.bundle_hash} ({bundle.precision})" for bundle in bundles) or "none"
        if request.bundle_hash:
            raise NotFoundError(
                "bundle_hash", f"bundle_hash: {request.bundle_hash[:128]!r} is not here; bundles here: {here}"
            )
        raise NotFoundError("precision", f"precision: {precision[:64]!r} is not here; bundles here: {here}")

    def _hold(self, context: _Context[_Message], size_bytes: int) -> Hold:
        """Count a question's bytes for as long as it is in memory.

        Raises:
            AdmissionRefusedError: too many are.
        """
        try:
            return self._held.hold(self._callers.holder_of(context), size_bytes)
        except AdmissionRefusedError as error:
            self._metrics.rejected(error.reason)
            raise

    async def _ask(
        self, frame: pb.UplinkFrame | pb.AskRequest, peer: Peer | None, trace: QuestionTrace
    ) -> Admitted:
        question = frame.question
        run = _at_once
        if question.HasField("rounds"):
            if isinstance(frame, pb.AskRequest) or question.HasField("share") or question.scenes:
                raise InvalidQuestionError("rounds", "are for questions about payloads, over Converse")
            run = self._rounds.begin(question, frame.bundle_hash)
        if question.HasField("share"):
            with trace.admission():
                return self._sharing.share(frame, peer)
        asked = None
        if question.scenes or question.question_text:
            with trace.admission():
                asked = await self._sharing.asked(frame, peer)
        bundle_hash = frame.bundle_hash if asked is None else asked.shown.bundle_hash

        def prepare(session: Session) -> Request:
            trace.runs()
            shape = self._backends.of(bundle_hash).served.shape
            request = request_of(question, session, shape, self._metrics, asked)
            return replace(request, traceparent=trace.traceparent) if trace.traceparent else request

        with trace.admission():
            subscription = self._cell.ask(
                frame.session_id,
                bundle_hash,
                question.request_id,
                digest=digest_of(question),
                size_bytes=question.ByteSize(),
                prepare=prepare,
                peer=peer,
                priority=lambda: priority_of(question.priority),
                run=run,
            )
        facts = () if asked is None else asked.shown.facts
        return Admitted(subscription, tuple(each.message() for each in facts))


def _at_once(session: Session, request: Request, submit: Submit) -> AnswerStream:
    return submit(request)


def _traceparent_of(context: _Context[_Message]) -> str:
    metadata = dict(context.invocation_metadata() or ())
    value = metadata.get(TRACEPARENT_KEY, "")
    return value if isinstance(value, str) else ""
