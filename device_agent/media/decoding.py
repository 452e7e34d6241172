"""Decoding with PyAV (FFmpeg): containers in, frames and samples out, within limits.

    file ─ screened ─▶ container ─ demux ─▶ packets of the window ─ counted ─┬─▶ FrameSampler   ─▶ [T,H,W,3]
                                                                             └─▶ SoundCollector ─▶ [S]

What can be told from headers is checked before a decoder sees a byte: FFmpeg opens no decoder while it looks
a file over, packets are counted before the first is decoded. What no header tells is bounded as it comes.

Shapes: T frames, H height, W width, S samples.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO, NoReturn

import av
import av.error

from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.boxes import check_boxes, is_boxes
from device_agent.media.clip import MediaKind, MediaLimits, MediaSpec
from device_agent.media.collectors import Frames, FrameSampler, Pcm, SoundCollector
from device_agent.media.pictures import JPEG_SIGNATURE, PNG_SIGNATURE, check_jpeg, check_png
from device_agent.media.wav import check_wav, is_wav

IMAGE_FORMATS = ("bmp_pipe", "gif", "jpeg_pipe", "pgm_pipe", "png_pipe", "ppm_pipe", "tiff_pipe", "webp_pipe")
MEDIA_FORMATS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "ogg"),
    *("wav", "w64", "flac", "mp3", "aac", "aiff", "au", "caf", "amr"),
)
"""FFmpeg's names. Nothing that refers to other files or addresses: no playlists, no concatenations."""

IMAGE_CODECS = frozenset({"bmp", "gif", "mjpeg", "pgm", "png", "ppm", "tiff", "webp"})
VIDEO_CODECS = frozenset(
    {"av1", "ffv1", "flv1", "h263", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "prores"}
    | {"rawvideo", "theora", "vp8", "vp9"}
)
SOUND_CODECS = frozenset(
    {
        "aac",
        "aac_latm",
        "ac3",
        "adpcm_ima_qt",
        "adpcm_ima_wav",
        "adpcm_ms",
        "alac",
        "amr_nb",
        "amr_wb",
        "eac3",
    }
    | {"flac", "mp1", "mp2", "mp3", "opus", "speex", "vorbis"}
)
"""FFmpeg's names of what cameras, phones and recorders write; pcm_* besides. It has hundreds more, of games
and old computers, that nobody looks after."""

_IMAGE_SIGNATURES: tuple[tuple[bytes, int], ...] = (
    *((b"GIF8", 4), (b"BM", 4), (b"II*\0", 8), (b"MM\0*", 8)),
    *((b"P4", 1), (b"P5", 2), (b"P6", 6)),
)
"""How the files of the other image formats begin, and the most that a pixel of theirs takes [bytes]."""
_WEBP_PIXEL_BYTES = 4

_REORDERED_S = 1.0
"""Packets come in the order of decoding, which runs ahead of that of showing by less."""
_OPEN_TIMEOUT_S = 10.0


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
    max_pixels = _screen(file, field, limits, kind)
    options = {
        "format_whitelist": ",".join((*MEDIA_FORMATS, *IMAGE_FORMATS)),
        # No decoder is opened while FFmpeg looks the file over, and nothing that the file may name.
        "codec_whitelist": "none",
        "protocol_whitelist": "none",
        "max_streams": str(limits.max_streams),
    }
    try:
        with av.open(
            _Nameless(file),
            mode="r",
            options=options,
            metadata_errors="ignore",
            io_open=_open_nothing,
            timeout=_OPEN_TIMEOUT_S,
        ) as container:
            if _is_image(container) and max_pixels is None and kind != "audio":
                raise MediaError(field, "is an image behind something else; send the image alone")
            return decode_container(container, field, spec, limits, kind, max_pixels)
    except (av.error.FFmpegError, ValueError, OverflowError, MemoryError, IndexError) as error:
        # IndexError: PyAV, at the end, looks up a track that appeared midway among those of the start.
        what = f"no usable {kind}" if kind else "no usable picture, video or sound"
        reason = getattr(error, "strerror", None) or str(error) or repr(error)
        # A decoder reports a picture over the limit as invalid data: say both.
        limit = f"or more than {max_pixels or _max_video_pixels(limits)} pixels"
        raise MediaError(field, f"is {what}, {limit} ({reason})") from error


def decode_container(
    container: Any,
    field: str,
    spec: MediaSpec,
    limits: MediaLimits,
    kind: MediaKind | None,
    max_pixels: int | None = None,
    *,
    live: bool = False,
) -> tuple[Frames | None, Pcm | None, bool]:
    """Decode an open ``av`` input container.

    Args:
        container: open.
        field: what to call it in errors.
        spec: rates and window.
        limits: what decoding may cost.
        kind: what it must be.
        max_pixels: of an image, where it is another bound than that of a video.
        live: it is a device, whose packets come as time passes: they are decoded as they come.

    Returns and raises as :func:`decode_file`.
    """
    is_image = _is_image(container)
    pictures = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    video = pictures[0] if pictures and kind != "audio" else None
    audio = container.streams.audio[0] if container.streams.audio and kind != "image" else None
    _check_kind(field, kind, is_image, video is not None, audio is not None)
    sampler = SoundCollector(field, spec, limits) if audio is not None else None
    frames = FrameSampler(field, spec, limits) if video is not None else None
    if video is not None:
        _prepare_video(video, field, is_image, max_pixels or _max_video_pixels(limits))
    if audio is not None and sampler is not None:
        _prepare_sound(audio, field, sampler)
    start_s = (container.start_time or 0) / av.time_base
    streams = [stream for stream in (video, audio) if stream is not None]
    window = _Window(field, spec, limits)
    packets: Iterable[Any] = container.demux(streams) if live else window.packets(container, streams)
    if frames is not None and video is not None and not live:
        expected = sum(1 for packet in packets if packet.stream is video and packet.size)
        frames.expect(expected, video.codec_context.width * video.codec_context.height)
    began_s = time.thread_time()
    for packet in packets:
        if (frames is None or frames.full) and (sampler is None or sampler.full):
            break
        if time.thread_time() - began_s > limits.max_decode_s:
            raise MediaLimitError(field, f"takes more than {limits.max_decode_s:g} s to decode")
        if packet.stream is video and frames is not None and not frames.full:
            if video.codec_context.codec.canonical_name == "mjpeg" and not is_image:
                check_jpeg(bytes(packet), field, limits)
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


