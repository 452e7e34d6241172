"""Loading media: a file, or bytes, to a clip. Every way in (agent, REST, page, training) calls this module.

    file, bytes ─▶ size ─▶ format allowed? ─▶ demux ─┬─▶ video: frames at 8 fps ─▶ frames_THWC ─┐
                                                     └─▶ sound: mono at 16 kHz  ─▶ pcm_S ───────┴─▶ Clip

The edge server decodes the media of REST requests with this module too, so both see the same arrays.
Whatever comes in may have been made to do harm: sizes are checked before and while decoding, only plain
media formats are opened (no playlists, which could name further files), never by file name.

Shapes: T frames, H height, W width, C = 3 (RGB), S samples.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from device_agent.errors import MediaError
from device_agent.media.clip import Clip, MediaKind, MediaSpec, Window
from device_agent.media.decoding import decode_file
from device_agent.media.files import opened
from device_agent.media.limits import MediaLimits


def clip_from_bytes(
    data: bytes,
    *,
    kind: MediaKind | None = None,
    field: str = "media",
    spec: MediaSpec | None = None,
    limits: MediaLimits | None = None,
    start_s: float = 0.0,
    length_s: float | None = None,
) -> Clip:
    """Decode media that is held in memory.

    Args:
        data: the bytes of a file.
        kind: what it must be: ``image`` gives one frame, ``audio`` only sound, ``video`` frames and its
            sound track, if it has one. None: whatever it is.
        field: what to call it in errors.
        spec: rates and window; the default is the shipped bundle's.
        limits: what decoding may cost.
        start_s: how far into the media the clip begins [s]; a still image has no time.
        length_s: how long it is at most [s]; None: the spec's window.

    Raises:
        MediaError: broken, empty, of another kind, or of a format that is not opened.
        MediaLimitError: larger than the limits.
        WindowError: the media ends before ``start_s``.
    """
    return clip_from_stream(
        io.BytesIO(data),
        len(data),
        kind=kind,
        field=field,
        spec=spec,
        limits=limits,
        start_s=start_s,
        length_s=length_s,
    )


def clip_from_stream(
    file: BinaryIO,
    size: int,
    *,
    kind: MediaKind | None = None,
    field: str = "media",
    spec: MediaSpec | None = None,
    limits: MediaLimits | None = None,
    start_s: float = 0.0,
    length_s: float | None = None,
) -> Clip:
    """Decode an open file; other arguments and errors as with :func:`clip_from_bytes`.

    Args:
        file: seekable.
        size: of it [bytes].
    """
    spec = _within(spec or MediaSpec(), length_s)
    return _clip(file, size, kind, field, spec, limits or MediaLimits(), start_s)


def clip_from_file(
    path: Path,
    *,
    kind: MediaKind | None = None,
    field: str | None = None,
    spec: MediaSpec | None = None,
    limits: MediaLimits | None = None,
    start_s: float = 0.0,
    length_s: float | None = None,
) -> Clip:
    """Decode a media file; arguments and errors as with :func:`clip_from_bytes`."""
    field = field or str(path)
    with opened(path, field) as (file, size):
        return clip_from_stream(
            file,
            size,
            kind=kind,
            field=field,
            spec=spec,
            limits=limits,
            start_s=start_s,
            length_s=length_s,
        )


def _within(spec: MediaSpec, length_s: float | None) -> MediaSpec:
    return spec if length_s is None else replace(spec, window_s=min(length_s, spec.window_s))


def _clip(
    file: BinaryIO,
    size: int,
    kind: MediaKind | None,
    field: str,
    spec: MediaSpec,
    limits: MediaLimits,
    start_s: float,
) -> Clip:
    if size == 0:
        raise MediaError(field, "is empty")
    decoded = decode_file(file, field, spec, limits, kind, start_s)
    frames, pcm = decoded.frames_THWC, decoded.pcm_S
    if decoded.is_image:
        return Clip(frames, pcm, is_image=True)
    shown_s = 0.0 if frames is None else len(frames) / spec.frame_rate_hz
    heard_s = 0.0 if pcm is None else len(pcm) / spec.sample_rate_hz
    end_s = start_s + min(max(shown_s, heard_s), spec.window_s)
    return Clip(frames, pcm, window=Window(start_s, end_s, decoded.duration_s))
