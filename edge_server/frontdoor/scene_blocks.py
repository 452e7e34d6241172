"""What a question shows of scenes: how they are named, what is said of them, blocks as a model takes them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from edge_server.engine import FeatureBlock
from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.backend import EngineBackend
from edge_server.frontdoor.ports import LinkShape
from edge_server.frontdoor.questions import block_of
from edge_server.scenes import Scene, SceneBlock
from protos.names import MODALITIES, SLOT_OF
from protos.tokenlink.v1 import tokenlink_pb2 as pb

MAX_SCENES = 8
"""That one question may name."""


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


def read_block(block: SceneBlock, shape: LinkShape) -> FeatureBlock:
    """A block as a model takes it. Raises as :func:`feature_blocks`."""
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
    return tuple(read_block(block, shape) for block in scene)


def chosen_blocks(asked: SceneAsked, scene: Scene) -> list[SceneBlock]:
    """The blocks that were asked for; a picture stands for a video, and the other way round."""
    slots = {SLOT_OF.get(name, "") for name in asked.modalities}
    chosen = [block for block in scene.blocks if not slots or SLOT_OF[block.modality] in slots]
    if not chosen:
        here = ", ".join(block.modality for block in scene.blocks)
        raise InvalidQuestionError(
            f"{asked.field}.modalities", f"is {', '.join(asked.modalities)}; the scene has {here}"
        )
    return chosen


def shown_name(scene: Scene, blocks: Sequence[SceneBlock], label: Sequence[int] = ()) -> str:
    """Names what is shown of a scene: other tokens, and another label, have another name."""
    of_blocks = (f"{block.modality}-{zlib.crc32(block.wire):08x}" for block in blocks)
    return ":".join([scene.scene_id, *of_blocks, *map(str, label)])


def slots_in_words() -> str:
    """What a model takes one of each, in words."""
    by_slot: dict[str, list[str]] = {}
    for name, slot in SLOT_OF.items():
        by_slot.setdefault(slot, []).append(name)
    return " and one of ".join("/".join(names) for names in by_slot.values())