class _Window:
    """The packets that the first seconds of a clip are made of.

    Args:
        field: what to call the media in errors.
        spec: the window.
        limits: what decoding may cost.
    """

    def __init__(self, field: str, spec: MediaSpec, limits: MediaLimits) -> None:
        self._field, self._spec, self._limits = field, spec, limits
        self._first_s: dict[int, float] = {}
        self._past: set[int] = set()
        self._bytes = self._pictures = 0

    def packets(self, container: Any, streams: Sequence[Any]) -> list[Any]:
        """In the order of decoding; ends with the flush packets where the file ended first.

        Raises:
            MediaLimitError: more pictures than may be decoded, or more bytes than a file may have.
        """
        kept = []
        # A container may compress what it holds: codecs have left nothing to gain by that.
        most_bytes = min(self._limits.max_bytes, 2 * max(container.size, 0) + 2**20)
        for packet in container.demux(streams):
            inside = self._inside(packet)
            if len(self._past) == len(streams):
                break
            if packet.stream.type == "video" and packet.size and inside:
                self._pictures += 1
                if self._pictures > self._limits.max_frames:
                    raise MediaLimitError(
                        self._field, f"has more than {self._limits.max_frames} frames to decode"
                    )
            self._bytes += packet.size
            if self._bytes > most_bytes:
                raise MediaLimitError(
                    self._field, f"its packets take more than the {most_bytes} bytes that are allowed"
                )
            kept.append(packet)
        return kept

    def _inside(self, packet: Any) -> bool:
        """Whether a packet is shown, or heard, within the window, as far as its timestamps tell."""
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            return True
        time_s = float(time * packet.time_base)
        since_s = time_s - self._first_s.setdefault(packet.stream.index, time_s)
        if since_s > self._spec.window_s + _REORDERED_S:
            self._past.add(packet.stream.index)
        return since_s <= self._spec.window_s


def _screen(file: BinaryIO, field: str, limits: MediaLimits, kind: MediaKind | None) -> int | None:
    """Check what a file's own headers tell.

    Returns:
        The most pixels that its decoder may take on, of an image; None: it is none.
    """
    file.seek(0)
    head = file.read(16)
    file.seek(0)
    if is_wav(head):
        check_wav(file, field)
    elif is_boxes(head):
        check_boxes(file, field)
    if kind == "audio":
        return None
    if head.startswith(JPEG_SIGNATURE):
        _check_jpeg_end(file, field)
        check_jpeg(file.read(), field, limits)
        file.seek(0)
        return limits.max_frame_pixels
    if head.startswith(PNG_SIGNATURE):
        check_png(file.read(), field, limits)
        file.seek(0)
        return limits.max_frame_pixels
    signatures = (*_IMAGE_SIGNATURES, (b"RIFF" + head[4:8] + b"WEBP", _WEBP_PIXEL_BYTES))
    for signature, pixel_bytes in signatures:
        if head.startswith(signature):
            return min(limits.max_frame_pixels, limits.max_frame_bytes // pixel_bytes)
    return None


def _is_image(container: Any) -> bool:
    return any(name in IMAGE_FORMATS for name in container.format.name.split(","))


def _open_nothing(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("media may not refer to other files or addresses")


def _max_video_pixels(limits: MediaLimits) -> int:
    return min(limits.max_video_pixels, limits.max_frame_pixels)


def _prepare_video(stream: Any, field: str, is_image: bool, max_pixels: int) -> None:
    context = stream.codec_context
    _check_codec(field, "picture", context, IMAGE_CODECS if is_image else VIDEO_CODECS)
    if context.width * context.height > max_pixels:
        raise MediaLimitError(
            field,
            f"is {context.width} × {context.height} pixels; at most {max_pixels} in all are allowed",
        )
    # What the header says may be a lie, or missing: the decoder itself keeps to the limit as well.
    context.options = {"max_pixels": str(max_pixels)} | ({"err_detect": "explode"} if is_image else {})
    context.thread_count = 1  # each thread keeps frames of its own


def _prepare_sound(stream: Any, field: str, sampler: SoundCollector) -> None:
    context = stream.codec_context
    _check_codec(field, "sound", context, SOUND_CODECS)
    if context.sample_rate and context.channels:
        sampler.expect(context.sample_rate, context.channels)
    context.thread_count = 1


def _check_codec(field: str, what: str, context: Any, allowed: frozenset[str]) -> None:
    name = context.codec.canonical_name if context is not None else "an unknown codec"
    if name not in allowed and not (allowed is SOUND_CODECS and name.startswith("pcm_")):
        raise MediaError(field, f"its {what} is coded as {name}; allowed: {', '.join(sorted(allowed))}")


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
