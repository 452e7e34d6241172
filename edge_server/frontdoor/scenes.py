"""Scenes at both doors: what devices share, what a question shows of it, who may see whose.

share ─▶ checked as a question's tokens are ─▶ Scene ─▶ stored ─▶ acknowledged
question ─▶ may they? ─▶ found ─▶ the model that its tokens were made for ─▶ blocks of its prompt
"""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from google.protobuf.message import DecodeError

from edge_server.cell import Peer, Session
from edge_server.engine import FeatureBlock
from edge_server.errors import (
    BundleMismatchError,
    InvalidQuestionError,
    NotFoundError,
    PermissionDeniedError,
    SceneBundleError,
)
from edge_server.frontdoor.backend import Backends, EngineBackend
from edge_server.frontdoor.ports import LinkShape
from edge_server.frontdoor.questions import block_of, check_modalities
from edge_server.scenes import (
    Found,
    Readers,
    Scene,
    SceneBlock,
    Scenes,
    Wanted,
    may_read,
    parse_at,
    scene_id_of,
)
from edge_server.scenes.scene import MAX_AT_CHARS, MAX_DEVICE_CHARS
from edge_server.scenes.store import DeviceScenes
from protos.names import MODALITIES, SLOT_OF
from protos.tokenlink.v1 import tokenlink_pb2 as pb

MAX_SCENES = 8
"""That one question may name."""
MAX_LENGTH_S = 3600.0
_LONGEST_WAIT_S = 400 * 86_400.0
"""A device that says that it shares what is older is not believed."""

logger = logging.getLogger("tokenlink.audit")


@dataclass(frozen=True)
class SceneAsked:
    """A scene as a question names it.

    Attributes:
        device: whose.
        at: which of its scenes, as :func:`edge_server.scenes.parse_at` reads it.
        modalities: of its blocks, these; none: all.
        field: where it stood, as a path.
    """

    device: str
    at: str
    modalities: tuple[str, ...]
    field: str


@dataclass(frozen=True)
class SceneFacts:
    """What of a scene a question was answered from.

    Attributes:
        device: whose.
        scene_id: its id; empty: there is none.
        start_s: when it begins, seconds since the Unix epoch by the server's clock.
        length_s: of it [s].
        age_s: from its end until now [s].
        stale: it is too old to be the present.
    """

    device: str
    scene_id: str = ""
    start_s: float = 0.0
    length_s: float = 0.0
    age_s: float = 0.0
    stale: bool = False

    def message(self) -> pb.SceneShown:
        """The same on the wire."""
        return pb.SceneShown(
            device=self.device,
            scene_id=self.scene_id,
            start_s=self.start_s,
            length_s=self.length_s,
            age_s=self.age_s,
            stale=self.stale,
        )


@dataclass(frozen=True)
class Shown:
    """Scenes that a question is about.

    Attributes:
        backend: the model that their tokens were made for.
        bundle_hash: of the bundle that made them.
        blocks: what the model is shown.
        facts: of each scene that was named, in that order.
        kept_as: names what is shown, for whoever keeps what was computed of it.
    """

    backend: EngineBackend
    bundle_hash: str
    blocks: tuple[FeatureBlock, ...]
    facts: tuple[SceneFacts, ...]
    kept_as: str


