"""Media to arrays: what a transmitter takes in.

    file, bytes ─▶ size ─▶ format allowed? ─▶ demux ─┬─▶ video: frames at 8 fps ─▶ frames_THWC ─┐
                                                     └─▶ sound: mono at 16 kHz  ─▶ pcm_S ───────┴─▶ Clip

The edge server decodes the media of REST requests with this module too, so both see the same arrays.
Whatever comes in may have been made to do harm: sizes are checked before and while decoding, only plain
media formats are opened (no playlists, which could name further files), never by file name.

Shapes: T frames, H height, W width, C = 3 (RGB), S samples.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from device_agent.errors import MediaError, MediaLimitError

MediaKind: TypeAlias = Literal["image", "video", "audio"]


@dataclass(frozen=True)
class MediaSpec:
    """What the transmitters were trained on, as :meth:`device_agent.bundle.Bundle.media_spec` says."""

    frame_rate_hz: float = 8.0
    """Frames per second that are taken out of a video."""
    sample_rate_hz: int = 16_000
    """Samples per second of the sound."""
    window_s: float = 4.0
    """Only the first so many seconds are looked at."""
    max_frames: int = 32
    """At most so many frames are kept."""
    max_side: int = 320
    """Larger frames are shrunk (area averaging), so that memory does not depend on the camera [pixels]."""


@dataclass(frozen=True)
class MediaLimits:
    """What decoding one file may cost. Checked before and while decoding."""

    max_bytes: int = 64 * 2**20
    """Of the file."""
    max_frame_pixels: int = 40_000_000
    """Width times height."""
    max_frame_bytes: int = 256 * 2**20
    """Of one image in the decoder's memory."""
    max_video_pixels: int = 40_000_000
    """Width times height of a video, whose decoder may hold on to sixteen frames."""
    max_total_pixels: int = 4_000_000_000
    """Of all frames decoded, those thrown away between two kept ones included."""
    max_frames: int = 2_000
    """Decoded, likewise."""
    max_streams: int = 32
    """Tracks of any kind."""
    max_audio_samples: int = 8_000_000
    """Decoded, at the file's own rate, all channels."""
    max_decode_s: float = 60.0
    """Time of the processor, for what no header tells [s]."""


@dataclass(frozen=True)
class Clip:
    """What a user shows the model; at least one part.

    Attributes:
        frames_THWC: uint8 RGB, [T, H, W, 3]; an image is a video of one frame.
        pcm_S: float32 mono, [S], within [-1, 1], at the spec's sample rate.
        is_image: the frames are a still image, not a video that happens to be short.
        text: text that goes with the question.
    """

    frames_THWC: npt.NDArray[np.uint8] | None = None
    pcm_S: npt.NDArray[np.float32] | None = None
    is_image: bool = False
    text: str | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of what is there, in the order in which it is sent."""
        names = []
        if self.frames_THWC is not None:
            names.append("image" if self.is_image else "video")
        if self.pcm_S is not None:
            names.append("audio")
        return tuple(names)


def join(clips: Iterable[Clip], field: str = "media") -> Clip:
    """One clip out of several parts, such as an image and a recording.

    Raises:
        MediaError: two of them show, or sound.
    """
    frames, pcm, is_image = None, None, False
    texts: list[str] = []
    for clip in clips:
        if clip.frames_THWC is not None:
            if frames is not None:
                raise MediaError(field, "holds more than one picture or video; one question takes one")
            frames, is_image = clip.frames_THWC, clip.is_image
        if clip.pcm_S is not None:
            if pcm is not None:
                raise MediaError(field, "holds more than one sound track; one question takes one")
            pcm = clip.pcm_S
        if clip.text:
            texts.append(clip.text)
    return Clip(frames, pcm, is_image, "\n".join(texts) or None)


def clip_from_bytes(
    data: bytes,
    *,
    kind: MediaKind | None = None,
    field: str = "media",
    spec: MediaSpec | None = None,
    limits: MediaLimits | None = None,
) -> Clip:
    """Decode media that is held in memory.

    Args:
        data: the bytes of a file.
        kind: what it must be: ``image`` gives one frame, ``audio`` only sound, ``video`` frames and its
            sound track, if it has one. None: whatever it is.
        field: what to call it in errors.
        spec: rates and window; the default is the shipped bundle's.
        limits: what decoding may cost.

    Raises:
        MediaError: broken, empty, of another kind, or of a format that is not opened.
        MediaLimitError: larger than the limits.
    """
    return _clip(io.BytesIO(data), len(data), kind, field, spec or MediaSpec(), limits or MediaLimits())


def clip_from_file(
    path: Path,
    *,
    kind: MediaKind | None = None,
    field: str | None = None,
    spec: MediaSpec | None = None,
    limits: MediaLimits | None = None,
) -> Clip:
    """Decode a media file; arguments and errors as with :func:`clip_from_bytes`."""
    field = field or str(path)
    try:
        if not path.is_file():
            raise MediaError(field, "is a folder, not a file" if path.is_dir() else "does not exist")
        with path.open("rb") as file:
            size = path.stat().st_size
            return _clip(file, size, kind, field, spec or MediaSpec(), limits or MediaLimits())
    except OSError as error:
        raise MediaError(field, f"cannot be read: {error.strerror or error}") from error


def _clip(
    file: BinaryIO, size: int, kind: MediaKind | None, field: str, spec: MediaSpec, limits: MediaLimits
) -> Clip:
    # FFmpeg's libraries are loaded by whoever decodes, not by whoever imports a Clip.
    from device_agent.decoding import decode_file

    if size == 0:
        raise MediaError(field, "is empty")
    if size > limits.max_bytes:
        raise MediaLimitError(field, f"has {size} bytes; at most {limits.max_bytes} are allowed")
    frames, pcm, is_image = decode_file(file, field, spec, limits, kind)
    return Clip(frames, pcm, is_image)
