"""Writes files: films and sound through the ffmpeg program; boxes and elements that it cannot write."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hostile_media import box
from tests.media_matrix.kinds import Kind

WIDTH, HEIGHT, FRAMES_HZ, SECONDS = 128, 96, 25, 2
ONE = 1 << 16


def scene(second: float) -> np.ndarray:
    """Stripes that move, darker on the right: every way round looks different, and every frame."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    red = 128 + 90 * np.sin(x / 20 + 5 * second)
    green = 128 + 90 * np.sin(y / 16 - 4 * second)
    blue = 200 - x * 0.8 + 20 * second
    return np.stack([red, green, blue], axis=-1).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Wish:
    """How a film or a sound is to be otherwise than plainly.

    Attributes:
        rate_hz: of its samples; None: the kind's own.
        channels: FFmpeg's name of the layout.
        video, audio: options after the kind's own.
        pictures_at_s, sound_at_s: when each begins [s].
        tracks: of each sort.
        output: options at the end.
    """

    rate_hz: int | None = None
    channels: str = "stereo"
    video: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    pictures_at_s: float = 0.0
    sound_at_s: float = 0.0
    tracks: int = 1
    output: tuple[str, ...] = ()


def write(kind: Kind, path: Path, wish: Wish | None = None) -> Path:
    """A film or a sound of a kind."""
    wish = wish or Wish()
    inputs: list[str] = []
    maps: list[str] = []
    for track in range(wish.tracks):
        if kind.video:
            raw = path.with_name(f"{path.name}.{track}.rgb")
            frames = [scene(number / FRAMES_HZ) for number in range(FRAMES_HZ * SECONDS)]
            raw.write_bytes(b"".join((frame if not track else 255 - frame).tobytes() for frame in frames))
            size = f"{WIDTH}x{HEIGHT}"
            inputs += [
                "-itsoffset",
                str(wish.pictures_at_s),
                "-f",
                "rawvideo",
                "-pix_fmt",
                "rgb24",
                "-s",
                size,
            ]
            # As -r it would make times of its own.
            inputs += ["-framerate", str(FRAMES_HZ), "-i", str(raw)]
            maps += ["-map", f"{len(maps) // 2}:v"]
        if kind.audio:
            raw = path.with_name(f"{path.name}.{track}.f32")
            rate_hz = wish.rate_hz or kind.rate_hz
            raw.write_bytes(_tones(wish.channels, rate_hz, 300 + 600 * track).astype("<f4").tobytes())
            inputs += ["-itsoffset", str(wish.sound_at_s), "-f", "f32le", "-ar", str(rate_hz)]
            inputs += ["-channel_layout", wish.channels, "-ac", str(_COUNT[wish.channels]), "-i", str(raw)]
            maps += ["-map", f"{len(maps) // 2}:a"]
    options = [*kind.video, *wish.video, *kind.audio, *wish.audio, *wish.output]
    ffmpeg([*inputs, *maps, *options, "-f", kind.muxer, str(path)])
    return path


def copied(source: Path, path: Path, kind: Kind, *options: str, before: Sequence[str] = ()) -> Path:
    """A file's packets, written anew."""
    ffmpeg([*before, "-i", str(source), "-map", "0", "-c", "copy", *options, "-f", kind.muxer, str(path)])
    return path


def ffmpeg(options: Sequence[str]) -> None:
    """Run the program.

    Raises:
        RuntimeError: it failed.
    """
    command = ["ffmpeg", "-hide_banner", "-v", "error", "-y", "-threads", "1", "-strict", "-2", *options]
    # Where the last option is the file, what is experimental is allowed for it too.
    command[-1:-1] = ["-strict", "-2"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[-400:])


_COUNT = {"mono": 1, "stereo": 2, "quad": 4, "5.1": 6}


def _tones(channels: str, rate_hz: int, lowest_hz: int) -> np.ndarray:
    t = np.arange(rate_hz * SECONDS) / rate_hz
    swell = 0.15 + 0.1 * np.sin(2 * np.pi * 1.5 * t)
    return np.stack(
        [swell * np.sin(2 * np.pi * (lowest_hz + 90 * k) * t) for k in range(_COUNT[channels])], axis=-1
    )


def with_matrix(data: bytes, right: tuple[int, int], down: tuple[int, int]) -> bytes:
    """An MP4 file whose first track, its pictures, is turned (ISO 14496-12, 8.3.2)."""
    changed = bytearray(data)
    begin = changed.index(b"tkhd") + 44
    changed[begin : begin + 36] = struct.pack(
        ">9i", right[0] * ONE, right[1] * ONE, 0, down[0] * ONE, down[1] * ONE, 0, 0, 0, 1 << 30
    )
    return bytes(changed)


def with_aperture(data: bytes, entry: bytes, size: tuple[int, int], offset: tuple[int, int]) -> bytes:
    """An MP4 file whose pictures have a clean aperture (ISO 14496-12, 12.1.4), in a named sample entry."""
    film = bytearray(data)
    aperture = box(b"clap", struct.pack(">IIIIiIiI", size[0], 1, size[1], 1, offset[0], 1, offset[1], 1))
    start = film.index(b"moov")
    begin = film.index(entry, film.index(b"stsd", start)) - 4
    at = begin + int.from_bytes(film[begin : begin + 4], "big")
    film[at:at] = aperture
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", entry):
        begin = film.index(name, start) - 4
        start = begin + 8
        size_bytes = int.from_bytes(film[begin : begin + 4], "big") + len(aperture)
        film[begin : begin + 4] = size_bytes.to_bytes(4, "big")
    return _moved(bytes(film), len(aperture))


def _moved(film: bytes, by: int) -> bytes:
    """With the places of chunks corrected where the description stands before the data."""
    if film.index(b"moov") > film.index(b"mdat"):
        return film
    changed = bytearray(film)
    at = -1
    while (at := changed.find(b"stco", at + 1)) >= 0:
        for number in range(int.from_bytes(changed[at + 8 : at + 12], "big")):
            place = at + 12 + 4 * number
            moved = int.from_bytes(changed[place : place + 4], "big") + by
            changed[place : place + 4] = moved.to_bytes(4, "big")
    return bytes(changed)


def element(name: bytes, body: bytes) -> bytes:
    """An element of Matroska (RFC 8794)."""
    return name + (len(body) | 1 << 56).to_bytes(8, "big") + body


_LEFT_OUT = (b"\x11\x4d\x9b\x74", b"\x1c\x53\xbb\x6b", b"\xec")
VIDEO_OF_A_TRACK = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0")


def with_elements(data: bytes, path: tuple[bytes, ...], more: bytes) -> bytes:
    """A Matroska file with more at the end of an element; without its indices, which would be wrong then."""
    result, position = b"", 0
    while position < len(data):
        at = position + 9 - data[position].bit_length()
        after = at + 9 - data[at].bit_length()
        size = int.from_bytes(data[at:after], "big") & (1 << 7 * (after - at)) - 1
        name, body = data[position:at], data[after : after + size]
        position = after + size
        if name == path[0]:
            body = with_elements(body, path[1:], more) if path[1:] else body + more
        if name not in _LEFT_OUT and name != b"\xbf":
            result += element(name, body)
    return result


def picture(mode: str, *, transparent: bool = False) -> Image.Image:
    """A still picture of the scene."""
    shown = Image.fromarray(scene(0.3))
    if transparent:
        shown = shown.convert("RGBA")
        shown.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))))
        return shown
    if mode == "I;16":
        return Image.fromarray(np.asarray(shown.convert("L")).astype(np.uint16) * 257)
    return shown.convert(mode)
