"""Decoding with PyAV (FFmpeg): containers in, frames and samples out, within limits.

    file ─ screened ─▶ container ─ demux ─▶ packets of the window ─ counted ─┬─▶ FrameSampler   ─▶ [T,H,W,3]
                                                                             └─▶ SoundCollector ─▶ [S]

What can be told from headers is checked before a decoder sees a byte: FFmpeg opens no decoder while it looks
a file over, packets are counted before the first is decoded. What no header tells is bounded as it comes.

Shapes: T frames, H height, W width, S samples.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import av
import av.error
import av.stream

from device_agent.errors import MediaError, MediaLimitError, WindowError
from device_agent.media.animation import animated_frames, animation_s
from device_agent.media.boxes import MAX_ITEMS
from device_agent.media.clip import MediaKind, MediaSpec
from device_agent.media.collectors import FrameSampler, Pcm, SoundCollector
from device_agent.media.limits import MediaLimits
from device_agent.media.pictures import check_jpeg, reduction_of
from device_agent.media.pixels import BLACK, WHITE, Frames
from device_agent.media.screening import IMAGE_FORMATS, Screened, screen
from device_agent.media.skipping import Skipping
from device_agent.media.tiles import decode_picture
from device_agent.media.transparency import AlphaJoin, alpha_of, side_by_side
from device_agent.media.window import PacketWindow

IMAGE_CODECS = frozenset({"apng", "bmp", "gif", "mjpeg", "pgm", "png", "ppm", "tiff", "webp"})
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

_TORN_PACKETS = 2
_UNNOTICED_S = 0.06
_MAX_ASPECT = 8.0
"""Of a pixel; more is no format of anybody, but a number that was written in the wrong place."""
_OPEN_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Decoded:
    """What a file holds in a window.

    Attributes:
        frames_THWC: its pictures, or None.
        pcm_S: its sound, or None.
        is_image: the pictures are one still image.
        duration_s: of the whole file, where its container tells [s].
    """

    frames_THWC: Frames | None
    pcm_S: Pcm | None
    is_image: bool
    duration_s: float | None = None


def decode_file(
    file: BinaryIO,
    field: str,
    spec: MediaSpec,
    limits: MediaLimits,
    kind: MediaKind | None,
    window_start_s: float = 0.0,
) -> Decoded:
    """Decode a seekable file.

    Args:
        file: seekable.
        field: what to call it in errors.
        spec: rates and window.
        limits: what decoding may cost.
        kind: what it must be.
        window_start_s: how far into the file the window begins [s].

    Raises:
        MediaError: names ``field``.
        WindowError: there is nothing in the window.
    """
    screened = screen(file, field, limits, kind, spec.max_side)
    options = {
        "format_whitelist": ",".join(screened.formats),
        # No decoder is opened while FFmpeg looks the file over, and nothing that the file may name.
        "codec_whitelist": "none",
        "protocol_whitelist": "none",
        "max_streams": str(limits.max_streams if screened.picture is None else MAX_ITEMS),
    }
    try:
        if screened.animation is not None:
            return _decode_animation(screened, field, spec, limits, window_start_s)
        with av.open(
            screened.file,
            mode="r",
            options=options,
            metadata_errors="ignore",
            io_open=_open_nothing,
            timeout=_OPEN_TIMEOUT_S,
        ) as container:
            if screened.picture is not None:
                _check_kind(field, kind, is_image=True, has_video=True, has_audio=False)
                if kind == "video":
                    raise MediaError(field, "is an image; a video is needed")
                return Decoded(decode_picture(container, screened.picture, field, spec, limits), None, True)
            if _is_image(container) and screened.max_image_pixels is None and kind != "audio":
                raise MediaError(field, "is an image behind something else; send the image alone")
            return decode_container(
                container, field, spec, limits, kind, screened, window_start_s=window_start_s
            )
    except (av.error.FFmpegError, ValueError, OverflowError, MemoryError, IndexError) as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            raise MediaLimitError(
                field, "takes more memory to decode than it may (media.max_memory_bytes)"
            ) from error
        # IndexError: PyAV, at the end, looks up a track that appeared midway among those of the start.
        what = f"no usable {kind}" if kind else "no usable picture, video or sound"
        reason = getattr(error, "strerror", None) or str(error) or repr(error)
        # A decoder reports a picture over the limit as invalid data: say both.
        limit = f"or more than {screened.max_image_pixels or _max_video_pixels(limits)} pixels"
        raise MediaError(field, f"is {what}, {limit} ({reason})") from error


def decode_container(
    container: Any,
    field: str,
    spec: MediaSpec,
    limits: MediaLimits,
    kind: MediaKind | None,
    screened: Screened | None = None,
    *,
    window_start_s: float = 0.0,
    live: bool = False,
) -> Decoded:
    """Decode an open ``av`` input container.

    Args:
        container: open.
        field: what to call it in errors.
        spec: rates and window.
        limits: what decoding may cost.
        kind: what it must be.
        screened: what its headers told.
        window_start_s: how far into it the window begins [s].
        live: it is a device, whose packets come as time passes: they are decoded as they come.

    Raises as :func:`decode_file`.
    """
    is_image = _is_image(container)
    alphas = screened.alphas if screened is not None else frozenset()
    pictures_of = [stream for stream in container.streams.video if stream.id not in alphas]
    video = None if kind == "audio" else _chosen(pictures_of, _picture_size)
    audio = None if kind == "image" else _chosen(container.streams.audio, _channels)
    _check_kind(field, kind, is_image, video is not None, audio is not None)
    sampler = SoundCollector(field, spec, limits, -window_start_s) if audio is not None else None
    frames = alpha = None
    if video is not None:
        turn, crop = None, None
        if screened is not None and is_image:
            turn = screened.image_turn
        elif screened is not None:
            turn, crop = screened.turns.get(video.id), screened.crops.get(video.id)
            if crop is None and screened.track_crops:
                crop = dict(enumerate(screened.track_crops)).get(container.streams.video.index(video))
        if video.codec_context is not None and alphas:
            alpha = alpha_of(container.streams.video, video, alphas)
        background = WHITE if is_image or alpha is not None else BLACK
        frames = FrameSampler(field, spec, limits, background, turn, crop)
        if not is_image:
            frames.aspect = lambda: _pixel_aspect(video)
        most_pixels = screened.max_image_pixels if screened is not None else None
        reduction = screened.reduction if screened is not None and is_image else 0
        if not is_image and not live and crop is None and _is_motion_jpeg(video):
            context = video.codec_context
            reduction = reduction_of(context.width, context.height, spec.max_side)
        _prepare_video(video, field, is_image, most_pixels or _max_video_pixels(limits), reduction)
    if alpha is not None:
        _prepare_video(alpha, field, is_image, _max_video_pixels(limits), 0)
    if audio is not None and sampler is not None:
        _prepare_sound(audio, field, sampler)
    streams = [stream for stream in (video, alpha, audio) if stream is not None]
    window = PacketWindow(field, spec, limits, window_start_s)
    packets: Iterable[Any] = container.demux(streams) if live else window.packets(container, streams)
    if alpha is not None:
        packets = side_by_side(packets)
    decoders = {
        stream.index: _Decoder(field, "sound" if stream is audio else "pictures", strict=is_image)
        for stream in streams
    }
    join = AlphaJoin()
    start_s = (container.start_time or 0) / av.time_base if live else window.start_s
    pictures_start_s = start_s + (_lag_s(container, video) if video is not None and not live else 0.0)
    skipping = None
    if frames is not None and video is not None and not live:
        pictures = [packet for packet in packets if packet.stream is video and packet.size]
        skipping = Skipping(pictures, video.codec_context.codec.canonical_name, pictures_start_s, spec)
        expected = sum(map(skipping.is_decoded, pictures)) * (1 if alpha is None else 2)
        frames.expect(expected, video.codec_context.width * video.codec_context.height)
    began_s = time.thread_time()
    for packet in packets:
        if (frames is None or frames.full) and (sampler is None or sampler.full):
            break
        if time.thread_time() - began_s > limits.max_decode_s:
            raise MediaLimitError(
                field, f"takes more than {limits.max_decode_s:g} s to decode (media.max_decode_s)"
            )
        if packet.stream is video and frames is not None and not frames.full:
            if skipping is not None and packet.size:
                if not skipping.is_decoded(packet):
                    continue
                video.codec_context.skip_frame = skipping.how(packet)
            if not is_image and _is_motion_jpeg(video):
                check_jpeg(bytes(packet), field, limits, spec.max_side, whole=False)
            for frame in decoders[video.index].decode(packet):
                for shown in [frame] if alpha is None else join.picture(frame):
                    frames.push(shown, pictures_start_s)
        elif packet.stream is alpha and frames is not None and not frames.full:
            for frame in decoders[alpha.index].decode(packet):
                for shown in join.seen(frame):
                    frames.push(shown, pictures_start_s)
        elif packet.stream is audio and sampler is not None and not sampler.full:
            for frame in decoders[audio.index].decode(packet):
                sampler.push(frame, start_s)
    if frames is not None and video is not None and not frames.full and not live:
        # The window ended before the file: what the decoder still holds back is of it.
        for shown in _held_back(decoders, video, alpha, join):
            if not frames.full:
                frames.push(shown, pictures_start_s)
    for decoder in decoders.values():
        decoder.finish()
    for shown in join.finish():
        if frames is not None and not frames.full:
            frames.push(shown, pictures_start_s)
    still = is_image and frames is not None and frames.decoded == 1
    if is_image and kind == "video" and still:
        raise MediaError(field, "is an image; a video is needed")
    frames_THWC = frames.finish(still=still) if frames is not None else None
    pcm_S = sampler.finish() if sampler is not None else None
    if frames_THWC is None and pcm_S is None and window_start_s > 0:
        raise WindowError(field, f"holds nothing from {window_start_s:g} s on")
    if window_start_s > 0 and {"video": frames_THWC, "audio": pcm_S}.get(kind or "", 0) is None:
        raise WindowError(field, f"holds no {kind} from {window_start_s:g} s on")
    if kind in ("image", "video") and frames_THWC is None:
        raise MediaError(field, "holds no picture that can be decoded")
    if kind == "audio" and pcm_S is None:
        raise MediaError(field, "holds no sound that can be decoded")
    if frames_THWC is None and pcm_S is None:
        raise MediaError(field, "holds neither picture nor sound that can be decoded")
    duration_s = container.duration / av.time_base if container.duration and not live else None
    return Decoded(frames_THWC, pcm_S, still, duration_s)


def _decode_animation(
    screened: Screened, field: str, spec: MediaSpec, limits: MediaLimits, window_start_s: float
) -> Decoded:
    data = screened.animation or b""
    frames = FrameSampler(field, spec, limits, WHITE, screened.image_turn)
    for frame in animated_frames(data, field, spec, limits, window_start_s):
        frames.push(frame, window_start_s)
    frames_THWC = frames.finish()
    if frames_THWC is None:
        raise WindowError(field, f"holds no picture from {window_start_s:g} s on")
    return Decoded(frames_THWC, None, False, animation_s(data, field))


class _Decoder:
    """Decodes the packets of one track.

    A recording that was cut out of a longer one begins with packets whose beginning is missing, and ends
    with a part of one: players pass these over. Damage in between is told.

    Args:
        field: what to call the media in errors.
        what: the track shows or sounds, for errors.
        strict: it is an image, whose every byte counts.
    """

    def __init__(self, field: str, what: str, *, strict: bool) -> None:
        self._field, self._what = field, what
        self._strict, self._good, self._failed = strict, False, 0
        self._error: av.error.FFmpegError | None = None

    def decode(self, packet: Any) -> list[Any]:
        """The frames that a packet completes."""
        if not packet.size and packet.dts is not None:
            return []  # Theora says so that what is on show stays
        try:
            decoded: list[Any] = packet.decode()
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as error:
            if self._strict:
                raise
            self._error, self._failed = error, self._failed + 1
            return []
        if decoded:
            if self._error is not None and self._good:
                raise self._damaged(self._error)
            self._error, self._failed, self._good = None, 0, True
        return decoded

    def rest(self, stream: Any) -> list[Any]:
        """The frames that a decoder held back to put them in order; none where it was told of the end."""
        try:
            held: list[Any] = stream.codec_context.decode(None)
        except av.error.EOFError:
            return []
        for frame in held:
            frame.time_base = stream.time_base  # of no packet, it has none by itself
        return held

    def finish(self) -> None:
        """Raises what is more than a torn end."""
        if self._error is not None and not self._good:
            raise self._error
        if self._error is not None and self._failed > _TORN_PACKETS:
            raise self._damaged(self._error)

    def _damaged(self, error: av.error.FFmpegError) -> MediaError:
        reason = error.strerror or str(error)
        return MediaError(self._field, f"is damaged: a part of its {self._what} cannot be decoded ({reason})")


def _held_back(decoders: Mapping[int, _Decoder], video: Any, alpha: Any, join: AlphaJoin) -> Iterator[Any]:
    """Pictures that were not told yet, when no more packets come."""
    for frame in decoders[video.index].rest(video):
        yield from [frame] if alpha is None else join.picture(frame)
    if alpha is not None:
        for frame in decoders[alpha.index].rest(alpha):
            yield from join.seen(frame)


def _chosen(streams: Iterable[Any], weight: Callable[[Any], tuple[bool, int]]) -> Any:
    """The track that a player shows: of those marked as the default, or of all, that of most weight."""
    hidden = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    shown = [stream for stream in streams if not stream.disposition & hidden]
    default = av.stream.Disposition.default
    return max(shown, key=lambda each: (bool(each.disposition & default), *weight(each)), default=None)


def _picture_size(stream: Any) -> tuple[bool, int]:
    """A single picture beside a film (of an animation in AVIF, its first) weighs less."""
    context = stream.codec_context
    return stream.frames != 1, 0 if context is None else int(context.width * context.height)


def _channels(stream: Any) -> tuple[bool, int]:
    context = stream.codec_context
    return True, 0 if context is None else int(context.channels)


def _lag_s(container: Any, stream: Any) -> float:
    """How long after the clip a track starts, where nobody would notice [s].

    A codec's lead-in puts sound before the pictures; those are to stay on the ticks that they were made for.
    """
    if stream.start_time is None or container.start_time is None:
        return 0.0
    lag_s = float(stream.start_time * stream.time_base) - container.start_time / av.time_base
    return lag_s if 0 < lag_s < _UNNOTICED_S else 0.0


def _is_image(container: Any) -> bool:
    return any(name in IMAGE_FORMATS for name in container.format.name.split(","))


def _open_nothing(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("media may not refer to other files or addresses")


def _max_video_pixels(limits: MediaLimits) -> int:
    return min(limits.max_video_pixels, limits.max_frame_pixels)


def _pixel_aspect(stream: Any) -> float:
    """Width of a pixel over its height, where the file or its first frame says something sensible."""
    aspect = float(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
    return aspect if 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT else 1.0


def _is_motion_jpeg(stream: Any) -> bool:
    return stream.codec_context is not None and stream.codec_context.codec.canonical_name == "mjpeg"


def _prepare_video(stream: Any, field: str, is_image: bool, max_pixels: int, reduction: int) -> None:
    context = stream.codec_context
    _check_codec(field, "picture", context, IMAGE_CODECS if is_image else VIDEO_CODECS)
    if context.width * context.height > max_pixels:
        raise MediaLimitError(
            field,
            f"is {context.width} × {context.height} pixels; at most {max_pixels} in all are allowed "
            f"(media.{'max_frame_pixels' if is_image else 'max_video_pixels'})",
        )
    # What the header says may be a lie, or missing: the decoder itself keeps to the limit as well.
    # It would show a part of a damaged image; but every unknown tag of a TIFF would pass for damage.
    strict = is_image and context.codec.canonical_name != "tiff"
    damage = {"err_detect": "explode"} if strict else {}
    context.options = {"max_pixels": str(max_pixels), "lowres": str(reduction), **damage}
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
    if not has_video and not has_audio:
        raise MediaError(field, "has neither picture nor sound")
