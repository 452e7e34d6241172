"""A scene: the tokens of one device over one window, and how somebody names one."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Vector: TypeAlias = npt.NDArray[np.float32]

MAX_AT_CHARS = 64
_SCENE_ID = re.compile(r"s[0-9a-f]{16}")


@dataclass(frozen=True)
class SceneBlock:
    """One codeword of a scene.

    Attributes:
        modality: of its tokens.
        token_length: how many they are.
        snr_db: Es/N0 after equalisation, what the receiver was told [dB].
        wire: as it was received, in whatever type it was sent; whoever kept it knows how it is read.
    """

    modality: str
    token_length: int
    snr_db: float
    wire: bytes


@dataclass(frozen=True)
class Scene:
    """What a device saw and heard over one window.

    Attributes:
        scene_id: names it.
        device: whose eyes and ears they are, ``DEVICE`` or ``DEVICE/SOURCE``.
        start_s: when the window begins, seconds since the Unix epoch by the server's clock.
        length_s: of the window [s].
        bundle_hash: of the bundle that made the tokens: another model would misread them.
        blocks: the tokens.
        keep_until_s: it goes then, by the same clock.
        space: names the space that ``vector`` is in; vectors of two spaces cannot be compared.
        vector: where it stands in that space, of unit length, [D]; None: it is not found by a text.
        thumbnail: a small JPEG for people, given to a store; what comes from one has it only where
            :meth:`edge_server.scenes.store.SceneStore.thumbnail` was asked.
    """

    scene_id: str
    device: str
    start_s: float
    length_s: float
    bundle_hash: str
    blocks: tuple[SceneBlock, ...]
    keep_until_s: float = math.inf
    space: str = ""
    vector: Vector | None = field(default=None, compare=False)
    thumbnail: bytes = field(default=b"", compare=False, repr=False)

    @property
    def end_s(self) -> float:
        """When the window ends, by the server's clock [s]."""
        return self.start_s + self.length_s

    @property
    def size_bytes(self) -> int:
        """Of its tokens as they are kept, and of a picture that comes with them."""
        return sum(len(block.wire) for block in self.blocks) + len(self.thumbnail)


def scene_id_of(sender: str, request_id: str) -> str:
    """The name of the scene that a device shared under a key: shared twice, it is one scene.

    Args:
        sender: the device, as its session knows it.
        request_id: its key.
    """
    return "s" + hashlib.sha256(f"{sender}\n{request_id}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class At:
    """Which of a device's scenes: by its id, or the last one that had begun at a time.

    Attributes:
        scene_id: of the scene; empty: by time.
        time_s: by the server's clock [s]; infinite: the last there is.
    """

    scene_id: str = ""
    time_s: float = math.inf


def parse_at(text: str, now_s: float) -> At:
    """What somebody means by ``at``.

    Args:
        text: empty or ``latest``; an id; seconds since the Unix epoch; ``-90``: seconds ago; or a time as
            ISO 8601 writes it, in UTC where it does not say.
        now_s: by the server's clock.

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip()
    if text in ("", "latest"):
        return At()
    if _SCENE_ID.fullmatch(text):
        return At(scene_id=text)
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if not math.isfinite(number):
            raise ValueError("no such time")
        return At(time_s=now_s + number if number < 0 else number)
    moment = datetime.fromisoformat(text)
    return At(time_s=(moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
