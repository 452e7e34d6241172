"""Writes pictures and animations with Pillow; HEIC, which it does not write, box by box."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from tests.heif_files import coded, heif
from tests.hostile_media import box
from tests.media_matrix.kinds import Kind
from tests.media_matrix.making import HEIGHT, WIDTH, picture, scene

_ORIENTATION, _DESCRIPTION = 0x0112, 0x010E
_WITH_EXIF = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
_WITH_DENSITY = ("JPEG", "PNG", "BMP", "TIFF")
_TRANSPARENT = ("PNG", "WEBP", "TIFF", "AVIF", "GIF", "HEIC")
_MODES = {
    "L": ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"),
    "P": ("PNG", "GIF", "BMP", "TIFF"),
    "I;16": ("PNG",),
    "CMYK": ("JPEG",),
}
EVENLY_MS = (250,) * 5


def save(
    kind: Kind,
    path: Path,
    *,
    orientation: int = 1,
    transparent: bool = False,
    mode: str | None = None,
    density: tuple[int, int] | None = None,
    comment: str = "",
    aperture: tuple[int, int] | None = None,
    durations_ms: tuple[int, ...] = EVENLY_MS,
    disposal: bool = False,
) -> Path | None:
    """Write it; None where the format has no place for what is asked.

    Args:
        kind: of picture or animation.
        path: where to.
        orientation: EXIF's number.
        transparent: from left to right ever less.
        mode: Pillow's, of another than the kind's.
        density: dots to the inch, across and down.
        comment: a text beside it.
        aperture: width and height of the middle that is shown [pixels]; HEIC alone.
        durations_ms: of the frames of an animation [ms].
        disposal: frames of an animation leave in turn: themselves, nothing, what was before.
    """
    if transparent and kind.muxer not in _TRANSPARENT:
        return None
    if kind.muxer == "HEIC":
        if mode or density or comment:
            return None
        return _save_heic(path, orientation, transparent, aperture)
    if (
        (orientation != 1 and kind.muxer not in _WITH_EXIF)
        or (mode and kind.muxer not in _MODES[mode])
        or (density and kind.muxer not in _WITH_DENSITY)
    ):
        return None
    options: dict[str, Any] = dict(kind.saving)
    if transparent and kind.muxer == "WEBP":
        options |= {"lossless": True, "exact": True}
    if orientation != 1 or (comment and kind.muxer in _WITH_EXIF):
        exif = Image.Exif()
        if orientation != 1:
            exif[_ORIENTATION] = orientation
        if comment:
            exif[_DESCRIPTION] = comment.encode("ascii", "replace").decode()
        options["exif"] = exif
    if density:
        options["dpi"] = density
    if comment and kind.muxer in ("JPEG", "GIF"):
        options["comment"] = comment.encode()
    elif comment and kind.muxer == "PNG":
        options["pnginfo"] = texts = PngImagePlugin.PngInfo()
        texts.add_itxt("Comment", comment)
    elif comment and kind.muxer not in _WITH_EXIF:
        return None
    if kind.shape == "animation":
        frames = _moving(transparent, len(durations_ms))
        options |= {"disposal": [0, 1, 2, 1, 0]} if disposal else {}
        frames[0].save(
            path, kind.muxer, save_all=True, append_images=frames[1:], duration=list(durations_ms), **options
        )
        return path
    shown = picture(mode or kind.mode, transparent=transparent)
    shown.save(path, kind.muxer, **options)
    return path


def _save_heic(path: Path, orientation: int, transparent: bool, aperture: tuple[int, int] | None) -> Path:
    turns = {1: [], 6: [box(b"irot", b"\3")], 2: [box(b"imir", b"\1")]}[orientation]
    if aperture is not None:
        turns.append(box(b"clap", struct.pack(">IIIIiIiI", aperture[0], 1, aperture[1], 1, 0, 1, 0, 1)))
    shown = np.asarray(picture("RGB"))
    seen = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    alpha = [coded(np.repeat(seen[..., None], 3, axis=-1), "hevc")] if transparent else []
    path.write_bytes(heif([coded(shown, "hevc")], (WIDTH, HEIGHT), turns=turns, alpha=alpha))
    return path


def _moving(transparent: bool, count: int) -> list[Image.Image]:
    """A patch that moves over one colour, or over nothing."""
    frames = []
    for number in range(count):
        ground = (0, 0, 0, 0) if transparent else (*scene(0.0)[0, 0].tolist(), 255)
        frame = Image.new("RGBA", (WIDTH, HEIGHT), ground)
        place = (12 * number, 8, 12 * number + 40, 60)
        frame.paste((250 - 40 * number, 40 * number, 0, 255), place)
        frames.append(frame)
    return frames