class SceneDesk:
    """Shares, shows, lists, finds and deletes scenes for whoever may.

    Args:
        scenes: what is kept.
        readers: says whose scenes somebody may see.
        backends: the models that are served.
    """

    def __init__(self, scenes: Scenes, readers: Readers, backends: Backends) -> None:
        self.scenes = scenes
        self._readers = readers
        self._backends = backends

    def received(
        self, question: pb.Question, session: Session, bundle_hash: str, shape: LinkShape, sent_at_s: float
    ) -> Scene:
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
        if not 1 <= len(device) <= MAX_DEVICE_CHARS or not device.isprintable() or "*" in device:
            raise InvalidQuestionError(
                "share.device",
                f"is {device[:MAX_DEVICE_CHARS]!r}; 1 to {MAX_DEVICE_CHARS} printable characters, no '*'",
            )
        if session.owner is not None:
            session.owner.check_device_id(device)
        if question.question_ids or question.context_ids or question.question_text or question.scenes:
            raise InvalidQuestionError("share", "goes without a question")
        if not (math.isfinite(share.length_s) and 0.0 <= share.length_s <= MAX_LENGTH_S):
            raise InvalidQuestionError("share.length_s", f"is {share.length_s}; 0 to {MAX_LENGTH_S:g}")
        blocks = [
            _kept(received, f"payloads[{index}]", session.grant.max_token_length, shape)
            for index, received in enumerate(question.payloads[: len(MODALITIES) + 1])
        ]
        check_modalities([block.modality for block in blocks], "payloads")
        if not blocks:
            raise InvalidQuestionError("payloads", "is empty; a scene has at least one block")
        return Scene(
            scene_id=scene_id_of(session.device_id, question.request_id),
            device=device,
            start_s=self._start_s(share, sent_at_s),
            length_s=share.length_s,
            bundle_hash=bundle_hash,
            blocks=tuple(blocks),
        )

    def facts_of(self, scene: Scene) -> SceneFacts:
        """What there is to say of a scene now."""
        age_s = max(self.scenes.wall_clock() - scene.end_s, 0.0)
        stale = age_s > self.scenes.stale_s
        return SceneFacts(scene.device, scene.scene_id, scene.start_s, scene.length_s, age_s, stale)

    async def keep(self, scene: Scene) -> Scene:
        """Store a scene; safe when it returns. Raises EngineFailureError where it cannot be stored."""
        return await self.scenes.share(scene, self._backends.of(scene.bundle_hash).served.space)

    async def shown(self, asked: Sequence[SceneAsked], peer: Peer | None) -> Shown:
        """What a question about scenes shows the model.

        Args:
            asked: at least one.
            peer: who asks; None: nobody had to show who they are.

        Raises:
            InvalidQuestionError: one is named wrongly, or they cannot be shown together.
            PermissionDeniedError: they may not see one.
            NotFoundError: none of them is there.
            SceneBundleError: the model that one was made for is not served any more.
        """
        if len(asked) > MAX_SCENES:
            raise InvalidQuestionError("scenes", f"holds {len(asked)}; at most {MAX_SCENES}")
        now_s = self.scenes.wall_clock()
        # All doors first: what is not there looks like what is, to who may not see it.
        for each in asked:
            self._check(each.device, peer, f"{each.field}.device")
        facts: list[SceneFacts] = []
        there: list[tuple[SceneAsked, Scene]] = []
        for each in asked:
            try:
                at = parse_at(each.at[: MAX_AT_CHARS + 1], now_s)
            except ValueError as error:
                raise InvalidQuestionError(
                    f"{each.field}.at",
                    f"is {each.at[:MAX_AT_CHARS]!r}; latest, an id, seconds since 1970 or ago (-90), or a "
                    "time such as 2030-01-31T12:00:00",
                ) from error
            scene = await self.scenes.find(each.device, at)
            facts.append(SceneFacts(each.device) if scene is None else self.facts_of(scene))
            if scene is not None:
                there.append((each, scene))
        if not there:
            names = ", ".join(f"{each.device!r} at {each.at or 'latest'!r}" for each in asked)
            raise NotFoundError(asked[0].field, f"{asked[0].field}: there is no scene of {names[:256]}")
        backend = self._backend([scene for _, scene in there])
        blocks: dict[str, FeatureBlock] = {}
        filled: dict[str, str] = {}
        for each, scene in there:
            for block in _chosen(each, scene):
                slot = SLOT_OF[block.modality]
                if slot in blocks:
                    raise InvalidQuestionError(
                        each.field,
                        f"brings {block.modality} of {scene.device!r}, and {filled[slot]} is shown already; "
                        f"{backend.model.name} takes one of {_slots()}: name modalities of each scene",
                    )
                blocks[slot] = _read(block, backend.served.shape)
                filled[slot] = f"{block.modality} of {scene.device!r}"
        kept_as = " ".join(_name_of(scene, _chosen(each, scene)) for each, scene in there)
        bundle_hash = there[0][1].bundle_hash
        return Shown(backend, bundle_hash, tuple(blocks.values()), tuple(facts), kept_as)

    def all_of(self, scene: Scene) -> Shown:
        """What a scene shows the model, for the server itself.

        Raises:
            SceneBundleError: its model is not served any more.
        """
        backend = self._backend([scene])
        blocks = feature_blocks(scene.blocks, shape=backend.served.shape)
        names = ",".join(sorted(block.modality for block in scene.blocks))
        return Shown(backend, scene.bundle_hash, blocks, (self.facts_of(scene),), f"{scene.scene_id}:{names}")

    async def listed(
        self, wanted: Wanted, peer: Peer | None, most: int
    ) -> tuple[list[DeviceScenes], list[Scene]]:
        """Devices and their latest scenes, as far as somebody may see them."""
        wanted = self._seen_by(wanted, peer)
        return await self.scenes.call(lambda store: (store.devices(wanted), store.scenes(wanted, most)))

    async def search(self, text: str, wanted: Wanted, peer: Peer | None, most: int) -> list[Found]:
        """Scenes that a text says something of, as far as somebody may see them.

        Raises:
            InvalidQuestionError: the text is empty, or the model has no space for it.
        """
        if not text.strip():
            raise InvalidQuestionError("query", "is empty; say what is looked for")
        backend = self._backends.current
        if backend.served.space is None:
            raise InvalidQuestionError(
                "query",
                f"cannot be looked for: {backend.model.name} has no space of texts and scenes",
            )
        return await self.scenes.search(text, backend.served.space, self._seen_by(wanted, peer), most)

    async def delete(self, wanted: Wanted, peer: Peer | None) -> int:
        """Delete a device's own scenes for good; of others, nobody's are: that is the operator's.

        Raises:
            PermissionDeniedError: they are another's.
        """
        if peer is not None:
            for device in wanted.devices:
                if device != peer.name and not device.startswith(f"{peer.name}/"):
                    raise PermissionDeniedError(
                        "device",
                        f"is {device[:MAX_DEVICE_CHARS]!r}; {peer.name!r} deletes its own, and the operator "
                        "everybody's: edge-server scenes delete",
                        reason="scenes",
                    )
        else:
            wanted = self._seen_by(wanted, peer)
        gone = await self.scenes.delete(wanted)
        logger.info(
            "scenes deleted",
            extra={"by": _name(peer), "devices": list(wanted.devices), "scenes": gone},
        )
        return gone

    def _seen_by(self, wanted: Wanted, peer: Peer | None) -> Wanted:
        return replace(wanted, readable=self._readers.readable(_name(peer)))

    def _check(self, device: str, peer: Peer | None, field: str) -> None:
        if not 1 <= len(device) <= MAX_DEVICE_CHARS:
            raise InvalidQuestionError(
                field, f"has {len(device)} characters; 1 to {MAX_DEVICE_CHARS} are allowed"
            )
        seen = may_read(self._readers.readable(_name(peer)), device)
        if peer is not None and device != peer.name:
            logger.info("scenes asked for", extra={"by": peer.name, "device": device, "granted": seen})
        if not seen:
            raise PermissionDeniedError(
                field,
                f"is {device[:MAX_DEVICE_CHARS]!r}, whose scenes {_name(peer)!r} may not see; "
                "edge-server scenes grant lets it",
                reason="scenes",
            )

    def _backend(self, scenes: Sequence[Scene]) -> EngineBackend:
        """What answers for all of them."""
        found = []
        for scene in scenes:
            try:
                found.append(self._backends.of(scene.bundle_hash))
            except BundleMismatchError as error:
                raise SceneBundleError(
                    scene.scene_id, scene.device, scene.bundle_hash, error.server_hashes
                ) from error
        for scene, backend in zip(scenes, found, strict=True):
            if backend is not found[0]:
                raise InvalidQuestionError(
                    "scenes",
                    f"scene {scene.scene_id} of {scene.device!r} is for {backend.model.name}, the first one "
                    f"for {found[0].model.name}; one model answers",
                )
        return found[0]

    def _start_s(self, share: pb.Share, sent_at_s: float) -> float:
        """When a window began, by our clock."""
        now_s = self.scenes.wall_clock()
        ago_s = sent_at_s - share.start_s
        known = share.start_s > 0.0 and math.isfinite(ago_s) and sent_at_s > 0.0
        return now_s - (min(max(ago_s, 0.0), _LONGEST_WAIT_S) if known else share.length_s)


