"""Kinds of files, and how the ffmpeg program or Pillow writes a plain one of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Shape = Literal["film", "sound", "animation", "still"]

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
X265 = (
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-pix_fmt",
    "yuv420p",
    "-x265-params",
    "log-level=none:pools=1",
)


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: as people say.
        suffix: of its names.
        shape: what it shows or sounds.
        muxer: FFmpeg's name of the container; of pictures Pillow's of the format.
        video, audio: options that encode the tracks; empty: there is none.
        rate_hz: samples per second that it is plainly written with.
        saving: what Pillow is told.
        mode: of Pillow's picture.
    """

    name: str
    suffix: str
    shape: Shape
    muxer: str
    video: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    rate_hz: int = 48_000
    saving: Mapping[str, Any] = field(default_factory=dict)
    mode: str = "RGB"

    @property
    def boxes(self) -> bool:
        """Whether it is made of boxes, as MP4 is."""
        return self.muxer in ("mp4", "mov", "3gp", "ipod")

    @property
    def elements(self) -> bool:
        """Whether it is made of elements, as Matroska is."""
        return self.muxer in ("matroska", "webm")

    @property
    def h264(self) -> bool:
        """Whether its pictures are H.264."""
        return "libx264" in self.video


def _film(
    name: str, suffix: str, muxer: str, video: tuple[str, ...], audio: str, rate_hz: int = 48_000
) -> Kind:
    return Kind(name, suffix, "film", muxer, video, tuple(f"-c:a {audio}".split()) if audio else (), rate_hz)


def _sound(name: str, suffix: str, muxer: str, codec: str, rate_hz: int = 48_000) -> Kind:
    return Kind(name, suffix, "sound", muxer, (), tuple(f"-c:a {codec}".split()), rate_hz)


def _codec(text: str) -> tuple[str, ...]:
    return tuple(f"-c:v {text}".split())


KINDS = (
    _film("MP4, H.264, AAC", ".mp4", "mp4", X264, "aac"),
    _film("MP4, H.265, AAC", ".mp4", "mp4", X265, "aac"),
    _film(
        "MP4, AV1, Opus", ".mp4", "mp4", _codec("libsvtav1 -preset 12 -crf 20 -svtav1-params lp=1"), "libopus"
    ),
    _film("MP4, MPEG-4 part 2, MP3", ".m4v", "mp4", _codec("mpeg4 -q:v 2"), "libmp3lame"),
    _film("QuickTime, H.264, PCM", ".mov", "mov", X264, "pcm_s16le"),
    _film("QuickTime, ProRes, PCM", ".mov", "mov", _codec("prores_ks -pix_fmt yuv422p10le"), "pcm_s24le"),
    _film("QuickTime, Motion JPEG, ALAC", ".mov", "mov", _codec("mjpeg -q:v 2 -pix_fmt yuvj422p"), "alac"),
    _film("3GP, H.263, AAC", ".3gp", "3gp", _codec("h263 -q:v 2"), "aac", 16_000),
    _film("Matroska, H.264, FLAC", ".mkv", "matroska", X264, "flac"),
    _film("Matroska, FFV1, PCM", ".mkv", "matroska", _codec("ffv1 -pix_fmt yuv422p"), "pcm_f32le"),
    _film("WebM, VP8, Vorbis", ".webm", "webm", _codec("libvpx -b:v 4M"), "libvorbis"),
    _film(
        "WebM, VP9, Opus",
        ".webm",
        "webm",
        _codec("libvpx-vp9 -b:v 4M -deadline realtime -cpu-used 8"),
        "libopus",
    ),
    _film("AVI, MPEG-4 part 2, MP3", ".avi", "avi", _codec("mpeg4 -q:v 2"), "libmp3lame"),
    _film("AVI, Motion JPEG, PCM", ".avi", "avi", _codec("mjpeg -q:v 2 -pix_fmt yuvj420p"), "pcm_s16le"),
    _film("Transport stream, H.264, AAC", ".ts", "mpegts", X264, "aac"),
    _film("Transport stream, MPEG-2, AC-3", ".ts", "mpegts", _codec("mpeg2video -q:v 2"), "ac3"),
    _film("Programme stream, MPEG-2, MP2", ".mpg", "vob", _codec("mpeg2video -q:v 2"), "mp2"),
    _film("Flash video, H.264, AAC", ".flv", "flv", X264, "aac", 44_100),
    _film("Flash video, Sorenson, MP3", ".flv", "flv", _codec("flv -q:v 2"), "libmp3lame", 44_100),
    _film("Ogg, Theora, Vorbis", ".ogv", "ogg", _codec("libtheora -q:v 9"), "libvorbis"),
    _film("Windows Media Video", ".wmv", "asf", _codec("wmv2 -q:v 2"), "wmav2", 44_100),
    _sound("WAV, 16 bits", ".wav", "wav", "pcm_s16le"),
    _sound("WAV, float", ".wav", "wav", "pcm_f32le", 96_000),
    _sound("AIFF", ".aiff", "aiff", "pcm_s16be", 44_100),
    _sound("CAF, ALAC", ".caf", "caf", "alac"),
    _sound("AU", ".au", "au", "pcm_s16be"),
    _sound("FLAC", ".flac", "flac", "flac", 44_100),
    _sound("MP3", ".mp3", "mp3", "libmp3lame", 44_100),
    _sound("AAC in ADTS", ".aac", "adts", "aac"),
    _sound("M4A, AAC", ".m4a", "ipod", "aac", 44_100),
    _sound("Ogg, Opus", ".opus", "ogg", "libopus"),
    _sound("Ogg, Vorbis", ".ogg", "ogg", "libvorbis", 44_100),
    _sound("Windows Media Audio", ".wma", "asf", "wmav2", 44_100),
    Kind("GIF, animated", ".gif", "animation", "GIF", saving={"disposal": 2}),
    Kind("PNG, animated", ".apng", "animation", "PNG", saving={"disposal": 1}),
    Kind("WebP, animated", ".webp", "animation", "WEBP", saving={"lossless": True}),
    Kind("AVIF, animated", ".avif", "animation", "AVIF", saving={"quality": 95, "subsampling": "4:4:4"}),
    Kind("JPEG", ".jpg", "still", "JPEG", saving={"quality": 95}),
    Kind("JPEG, progressive", ".jpg", "still", "JPEG", saving={"quality": 95, "progressive": True}),
    Kind("PNG", ".png", "still", "PNG"),
    Kind("WebP", ".webp", "still", "WEBP", saving={"quality": 95}),
    Kind("GIF", ".gif", "still", "GIF", mode="P"),
    Kind("BMP", ".bmp", "still", "BMP"),
    Kind("TIFF", ".tif", "still", "TIFF", saving={"compression": "tiff_lzw"}),
    Kind("PPM", ".ppm", "still", "PPM"),
    Kind("HEIC", ".heic", "still", "HEIC"),
    Kind("AVIF", ".avif", "still", "AVIF", saving={"quality": 95, "subsampling": "4:4:4"}),
)
"""All that are tried."""

NOT_OPENED = {"asf": "Windows Media is not opened: too many decoders that nobody looks after"}
"""Containers that are refused, and why: so on every way in."""
