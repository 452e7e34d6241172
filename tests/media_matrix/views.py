"""What others see and hear in a file: the ffmpeg program in films and sound, Pillow in pictures."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, ImageSequence

from tests.heif_files import boxes
from tests.media_matrix.features import Made
from tests.media_matrix.kinds import Kind

Pixels = npt.NDArray[np.uint8]
Pcm = npt.NDArray[np.float32]

RATE_HZ, SAMPLES_HZ, WINDOW_S = 8, 16_000, 4.0
_UNNOTICED_S = 0.06
"""A lead-in of sound that nobody notices moves no pictures: they stay on the ticks they were made for."""
_EPSILON_S = 1e-3


@dataclass(frozen=True)
class View:
    """What a player shows and sounds.

    Attributes:
        frames_THWC: what is on show each eighth of a second; a picture is one.
        pcm_S: sound, mono, at 16 kHz.
        wide: pictures were resized, as pixels are not square.
    """

    frames_THWC: Pixels | None
    pcm_S: Pcm | None
    wide: bool = False


def view_of(kind: Kind, made: Made) -> View:
    """Somebody else's view of a file."""
    if kind.muxer == "HEIC":
        return View(_heic(made.path), None)
    if kind.shape == "still":
        with Image.open(made.path) as opened:
            return View(_on_white(ImageOps.exif_transpose(opened))[None], None)
    if kind.shape == "animation":
        return View(_animation(kind, made.path), None)
    frames, wide = _frames(made) if kind.video else (None, False)
    return View(frames, _sound(made.path) if kind.audio else None, wide)


def _run(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, check=True)


def _frames(made: Made) -> tuple[Pixels, bool]:
    start_s = _start_s(made.path)
    turning = () if made.rotates else ("-noautorotate",)
    told = _run(
        "ffmpeg", "-hide_banner", "-threads", "1", "-copyts", *turning, "-i", str(made.path),
        "-an", "-sn", "-dn", "-vf", "format=rgba,showinfo", "-vsync", "passthrough", "-f", "rawvideo", "-",
    )  # fmt: skip
    lines = re.findall(
        r"pts_time:\s*(\S+).*? sar:(\d+)/(\d+) s:(\d+)x(\d+)", told.stderr.decode(errors="replace")
    )
    times = [float(line[0]) - start_s for line in lines]
    width, height = int(lines[0][3]), int(lines[0][4])
    rgba = np.frombuffer(told.stdout, np.uint8).reshape(-1, height, width, 4)
    assert len(rgba) == len(times)
    seen = rgba[..., 3:].astype(np.uint16)
    # Black is behind films.
    frames = made.shown((rgba[..., :3] * seen // 255).astype(np.uint8))
    aspect = int(lines[0][1]) / max(int(lines[0][2]), 1) or 1.0
    on_ticks = _on_ticks(frames, times, 1 / 25)
    if abs(aspect - 1) < 1e-3:
        return on_ticks, False
    size = round(on_ticks.shape[2] * max(aspect, 1)), round(on_ticks.shape[1] / min(aspect, 1))
    wider = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)) for frame in on_ticks]
    return np.stack(wider), True


def _start_s(path: Path) -> float:
    """When a file begins, by its own clock [s]; a little before 0 is a lead-in that is not heard."""
    told = _run("ffprobe", "-v", "error", "-show_entries", "format=start_time", "-of", "json", str(path))
    start_s = float(json.loads(told.stdout)["format"].get("start_time", 0.0))
    return 0.0 if -_UNNOTICED_S < start_s < 0 else start_s


def _on_ticks(frames: Pixels, times: list[float], last_s: float) -> Pixels:
    lag_s = times[0] if 0 < times[0] < _UNNOTICED_S else 0.0
    end_s = min(times[-1] - lag_s + last_s, WINDOW_S)
    chosen: list[int] = []
    while len(chosen) / RATE_HZ < end_s - _EPSILON_S:
        tick_s = len(chosen) / RATE_HZ
        on_show = [number for number, at_s in enumerate(times) if at_s - lag_s <= tick_s + _EPSILON_S]
        chosen.append(on_show[-1] if on_show else 0)
    return frames[chosen]


