"""What a stream's frames say of scenes: shares are stored and acknowledged, named ones are looked up."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from edge_server.cell import Cell, Peer, Session
from edge_server.engine import AnswerStream, Completion
from edge_server.errors import EdgeServerError, InvalidQuestionError
from edge_server.frontdoor.backend import Backends, EngineBackend
from edge_server.frontdoor.grpc.conversation import Admitted
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.ports import LinkSettings
from edge_server.frontdoor.questions import AboutScenes, check_text, note_sent
from edge_server.frontdoor.scene_blocks import Shown, asked_of
from edge_server.frontdoor.scene_shares import Received
from edge_server.frontdoor.scenes import SceneDesk
from edge_server.frontdoor.status import known
from edge_server.scenes import scene_id_of
from protos.tokenlink.v1 import tokenlink_pb2 as pb

_STORED = Completion("", 1.0, 0, 0, 0.0, 0.0, "stop")
"""The answer to a share: nothing is said, and it is safe."""


@dataclass(frozen=True)
class AskedAbout(AboutScenes):
    """A question about scenes that are there.

    Attributes:
        shown: the scenes.
    """

    shown: Shown


class Sharing:
    """Takes what is shared, and finds what is asked about.

    Args:
        cell: admits it.
        desk: keeps scenes, and says who may see them.
        backends: the models that are served.
        metrics: counts blocks.
    """

    def __init__(
        self, cell: Cell[EngineBackend], desk: SceneDesk, backends: Backends, metrics: Metrics
    ) -> None:
        self._cell = cell
        self._desk = desk
        self._backends = backends
        self._metrics = metrics
        self._storing: set[asyncio.Task[None]] = set()

    def share(self, frame: pb.UplinkFrame | pb.AskRequest, peer: Peer | None) -> Admitted:
        """Admit a scene; its answer comes once it is stored. Raises what the cell raises."""
        question = frame.question
        sent_at_s = frame.sent_at_s if isinstance(frame, pb.UplinkFrame) else 0.0
        kept: list[pb.SceneShown] = []

        def begin(session: Session) -> AnswerStream:
            shape = self._backends.of(frame.bundle_hash).served.shape
            received = self._desk.incoming.received(question, session, frame.bundle_hash, shape, sent_at_s)
            scene = received.scene
            for block, payload in zip(scene.blocks, question.payloads, strict=True):
                self._metrics.block(
                    block.modality, block.token_length, payload.channel.airtime_s, block.snr_db
                )
            note_sent(question, session, self._metrics)
            kept.append(self._desk.facts_of(scene).message())
            # Whoever shared it may go away: it is stored all the same.
            stream = AnswerStream(lambda: None)
            task = asyncio.create_task(self._store(received, stream))
            self._storing.add(task)
            task.add_done_callback(self._storing.discard)
            return stream

        subscription = self._cell.share(
            frame.session_id,
            frame.bundle_hash,
            question.request_id,
            digest=digest_of(question),
            size_bytes=question.ByteSize(),
            begin=begin,
            peer=peer,
        )
        if not kept:  # it was shared before
            session = self._cell.session(frame.session_id, peer)
            scene_id = scene_id_of(session.device_id, question.request_id)
            kept.append(pb.SceneShown(device=question.share.device, scene_id=scene_id))
        return Admitted(subscription, tuple(kept))

    async def _store(self, received: Received, stream: AnswerStream) -> None:
        try:
            await self._desk.keep(received)
        except Exception as error:
            stream.fail(known(error))
        else:
            stream.push(_STORED)

    async def asked(self, frame: pb.UplinkFrame | pb.AskRequest, peer: Peer | None) -> AskedAbout:
        """The scenes that a question names, and what it asks; raises what cell and desk raise."""
        question = frame.question
        session = self._cell.session(frame.session_id, peer)
        try:
            if not question.scenes:
                raise InvalidQuestionError("question_text", "goes with scenes; else question_ids ask")
            if question.payloads:
                raise InvalidQuestionError("payloads", "go without scenes")
            if bool(question.question_text) == bool(question.question_ids):
                raise InvalidQuestionError("question_text", "or question_ids: one of them asks")
            shown = await self._desk.shown(asked_of(question.scenes), peer)
            ids: tuple[int, ...] = ()
            if question.question_text:
                check_text(question.question_text, "question_text", shown.backend.served.shape)
                ready = await shown.backend.served.ingest.prepare(
                    (), question.question_text, "", LinkSettings(), session.device_id
                )
                ids = ready.question_ids
            elif frame.bundle_hash and self._backends.of(frame.bundle_hash) is not shown.backend:
                raise InvalidQuestionError(
                    "question_ids",
                    f"are of another tokenizer than {shown.backend.model.name}'s; send text",
                )
        except EdgeServerError as error:
            self._cell.refused(error, peer)
            raise
        return AskedAbout(shown.blocks, ids, shown.kept_as, shown)


def digest_of(question: pb.Question) -> Callable[[], bytes]:
    """What takes the fingerprint of a question's content, once it is needed."""
    return lambda: hashlib.sha256(question.SerializeToString(deterministic=True)).digest()
