"""Decoding with PyAV (FFmpeg): containers in, frames and samples out, within limits.

    container ─demux─┬─ video packets ─▶ FrameSampler: sample and hold at the spec's frame rate ─▶ [T,H,W,3]
                     └─ audio packets ─▶ SoundCollector: resample to mono ───────────────────────▶ [S]

Shapes: T frames, H height, W width, S samples.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import av
import av.error

from device_agent.collectors import Frames, FrameSampler, Pcm, SoundCollector
from device_agent.errors import MediaError, MediaLimitError
from device_agent.media import MediaKind, MediaLimits, MediaSpec
from device_agent.wav import check_wav, is_wav

IMAGE_FORMATS = ("bmp_pipe", "gif", "jpeg_pipe", "pgm_pipe", "png_pipe", "ppm_pipe", "tiff_pipe", "webp_pipe")
MEDIA_FORMATS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "ogg"),
    *("wav", "w64", "flac", "mp3", "aac", "aiff", "au", "caf", "amr"),
)
"""FFmpeg's names. Nothing that refers to other files or addresses: no playlists, no concatenations."""


class _Nameless:
    """A file without a name: FFmpeg would guess formats, and patterns of files, from one."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def decode_file(
    file: BinaryIO, field: str, spec: MediaSpec, limits: MediaLimits, kind: MediaKind | None
) -> tuple[Frames | None, Pcm | None, bool]:
    """Decode a seekable file.

    Returns:
        frames_THWC, pcm_S, and whether the frames are a still image.

    Raises:
        MediaError: names ``field``.
    """
    head = file.read(16)
    file.seek(0)
    if is_wav(head):
        check_wav(file, field)
    if head.startswith(b"\xff\xd8") and kind != "audio":
        _check_jpeg_end(file, field)
    options = {
        "format_whitelist": ",".join((*MEDIA_FORMATS, *IMAGE_FORMATS)),
        "max_pixels": str(limits.max_frame_pixels),
    }
    try:
        with av.open(_Nameless(file), mode="r", options=options, metadata_errors="ignore") as container:
            return decode_container(container, field, spec, limits, kind)
    except (av.error.FFmpegError, ValueError, OverflowError, MemoryError) as error:
        what = f"no usable {kind}" if kind else "no usable picture, video or sound"
        reason = getattr(error, "strerror", None) or str(error) or repr(error)
        # The decoder reports a picture over the limit as invalid data: say both.
        limit = f"or more than {limits.max_frame_pixels} pixels"
        raise MediaError(field, f"is {what}, {limit} ({reason})") from error


def decode_container(
    container: Any, field: str, spec: MediaSpec, limits: MediaLimits, kind: MediaKind | None
) -> tuple[Frames | None, Pcm | None, bool]:
    """Decode an open ``av`` input container; returns and raises as :func:`decode_file`."""
    is_image = any(name in IMAGE_FORMATS for name in container.format.name.split(","))
    pictures = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    video = pictures[0] if pictures and kind != "audio" else None
    audio = container.streams.audio[0] if container.streams.audio and kind != "image" else None
    _check_kind(field, kind, is_image, video is not None, audio is not None)
    sampler = SoundCollector(field, spec, limits) if audio is not None else None
    frames = FrameSampler(field, spec, limits) if video is not None else None
    if video is not None:
        _prepare_video(video, field, limits, is_image)
    if audio is not None:
        audio.codec_context.thread_count = 1
    start_s = (container.start_time or 0) / av.time_base
    for packet in container.demux([stream for stream in (video, audio) if stream is not None]):
        if (frames is None or frames.full) and (sampler is None or sampler.full):
            break
        if packet.stream is video and frames is not None and not frames.full:
            for frame in packet.decode():
                frames.push(frame)
                if is_image:
                    return frames.finish(), None, True
        elif packet.stream is audio and sampler is not None and not sampler.full:
            for frame in packet.decode():
                sampler.push(frame, start_s)
    frames_THWC = frames.finish() if frames is not None else None
    pcm_S = sampler.finish() if sampler is not None else None
    if kind in ("image", "video") and frames_THWC is None:
        raise MediaError(field, "holds no picture that can be decoded")
    if kind == "audio" and pcm_S is None:
        raise MediaError(field, "holds no sound that can be decoded")
    if frames_THWC is None and pcm_S is None:
        raise MediaError(field, "holds neither picture nor sound that can be decoded")
    return frames_THWC, pcm_S, False


def _prepare_video(stream: Any, field: str, limits: MediaLimits, is_image: bool) -> None:
    context = stream.codec_context
    if context.width * context.height > limits.max_frame_pixels:
        raise MediaLimitError(
            field,
            f"is {context.width} × {context.height} pixels; "
            f"at most {limits.max_frame_pixels} in all are allowed",
        )
    # What the header says may be a lie, or missing: the decoder itself keeps to the limit as well.
    context.options = {"max_pixels": str(limits.max_frame_pixels)} | (
        {"err_detect": "explode"} if is_image else {}
    )
    context.thread_count = 1  # each thread keeps frames of its own


def _check_kind(field: str, kind: MediaKind | None, is_image: bool, has_video: bool, has_audio: bool) -> None:
    if kind == "audio" and not has_audio:
        raise MediaError(field, "has no sound track")
    if kind in ("image", "video") and not has_video:
        raise MediaError(field, f"has no picture; {kind} is needed")
    if kind == "image" and not is_image:
        raise MediaError(field, "is a video; an image is needed")
    if kind == "video" and is_image:
        raise MediaError(field, "is an image; a video is needed")
    if not has_video and not has_audio:
        raise MediaError(field, "has neither picture nor sound")


def _check_jpeg_end(file: BinaryIO, field: str) -> None:
    """Refuse a JPEG that was cut short; the decoder would fill the rest with grey and say nothing."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2**16))
    tail = file.read()
    file.seek(0)
    if b"\xff\xd9" not in tail:
        raise MediaError(field, "is a JPEG image that was cut short")
