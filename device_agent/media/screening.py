"""What a file's own headers tell, checked before FFmpeg opens it, and what of the file FFmpeg may read.

Titles, comments and covers are left out wherever the format says where they are: FFmpeg keeps each, looks
through all before it for the next, and inflates what says that it is compressed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.animation import is_animated_webp
from device_agent.media.boxes import Crop, check_boxes, is_boxes
from device_agent.media.clip import MediaKind
from device_agent.media.ebml import EBML_SIGNATURE, read_elements
from device_agent.media.files import ScreenedFile
from device_agent.media.flash import FLASH_SIGNATURE, blanked_scripts
from device_agent.media.heif import HeifPicture, read_picture
from device_agent.media.limits import MediaLimits
from device_agent.media.orientation import Turn, exif_turn
from device_agent.media.pictures import JPEG_SIGNATURE, PNG_SIGNATURE, check_jpeg, check_png
from device_agent.media.wav import check_wav, is_wav

IMAGE_FORMATS = (
    *("apng", "bmp_pipe", "gif", "jpeg_pipe", "pgm_pipe", "png_pipe", "ppm_pipe", "tiff_pipe", "webp_pipe"),
)
BOX_FORMAT = "mov"
MEDIA_FORMATS = (
    *(BOX_FORMAT, "matroska", "avi", "mpegts", "mpeg", "flv", "ogg"),
    *("wav", "w64", "flac", "mp3", "aac", "aiff", "au", "caf", "amr"),
)
"""FFmpeg's names. Nothing that refers to other files or addresses: no playlists, no concatenations."""

_WEBP = b"WEBP"
_PIXEL_BYTES = {
    **{JPEG_SIGNATURE: 0, PNG_SIGNATURE: 0, _WEBP: 4, b"GIF8": 4, b"BM": 4, b"II*\0": 8, b"MM\0*": 8},
    **{b"P4": 1, b"P5": 2, b"P6": 6},
}
"""How image files begin, and the most that a pixel takes in the decoder [bytes]; 0: their headers tell."""
_MAX_TAGS = 8
_MAX_CHUNKS = 10_000
_AIFF_CHUNKS = frozenset({b"COMM", b"SSND", b"FVER", b"CHAN", b"wave"})
_CAF_CHUNKS = frozenset({b"desc", b"data", b"pakt", b"kuki", b"chan"})
_FLAC_STREAMINFO, _FLAC_PADDING, _FLAC_SEEKTABLE = 0, 1, 3


@dataclass(frozen=True)
class Screened:
    """A file that may be opened.

    Attributes:
        file: what FFmpeg may read of it.
        formats: what it may be taken for, in FFmpeg's words.
        max_image_pixels: the most pixels that its decoder may take on, of an image; None: it is none.
        turns: how the pictures of a track are shown, by its number, where the file says so.
        crops: what is shown of the pictures of a track, likewise.
        alphas: numbers of tracks that say how much of another's pictures is seen.
        track_crops: the same of each track of pictures, in their order, where tracks have no numbers.
        image_turn: how the image is shown, where the file says so.
        reduction: how often the image is halved as it is decoded.
        picture: what it is put together from, of a HEIF picture.
        animation: the whole file, of an animated WebP.
    """

    file: ScreenedFile
    formats: tuple[str, ...]
    max_image_pixels: int | None = None
    turns: Mapping[int, Turn] = field(default_factory=dict)
    crops: Mapping[int, Crop] = field(default_factory=dict)
    alphas: frozenset[int] = frozenset()
    track_crops: tuple[Crop | None, ...] = ()
    image_turn: Turn | None = None
    reduction: int = 0
    picture: HeifPicture | None = None
    animation: bytes | None = None