def asked_of(sent: Sequence[pb.SceneRef]) -> list[SceneAsked]:
    """Scenes as the wire names them.

    Raises:
        InvalidQuestionError: a modality is none.
    """
    asked = []
    for index, each in enumerate(sent[: MAX_SCENES + 1]):
        unknown = [number for number in each.modalities if number not in MODALITIES.of_number]
        if unknown:
            raise InvalidQuestionError(
                f"scenes[{index}].modalities", f"holds {unknown[0]}; allowed: {', '.join(MODALITIES)}"
            )
        names = tuple(MODALITIES.of_number[number] for number in each.modalities)
        asked.append(SceneAsked(each.device, each.at, names, f"scenes[{index}]"))
    return asked


def _kept(received: pb.TokenPayload, field: str, max_token_length: int, shape: LinkShape) -> SceneBlock:
    """A block as it is kept: as it came, after it was read once."""
    block = block_of(received, field, max_token_length, shape)
    if block.modality not in SLOT_OF:
        raise InvalidQuestionError(f"{field}.modality", f"is {block.modality!r}; a scene has {_slots()}")
    return SceneBlock(block.modality, len(block.x_TC), block.snr_db, received.SerializeToString())


def _read(block: SceneBlock, shape: LinkShape) -> FeatureBlock:
    try:
        received = pb.TokenPayload.FromString(block.wire)
    except DecodeError as error:
        raise InvalidQuestionError("scenes", f"a scene's {block.modality} cannot be read: {error}") from error
    return block_of(received, "scenes", block.token_length, shape)


