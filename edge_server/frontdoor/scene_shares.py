"""What devices share, checked as the tokens of a question are, and put on the server's clock."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge_server.cell import Session
from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.device_names import checked_device
from edge_server.frontdoor.ports import LinkShape
from edge_server.frontdoor.questions import block_of, check_modalities
from edge_server.frontdoor.scene_blocks import slots_in_words
from edge_server.scenes import Scene, SceneBlock, SenderClock, scene_id_of
from edge_server.scenes.clocks import MAX_CLOCKS, sender_key
from protos.names import MODALITIES, SLOT_OF
from protos.tokenlink.v1 import tokenlink_pb2 as pb

MAX_LENGTH_S = 3600.0
MAX_THUMBNAIL_BYTES = 16_384
_JPEG = b"\xff\xd8\xff"
_LONGEST_WAIT_S = 400 * 86_400.0
"""A device that says that it shares what is older is not believed."""
_SET_S = 60.0
"""No frame is under way for longer."""
_FASTER, _DRIFT = 0.1, 1e-3
"""So much of the time that has passed may what is known of a clock change, down and up."""


@dataclass(frozen=True)
class Received:
    """What a device shared.

    Attributes:
        scene: as it is to be kept.
        clock: of the device, by which its start was told; None: it was told by ours.
    """

    scene: Scene
    clock: SenderClock | None


class Incoming:
    """Makes scenes of what devices share.

    Args:
        wall_clock: seconds since the Unix epoch, by which all scenes are told.
        thumbnails: whether small pictures that come with scenes are kept.
    """

    def __init__(self, wall_clock: Callable[[], float], *, thumbnails: bool = False) -> None:
        self._thumbnails = thumbnails
        self._wall_clock = wall_clock
        self._clocks: OrderedDict[str, SenderClock] = OrderedDict()

    def restore(self, clocks: Iterable[SenderClock]) -> None:
        """Go on from what was known of senders' clocks, that which was silent longest first."""
        for clock in clocks:
            self._know(clock)

    def received(
        self, question: pb.Question, session: Session, bundle_hash: str, shape: LinkShape, sent_at_s: float
    ) -> Received:
        """What a device shares, checked as the tokens of a question are.

        Args:
            question: its payloads, and what ``share`` says.
            session: of the device.
            bundle_hash: of the bundle that made them.
            shape: token blocks that the model takes.
            sent_at_s: by the device's clock [s]; 0: it does not say.

        Raises:
            InvalidQuestionError: names the field, what was found and what is allowed.
            PermissionDeniedError: the device shares by another's name.
        """
        share = question.share
        device = share.device or (session.owner.name if session.owner is not None else session.device_id)
        checked_device(device, "share.device")
        if session.owner is not None:
            session.owner.check_device_id(device)
        if question.question_ids or question.context_ids or question.question_text or question.scenes:
            raise InvalidQuestionError("share", "goes without a question")
        if not (math.isfinite(share.length_s) and 0.0 <= share.length_s <= MAX_LENGTH_S):
            raise InvalidQuestionError("share.length_s", f"is {share.length_s}; 0 to {MAX_LENGTH_S:g}")
        if share.thumbnail and not (
            len(share.thumbnail) <= MAX_THUMBNAIL_BYTES and share.thumbnail.startswith(_JPEG)
        ):
            raise InvalidQuestionError(
                "share.thumbnail",
                f"has {len(share.thumbnail)} bytes; a JPEG of at most {MAX_THUMBNAIL_BYTES} is allowed",
            )
        blocks = [
            _kept(received, f"payloads[{index}]", session.grant.max_token_length, shape)
            for index, received in enumerate(question.payloads[: len(MODALITIES) + 1])
        ]
        check_modalities([block.modality for block in blocks], "payloads")
        if not blocks:
            raise InvalidQuestionError("payloads", "is empty; a scene has at least one block")
        start_s, clock = self._start_s(sender_key(session.device_id), share, sent_at_s)
        scene = Scene(
            scene_id=scene_id_of(session.device_id, question.request_id),
            device=device,
            start_s=start_s,
            length_s=share.length_s,
            bundle_hash=bundle_hash,
            blocks=tuple(blocks),
            thumbnail=share.thumbnail if self._thumbnails else b"",
        )
        return Received(scene, clock)

    def _start_s(self, sender: str, share: pb.Share, sent_at_s: float) -> tuple[float, SenderClock | None]:
        """When a window began, by our clock; what one device shares stays in the order of its own clock."""
        now_s = self._wall_clock()
        ago_s = sent_at_s - share.start_s
        if not (share.start_s > 0.0 and math.isfinite(ago_s) and sent_at_s > 0.0):
            return now_s - share.length_s, None
        if not 0.0 <= ago_s <= _LONGEST_WAIT_S:
            return now_s - min(max(ago_s, 0.0), _LONGEST_WAIT_S), None
        ahead_s = now_s - sent_at_s
        kept = self._clocks.get(sender, SenderClock(sender, ahead_s, share.start_s))
        kept_s, latest_s = kept.ahead_s, kept.latest_s
        if abs(ahead_s - kept_s) > _SET_S:
            kept_s = ahead_s  # one of the clocks was set
        passed_s = max(share.start_s - latest_s, 0.0)
        # A frame that was longer under way makes our clock seem further ahead of theirs: the least is true.
        # It is approached so slowly that two windows do not change places.
        ahead_s = min(max(ahead_s, kept_s - _FASTER * passed_s), kept_s + _DRIFT * passed_s)
        clock = SenderClock(sender, ahead_s, max(share.start_s, latest_s))
        self._know(clock)
        return share.start_s + ahead_s, clock

    def _know(self, clock: SenderClock) -> None:
        self._clocks[clock.sender] = clock
        self._clocks.move_to_end(clock.sender)
        while len(self._clocks) > MAX_CLOCKS:
            self._clocks.popitem(last=False)


def _kept(received: pb.TokenPayload, field: str, max_token_length: int, shape: LinkShape) -> SceneBlock:
    """A block as it is kept: as it came, after it was read once."""
    block = block_of(received, field, max_token_length, shape)
    if block.modality not in SLOT_OF:
        raise InvalidQuestionError(
            f"{field}.modality", f"is {block.modality!r}; a scene has {slots_in_words()}"
        )
    return SceneBlock(block.modality, len(block.x_TC), block.snr_db, received.SerializeToString())