def screen(
    file: BinaryIO, field: str, limits: MediaLimits, kind: MediaKind | None, max_side: int
) -> Screened:
    """Check the headers of a seekable file.

    Args:
        file: at any position.
        field: what to call it in errors.
        limits: of what decoding may cost.
        kind: what it has to be.
        max_side: pictures are shrunk to this [pixels].

    Raises:
        MediaError: names ``field``.
    """
    size = file.seek(0, os.SEEK_END)
    begin = _behind_tags(file)
    file.seek(begin)
    head = file.read(16)
    if is_wav(head) and not begin:
        sound = check_wav(file, field)
        return Screened(ScreenedFile(file, begin=sound.begin, end=sound.end, prefix=sound.header), ("wav",))
    if kind != "audio" and (found := _image_signature(head)) is not None:
        if begin:
            raise MediaError(field, "is an image behind something else; send the image alone")
        return _screened_image(file, found, size, field, limits, max_side)
    if is_boxes(head) and not begin:
        boxes = check_boxes(file, field)
        screened = ScreenedFile(file, patches=boxes.patches, max_read_bytes=limits.max_bytes, field=field)
        picture = None
        if boxes.items is not None and (kind == "image" or not boxes.turns):
            picture = read_picture(file, *boxes.items, field)
        return Screened(
            screened,
            (BOX_FORMAT,),
            turns=boxes.turns,
            crops=boxes.crops,
            alphas=boxes.alphas,
            picture=picture,
        )
    patches: dict[int, bytes] = {}
    track_crops: tuple[Crop | None, ...] = ()
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        patches = _blanked_chunks(file, begin + 12, size, ">4sI", _AIFF_CHUNKS, b"JUNK", 2)
    elif head[:4] == b"caff":
        patches = _blanked_chunks(file, begin + 8, size, ">4sQ", _CAF_CHUNKS, b"free", 1)
    elif head[:3] == FLASH_SIGNATURE:
        patches, size = blanked_scripts(file, begin)
    elif head[:4] == EBML_SIGNATURE:
        elements = read_elements(file, size)
        patches, track_crops = elements.patches, elements.crops
    elif head[:4] == b"fLaC":
        patches = _blanked_flac(file, begin + 4)
    screened = ScreenedFile(
        file, begin=begin, end=size, patches=patches, max_read_bytes=limits.max_bytes, field=field
    )
    formats = tuple(name for name in (*MEDIA_FORMATS, *IMAGE_FORMATS) if name != BOX_FORMAT)
    return Screened(screened, formats, track_crops=track_crops)


def _image_signature(head: bytes) -> bytes | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _WEBP
    return next((signature for signature in _PIXEL_BYTES if head.startswith(signature)), None)


def _screened_image(
    file: BinaryIO, signature: bytes, size: int, field: str, limits: MediaLimits, max_side: int
) -> Screened:
    if size > limits.max_bytes:
        raise MediaLimitError(
            field, f"has {size} bytes; at most {limits.max_bytes} are allowed (media.max_bytes)"
        )
    file.seek(0)
    data = file.read()
    end, most_pixels, reduction = size, limits.max_frame_pixels, 0
    patches: dict[int, bytes] = {}
    if signature == JPEG_SIGNATURE:
        found = check_jpeg(data, field, limits, max_side)
        end, reduction = found.end, found.reduction
    elif signature == PNG_SIGNATURE:
        end, patches = check_png(data, field, limits)
    else:
        most_pixels = min(most_pixels, limits.max_frame_bytes // _PIXEL_BYTES[signature])
        if signature == _WEBP:
            end = 8 + int.from_bytes(data[4:8], "little")
    screened = ScreenedFile(file, end=end, patches=patches)
    animation = data[:end] if signature == _WEBP and is_animated_webp(data) else None
    return Screened(
        screened,
        IMAGE_FORMATS,
        most_pixels,
        image_turn=exif_turn(data),
        reduction=reduction,
        animation=animation,
    )


def _behind_tags(file: BinaryIO) -> int:
    """Where a file begins behind tags of the kind that MP3 has (ID3v2) [bytes]."""
    begin = 0
    for _ in range(_MAX_TAGS):
        file.seek(begin)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3" or 0xFF in head[3:5] or max(head[6:10]) > 127:
            break
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        begin += 10 + size + (10 if head[5] & 0x10 else 0)
    return begin


def _blanked_chunks(
    file: BinaryIO, position: int, size: int, layout: str, known: frozenset[bytes], blank: bytes, align: int
) -> dict[int, bytes]:
    """The names of chunks that nothing is decoded from, replaced by that of one that is skipped."""
    patches = {}
    head_bytes = struct.calcsize(layout)
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        head = file.read(head_bytes)
        if len(head) < head_bytes:
            break
        name, declared = struct.unpack(layout, head)
        if name not in known:
            patches[position] = blank
        position += head_bytes + declared + declared % align
        if position >= size:
            break
    return patches


def _blanked_flac(file: BinaryIO, position: int) -> dict[int, bytes]:
    """Comments, pictures and cue sheets of a FLAC file, as padding."""
    patches = {}
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        head = file.read(4)
        if len(head) < 4:
            break
        if head[0] & 127 not in (_FLAC_STREAMINFO, _FLAC_PADDING, _FLAC_SEEKTABLE):
            patches[position] = bytes([head[0] & 128 | _FLAC_PADDING])
        if head[0] & 128:
            break
        position += 4 + int.from_bytes(head[1:], "big")
    return patches
