"""What the headers of PNG and JPEG files promise, checked before a decoder acts on it.

FFmpeg's decoders believe a file: a PNG's compressed texts and colour profiles are inflated without a bound,
and a progressive JPEG goes over its whole picture again for every scan, of which thirty bytes make one. Here
both are counted first.

Sources: PNG (W3C, third edition), 5.2 and 11; ITU-T T.81 (JPEG), annex B.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.limits import MediaLimits

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8"

MAX_TEXTS = 1_000
"""Of a PNG; each is looked for among all before it."""

MAX_REDUCTION = 3
"""A block of 8 by 8 values is decoded as one pixel: a JPEG holds nothing smaller."""

MAX_INFLATED_BYTES = 2 * 2**20
"""Of all compressed texts and profiles of a PNG. A colour profile takes kilobytes, the largest a megabyte."""

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_BESIDE = frozenset({b"tEXt", b"zTXt", b"iTXt", b"eXIf"})
_PNG_SKIPPED = b"skIp"
_SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_REDUCED = frozenset({0xC0, 0xC1, 0xC2})
"""What cameras write; FFmpeg decodes it at a half, a quarter, an eighth of its size."""
_SCANS_OF_LARGEST = 16
_SOS = 0xDA
_EOI = 0xD9
_BARE = frozenset({0x01, 0xD8})
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)


def check_png(data: bytes | memoryview, field: str, limits: MediaLimits) -> tuple[int, dict[int, bytes]]:
    """Follow the chunks of a PNG file.

    Args:
        data: the file.
        field: what to call it in errors.
        limits: of what decoding may cost.

    Returns:
        Where the picture ends [bytes], and what to read in place of what is not needed: offset to bytes.

    Raises:
        MediaError: it has no header.
        MediaLimitError: picture, texts or profiles are larger than allowed.
    """
    view = memoryview(data)
    position, inflated, texts = len(PNG_SIGNATURE), 0, 0
    patches: dict[int, bytes] = {}
    if bytes(view[position + 4 : position + 8]) != b"IHDR" or len(view) < position + 21:
        raise MediaError(field, "is a PNG image without a header")
    while len(view) - position >= 12:
        size, kind = struct.unpack(">I4s", view[position : position + 8])
        body = view[position + 8 : position + 8 + size]
        if kind == b"IHDR" and len(body) >= 10:
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            channels = _PNG_CHANNELS.get(colour, 4)
            check_frame(width, height, channels * max(depth, 8) / 8, field, limits)
        elif kind == b"IEND":
            return position + 12 + size, patches
        elif kind in (b"zTXt", b"iCCP"):
            inflated += _inflated_bytes(body, MAX_INFLATED_BYTES - inflated + 1)
            if inflated > MAX_INFLATED_BYTES:
                raise MediaLimitError(
                    field,
                    f"its {kind.decode('ascii')} chunk inflates to more than the {MAX_INFLATED_BYTES} bytes "
                    "that texts and profiles may take",
                )
        if kind in _PNG_BESIDE:
            patches[position + 4] = _PNG_SKIPPED
            texts += 1
            if texts > MAX_TEXTS:
                raise MediaLimitError(field, f"has more than {MAX_TEXTS} texts")
        position += 12 + size
    return len(view), patches


@dataclass(frozen=True)
class Jpeg:
    """What the markers of a JPEG file say.

    Attributes:
        end: where the picture ends [bytes].
        reduction: decoded by half of the size so many times, it is still large enough.
    """

    end: int
    reduction: int


def check_jpeg(
    data: bytes | memoryview, field: str, limits: MediaLimits, max_side: int, *, whole: bool = True
) -> Jpeg:
    """Follow the markers of a JPEG file, or of one picture of a Motion JPEG video, up to its end.

    What stands behind that (the film of a moving photo, a second picture) is not looked at.

    Args:
        data: the file.
        field: what to call it in errors.
        limits: of what decoding may cost.
        max_side: the picture is shrunk to this afterwards [pixels].
        whole: it has to have an end.

    Raises:
        MediaError: it was cut short; the decoder would fill the rest with grey and say nothing.
        MediaLimitError: the picture is larger than allowed, or its scans go over it too often.
    """
    scans, pixels, reduction = 0, 0, MAX_REDUCTION
    for marker, body, end in _jpeg_segments(data):
        if marker in _SOF_MARKERS and len(body) >= 6:
            precision, height, width, components = struct.unpack(">BHHB", body[:6])
            sampling = [factors >> 4 for factors in body[7 : 6 + 3 * components : 3]]
            lines = [factors & 15 for factors in body[7 : 6 + 3 * components : 3]]
            widest, tallest = max(sampling, default=1) or 1, max(lines, default=1) or 1
            samples = sum(h * v for h, v in zip(sampling, lines, strict=True)) / (widest * tallest)
            smaller = reduction_of(width, height, max_side) if marker in _REDUCED and precision == 8 else 0
            reduction = min(reduction, smaller)
            # A progressive decoder keeps the coefficients too, two bytes each, until the last scan.
            kept = 2 if marker in _PROGRESSIVE else 0
            check_frame(width, height, samples * (kept + 0.25**smaller), field, limits)
            pixels = max(pixels, width * height)
        elif marker == _EOI and scans:
            return Jpeg(end, reduction if pixels else 0)
        elif marker == _SOS:
            scans += 1
            if scans * pixels > _SCANS_OF_LARGEST * limits.max_frame_pixels:
                raise MediaLimitError(
                    field,
                    f"goes over its {pixels} pixels in more than {scans - 1} scans; the largest picture of "
                    f"{limits.max_frame_pixels} pixels may in {_SCANS_OF_LARGEST} (media.max_frame_pixels)",
                )
    if whole:
        raise MediaError(field, "is a JPEG image that was cut short")
    return Jpeg(len(data), reduction if pixels else 0)


def reduction_of(width: int, height: int, max_side: int) -> int:
    """How often a picture may be halved as it is decoded, and still be twice as large as it is needed.

    Args:
        width: pixels.
        height: pixels.
        max_side: what it is shrunk to afterwards [pixels].
    """
    halves = 0
    while halves < MAX_REDUCTION and max(width, height) >> (halves + 1) >= 2 * max_side:
        halves += 1
    return halves


def check_frame(width: int, height: int, pixel_bytes: float, field: str, limits: MediaLimits) -> None:
    """Refuse a picture larger than the limits.

    Args:
        width: pixels.
        height: pixels.
        pixel_bytes: what one takes in the decoder's memory [bytes].
        field: what to call it in errors.
        limits: of one frame.

    Raises:
        MediaLimitError: too many pixels, or too many bytes.
    """
    if width * height > limits.max_frame_pixels:
        raise MediaLimitError(
            field,
            f"is {width} × {height} pixels; at most {limits.max_frame_pixels} in all are allowed "
            "(media.max_frame_pixels)",
        )
    needed_bytes = round(width * height * pixel_bytes)
    if needed_bytes > limits.max_frame_bytes:
        raise MediaLimitError(
            field,
            f"is {width} × {height} pixels, which take {needed_bytes} bytes to decode; "
            f"at most {limits.max_frame_bytes} are allowed (media.max_frame_bytes)",
        )


def _inflated_bytes(body: memoryview, most: int) -> int:
    """What the compressed part of a zTXt or iCCP chunk inflates to, counted up to ``most`` [bytes]."""
    raw = bytes(body)
    # A keyword, a zero byte, the method.
    start = raw.find(b"\0") + 2
    try:
        return len(zlib.decompressobj().decompress(raw[start:], most))
    except zlib.error:
        return 0  # the decoder stops there too


def _jpeg_segments(data: bytes | memoryview) -> Iterator[tuple[int, memoryview, int]]:
    """Markers, what belongs to them, where that ends; the picture's own bytes between two are passed over."""
    view = memoryview(data)
    position = 0
    while (found := _MARKER.search(view, position)) is not None:
        marker, position = found[1][0], found.end()
        if marker in _BARE:
            continue
        if marker == _EOI:
            yield marker, view[position:position], position
            continue
        size = max(int.from_bytes(view[position : position + 2], "big"), 2)
        body = view[position + 2 : position + size]
        position += size
        yield marker, body, position