def _sound(path: Path) -> Pcm:
    placed = (
        f"asetpts=PTS-{_start_s(path)}/TB,"
        f"aresample={SAMPLES_HZ}:async=1:first_pts=0:min_hard_comp=0.02:osf=s32,aformat=channel_layouts=mono"
    )
    told = _run(
        "ffmpeg", "-hide_banner", "-v", "error", "-threads", "1", "-copyts", "-i", str(path),
        "-vn", "-sn", "-dn", "-af", placed, "-f", "s32le", "-",
    )  # fmt: skip
    samples = np.frombuffer(told.stdout, "<i4").astype(np.float32) / np.float32(2**31)
    return samples[: round(WINDOW_S * SAMPLES_HZ)]


def _on_white(opened: Image.Image) -> Pixels:
    if opened.mode == "I;16":
        return np.repeat((np.asarray(opened) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    layer = opened.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))


def _animation(kind: Kind, path: Path) -> Pixels:
    with Image.open(path) as opened:
        # Of an animated WebP it leaves out, by itself, that a part is transparent.
        drawn = opened.mode == "RGB" and kind.muxer == "WEBP"
        shown = [
            (_where_drawn(frame) if drawn else _on_white(frame), float(frame.info["duration"]))
            for frame in ImageSequence.Iterator(opened)
        ]
    counts = [round(duration_ms / 1000 * RATE_HZ) for _, duration_ms in shown]
    return np.repeat(np.stack([pixels for pixels, _ in shown]), counts, axis=0)


def _where_drawn(frame: Image.Image) -> Pixels:
    """White where nothing was drawn: there Pillow gives black."""
    pixels = np.array(frame.convert("RGB"))
    pixels[(pixels == 0).all(axis=-1)] = 255
    return pixels


def _heic(path: Path) -> Pixels:
    """Pillow opens no HEIC: its coded pictures, through the ffmpeg program as bare HEVC, are put together."""
    parts = dict(boxes(path.read_bytes()))
    description = parts[b"meta"][4:]
    listed = list(boxes(dict(boxes(dict(boxes(description))[b"iprp"]))[b"ipco"]))
    properties = dict(listed)
    data = parts[b"mdat"]
    sets = _annex_b_of_sets(next(body for name, body in listed if name == b"hvcC"))
    position = 0
    stream = sets
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        stream += b"\0\0\0\1" + data[position + 4 : position + 4 + size]
        position += 4 + size
    width, height = (int.from_bytes(properties_of(listed)[at : at + 4], "big") for at in (4, 8))
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "hevc", "-i", "-", "-vsync", "passthrough", "-pix_fmt", "rgb24",
         "-f", "rawvideo", "-"], input=stream, capture_output=True, check=True,
    )  # fmt: skip
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
    shown: Pixels = pictures[0]
    if len(pictures) == 2:
        alpha = pictures[1][..., :1].astype(np.float32) / 255
        shown = (shown * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    if b"clap" in properties:
        wide, high = (int.from_bytes(properties[b"clap"][at : at + 4], "big") for at in (0, 8))
        left, top = (width - wide) // 2, (height - high) // 2
        shown = shown[top : top + high, left : left + wide]
    if b"irot" in properties:
        shown = np.rot90(shown, properties[b"irot"][0])
    if b"imir" in properties:
        shown = shown[:, ::-1] if properties[b"imir"][0] else shown[::-1]
    return shown[None]


def properties_of(listed: list[tuple[bytes, bytes]]) -> bytes:
    """The first extent [bytes]."""
    return next(body for name, body in listed if name == b"ispe")


def _annex_b_of_sets(record: bytes) -> bytes:
    """Parameter sets of an ``hvcC`` (ISO 14496-15, 8.3.3.1), as a stream begins with."""
    stream, position = b"", 23
    for _ in range(record[22]):
        count = int.from_bytes(record[position + 1 : position + 3], "big")
        position += 3
        for _ in range(count):
            size = int.from_bytes(record[position : position + 2], "big")
            stream += b"\0\0\0\1" + record[position + 2 : position + 2 + size]
            position += 2 + size
    return stream
