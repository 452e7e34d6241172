"""A scene as doors of a cluster tell it to each other, and back."""

from __future__ import annotations

import logging
import math

import numpy as np
from google.protobuf.message import DecodeError

from edge_server.scenes import Scene, SceneBlock
from protos.tokenlink.v1 import cluster_pb2 as cb

logger = logging.getLogger(__name__)


def written(scene: Scene) -> bytes:
    """A scene as a message; its id is the name of the record that it is in."""
    blocks = [
        cb.KeptBlock(
            modality=each.modality, token_length=each.token_length, snr_db=each.snr_db, wire=each.wire
        )
        for each in scene.blocks
    ]
    vector = b"" if scene.vector is None else np.asarray(scene.vector, "<f4").tobytes()
    return cb.KeptScene(
        device=scene.device,
        start_s=scene.start_s,
        length_s=scene.length_s,
        keep_until_s=scene.keep_until_s,
        bundle_hash=scene.bundle_hash,
        blocks=blocks,
        space=scene.space,
        vector=vector,
        thumbnail=scene.thumbnail,
    ).SerializeToString()


def read(scene_id: str, message: bytes, *, thumbnails: bool) -> Scene | None:
    """A scene from a message; None where it is none, which is logged.

    Args:
        scene_id: the name of its record.
        message: as :func:`written` made it.
        thumbnails: whether its small picture is taken too.
    """
    try:
        told = cb.KeptScene.FromString(message)
        if not (math.isfinite(told.start_s) and math.isfinite(told.length_s) and told.blocks):
            raise ValueError("it has no window, or no tokens")
        vector = np.frombuffer(told.vector, "<f4") if told.vector else None
    except (DecodeError, ValueError) as error:
        logger.warning("a scene cannot be read: %s", error, extra={"scene": scene_id[:80]})
        return None
    return Scene(
        scene_id=scene_id,
        device=told.device,
        start_s=told.start_s,
        length_s=told.length_s,
        bundle_hash=told.bundle_hash,
        blocks=tuple(
            SceneBlock(each.modality, each.token_length, each.snr_db, each.wire) for each in told.blocks
        ),
        keep_until_s=told.keep_until_s,
        space=told.space,
        vector=vector,
        thumbnail=told.thumbnail if thumbnails else b"",
    )