def feature_blocks(scene: Sequence[SceneBlock], *, shape: LinkShape) -> tuple[FeatureBlock, ...]:
    """A scene's blocks as a model takes them.

    Raises:
        InvalidQuestionError: one cannot be read.
    """
    return tuple(_read(block, shape) for block in scene)


def _chosen(asked: SceneAsked, scene: Scene) -> list[SceneBlock]:
    """The blocks that were asked for; a picture stands for a video, and the other way round."""
    slots = {SLOT_OF.get(name, "") for name in asked.modalities}
    chosen = [block for block in scene.blocks if not slots or SLOT_OF[block.modality] in slots]
    if not chosen:
        here = ", ".join(block.modality for block in scene.blocks)
        raise InvalidQuestionError(
            f"{asked.field}.modalities", f"is {', '.join(asked.modalities)}; the scene has {here}"
        )
    return chosen


def _name(peer: Peer | None) -> str | None:
    return None if peer is None else peer.name


def _name_of(scene: Scene, blocks: Sequence[SceneBlock]) -> str:
    """Names what is shown of a scene: other tokens have another name."""
    return ":".join([scene.scene_id, *(f"{block.modality}-{zlib.crc32(block.wire):08x}" for block in blocks)])


def _slots() -> str:
    """What a model takes one of each, in words."""
    by_slot: dict[str, list[str]] = {}
    for name, slot in SLOT_OF.items():
        by_slot.setdefault(slot, []).append(name)
    return " and one of ".join("/".join(names) for names in by_slot.values())
