"""Pictures: sizes that lie, texts and profiles that inflate, many frames, many scans, many segments."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence

from tests.chaos.hostile_files.spoiling import log_uniform
from tests.hostile_media import (
    Kind,
    bmp_header,
    gif_header,
    jpeg_of_scans,
    picture,
    png,
    png_chunk,
    png_with,
    tiff_header,
    zeros,
)


def png_sizes(rng: random.Random) -> bytes:
    """A PNG of any size, depth and colour, with pixels or without."""
    width, height = log_uniform(rng, 1, 70_000), log_uniform(rng, 1, 70_000)
    pixels = zeros(log_uniform(rng, 100, 2**27))
    return png(width, height, pixels, depth=rng.choice((1, 8, 16)), colour=rng.choice((0, 2, 3, 4, 6)))


def png_texts(rng: random.Random) -> bytes:
    """A PNG of many texts, or of texts and profiles that inflate."""
    kind = rng.choice((b"zTXt", b"iCCP", b"iTXt"))
    if rng.random() < 0.5:
        inflated = log_uniform(rng, 2**16, 2**28)
        return png_with(kind, inflated, max(1, min(log_uniform(rng, 1, 1000), 8 * 2**30 // inflated)))
    count = log_uniform(rng, 100, 100_000)
    extra = b"".join(png_chunk(b"tEXt", b"k%06d\0v" % number) for number in range(count))
    return png(8, 6, zlib.compress(bytes(25 * 6)), extra=extra)


def apng(rng: random.Random) -> bytes:
    """An animated PNG that declares many frames, or has them."""
    side = log_uniform(rng, 8, 2000)
    row = bytes(1 + 3 * side)
    pixels = zlib.compress(row * side, 9)
    control = png_chunk(b"acTL", struct.pack(">II", log_uniform(rng, 1, 2**31), 0))
    frames = b"".join(
        png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, side, side, 0, 0, 1, 1000, 0, 0))
        + png_chunk(b"fdAT", struct.pack(">I", number) + pixels)
        for number in range(max(1, min(log_uniform(rng, 1, 3000), 11 * 2**20 // len(pixels))))
    )
    return png(side, side, pixels, extra=control + frames)


def gif(rng: random.Random) -> bytes:
    """A GIF: a canvas, many frames on it, many comments."""
    one = gif_header(log_uniform(rng, 1, 65_535), log_uniform(rng, 1, 65_535))
    frame = one[one.index(b",") : -1]
    comment = b"!\xfe\x04text\0"
    return one[:-1] + (rng.choice((b"", comment, comment * 20)) + frame) * log_uniform(rng, 1, 50_000) + b";"


def jpeg(rng: random.Random) -> bytes:
    """A JPEG: many scans, many segments before its picture, EXIF that points in circles."""
    side = log_uniform(rng, 16, 4000)
    match rng.randrange(3):
        case 0:
            return jpeg_of_scans(min(side, 2000), log_uniform(rng, 2, 3000))
        case 1:
            segment = bytes([0xFF, rng.choice((0xE1, 0xE2, 0xED, 0xFE, 0xDB, 0xC4))]) + struct.pack(">H", 20)
            many = (segment + rng.randbytes(18)) * log_uniform(rng, 10, 200_000)
        case _:
            entry = struct.pack(">HHII", rng.choice((0x8769, 0x8825, 0x112, 0x927C)), 4, 1, 8)
            tiff = b"MM\0*\0\0\0\x08" + struct.pack(">H", 600) + entry * 600 + struct.pack(">I", 8)
            many = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    plain = picture("JPEG", side, side)
    return plain[:2] + many + plain[2:]


def others(rng: random.Random) -> bytes:
    """BMP, TIFF, PPM: sizes that their headers tell."""
    width, height = log_uniform(rng, 1, 70_000), log_uniform(rng, 1, 70_000)
    rest = bytes(log_uniform(rng, 1, 2**20))
    match rng.randrange(3):
        case 0:
            return bmp_header(width, height) + rest
        case 1:
            return tiff_header(width, height) + rest
        case _:
            return rng.choice((b"P4", b"P5", b"P6")) + b"\n%d %d\n255\n" % (width, height) + rest


MAKERS: Sequence[tuple[str, Kind, Callable[[random.Random], bytes]]] = (
    ("PNG, sizes", "image", png_sizes),
    ("PNG, texts", "image", png_texts),
    ("APNG", "image", apng),
    ("GIF", "image", gif),
    ("JPEG", "image", jpeg),
    ("BMP, TIFF, PPM", "image", others),
)
