"""A small picture of a window, for people: sent beside its tokens only where both ends were told so."""

from __future__ import annotations

import logging
from fractions import Fraction

import av
import numpy as np

from device_agent.media.clip import Clip

logger = logging.getLogger(__name__)

MAX_BYTES = 16_384
"""As the wire allows."""
_WIDTHS = (192, 128, 64, 32)


def thumbnail_of(clip: Clip) -> bytes:
    """The middle frame of a clip as a small JPEG; empty: nothing is seen in it, or none can be made of it."""
    if clip.frames_THWC is None:
        return b""
    frame_HWC = clip.frames_THWC[len(clip.frames_THWC) // 2]
    height, width, _ = frame_HWC.shape
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
    try:
        for widest in _WIDTHS:
            scale = min(1.0, widest / max(width, height))
            made = _jpeg(picture, max(round(width * scale), 1), max(round(height * scale), 1))
            if len(made) <= MAX_BYTES:
                return made
    except av.error.FFmpegError as error:
        logger.warning("share: a thumbnail cannot be made: %s", error)
    return b""


def _jpeg(picture: av.VideoFrame, width: int, height: int) -> bytes:
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height = width, height
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 1)
    small = picture.reformat(width, height, "yuvj420p")
    return b"".join(bytes(packet) for packet in (*encoder.encode(small), *encoder.encode(None)))
