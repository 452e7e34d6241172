"""What a HEIF file (HEIC, AVIF) shows: the primary item, the tiles that it is put together from, its turns.

FFmpeg decodes each item as a track of one frame; which of them belong where stands in the file's ``meta`` box
and is read here.

Source: ISO/IEC 23008-12 (HEIF), 6 and 9.3; ISO/IEC 14496-12, 8.11 and 12.1.4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.boxes import Crop, clean_aperture
from device_agent.media.orientation import UPRIGHT, Turn, by_angle, followed_by

MAX_META_BYTES = 8 * 2**20
MAX_TILES = 1_024
_CODED = frozenset({b"hvc1", b"av01", b"avc1"})
_TURNING = frozenset({b"irot", b"imir", b"clap"})
_MIRRORED: dict[int, Turn] = {0: (1, 0, 0, -1), 1: (-1, 0, 0, 1)}
"""By axis: top and bottom exchanged, or left and right."""
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")


@dataclass(frozen=True)
class HeifPicture:
    """The primary item of a file.

    Attributes:
        tiles: numbers of the items with its parts, row by row; one alone is the picture.
        columns: in which they stand.
        size: width and height of what is shown of them together, before it is turned [pixels]; None: all.
        crop: left, top, width and height of what is shown of that [pixels]; None: all.
        turn: how it is shown.
        alpha: numbers of the items that say where it is transparent, row by row; empty: nowhere.
        alpha_columns: in which they stand.
        alpha_size: width and height of what counts of them together [pixels]; None: all.
    """

    tiles: tuple[int, ...]
    columns: int = 1
    size: tuple[int, int] | None = None
    crop: Crop | None = None
    turn: Turn = UPRIGHT
    alpha: tuple[int, ...] = ()
    alpha_columns: int = 1
    alpha_size: tuple[int, int] | None = None


@dataclass
class _Items:
    primary: int = 0
    types: dict[int, bytes] = field(default_factory=dict)
    places: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    made_of: dict[int, tuple[int, ...]] = field(default_factory=dict)
    belongs_to: dict[int, tuple[int, ...]] = field(default_factory=dict)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    has: dict[int, list[int]] = field(default_factory=dict)
    data: bytes = b""

    def of(self, item: int) -> list[tuple[bytes, bytes]]:
        """The properties of an item, in the order in which they apply."""
        return [
            self.properties[number - 1] for number in self.has.get(item, []) if number <= len(self.properties)
        ]


def read_picture(file: BinaryIO, begin: int, end: int, name: str) -> HeifPicture:
    """Read the content of a ``meta`` box.

    Args:
        file: seekable.
        begin: where the boxes in it begin [bytes].
        end: where they end.
        name: what to call the file in errors.

    Raises:
        MediaError: no picture that is understood.
        MediaLimitError: more tiles, or longer lists, than any picture has.
    """
    if end - begin > MAX_META_BYTES:
        raise MediaLimitError(name, f"describes its picture in more than {MAX_META_BYTES} bytes")
    file.seek(begin)
    try:
        items = _items(file.read(end - begin))
        return _picture(items, file, name)
    except (struct.error, IndexError) as error:
        raise MediaError(name, "is a HEIF picture whose description is cut short") from error


def _picture(items: _Items, file: BinaryIO, name: str) -> HeifPicture:
    kind = items.types.get(items.primary)
    if kind != b"grid" and kind not in _CODED:
        what = kind.decode("latin-1") if kind else "missing"
        raise MediaError(
            name, f"is a HEIF picture whose primary item is {what!r}; hvc1, av01 and grid are read"
        )
    tiles, columns, size = _tiles(items, items.primary, file, name)
    turn, crop = UPRIGHT, None
    for property_kind, body in items.of(items.primary):
        if property_kind == b"irot":
            turn = followed_by(turn, by_angle(90 * (body[0] & 3)))
        elif property_kind == b"imir":
            turn = followed_by(turn, _MIRRORED[body[0] & 1])
        elif property_kind == b"clap" and crop is None and turn == UPRIGHT:
            extent = size or _extent(items, items.primary)
            crop = clean_aperture(body, extent) if extent is not None else None
    alphas = (
        item
        for item, owners in items.belongs_to.items()
        if items.primary in owners
        and (items.types.get(item) in _CODED or items.types.get(item) == b"grid")
        and any(kind == b"auxC" and body[4:].startswith(_ALPHA) for kind, body in items.of(item))
    )
    alpha = next(alphas, None)
    if alpha is None:
        return HeifPicture(tiles, columns, size, crop, turn)
    return HeifPicture(tiles, columns, size, crop, turn, *_tiles(items, alpha, file, name))


def _tiles(
    items: _Items, item: int, file: BinaryIO, name: str
) -> tuple[tuple[int, ...], int, tuple[int, int] | None]:
    """What an item is put together from, in how many columns, and the size of that."""
    if items.types.get(item) != b"grid":
        return (item,), 1, None
    tiles = items.made_of.get(item, ())
    rows, columns, size = _grid(items, item, file)
    if len(tiles) != rows * columns or not all(items.types.get(tile) in _CODED for tile in tiles):
        raise MediaError(
            name, f"is a HEIF picture of {rows} × {columns} tiles, of which {len(tiles)} are there"
        )
    if len(tiles) > MAX_TILES:
        raise MediaLimitError(name, f"has {len(tiles)} tiles; at most {MAX_TILES} are allowed")
    return tuple(tiles), columns, size


def _extent(items: _Items, item: int) -> tuple[int, int] | None:
    for kind, body in items.of(item):
        if kind == b"ispe":
            width, height = struct.unpack(">II", body[4:12])
            return width, height
    return None


def _grid(items: _Items, item: int, file: BinaryIO) -> tuple[int, int, tuple[int, int]]:
    method, offset, length = items.places.get(item, (0, 0, 0))
    if method == 1:
        body = items.data[offset : offset + length]
    else:
        file.seek(offset)
        body = file.read(min(length, 16))
    rows, columns = body[2] + 1, body[3] + 1
    width, height = struct.unpack(">II" if body[1] & 1 else ">HH", body[4 : 12 if body[1] & 1 else 8])
    return rows, columns, (width, height)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while len(data) - position >= 8:
        size, kind = struct.unpack(">I4s", data[position : position + 8])
        begin = 8
        if size == 1:
            size, begin = struct.unpack(">Q", data[position + 8 : position + 16])[0], 16
        size = len(data) - position if size == 0 else size
        if size < begin:
            return
        yield kind, data[position + begin : position + size]
        position += size


def _items(meta: bytes) -> _Items:
    items = _Items()
    for kind, body in _boxes(meta):
        wide = body[:1] > b"\0"
        if kind == b"pitm":
            items.primary = struct.unpack(">I" if wide else ">H", body[4 : 8 if wide else 6])[0]
        elif kind == b"iinf":
            for entry_kind, entry in _boxes(body[8 if wide else 6 :]):
                if entry_kind == b"infe" and entry[0] in (2, 3):
                    layout, size = (">HH4s", 8) if entry[0] == 2 else (">IH4s", 10)
                    number, _, item_type = struct.unpack(layout, entry[4 : 4 + size])
                    items.types[number] = item_type
        elif kind == b"iloc":
            items.places = dict(_places(body))
        elif kind == b"idat":
            items.data = body
        elif kind == b"iref":
            layout, size = (">I", 4) if wide else (">H", 2)
            for how, reference in _boxes(body[4:]):
                number = struct.unpack(layout, reference[:size])[0]
                others = struct.iter_unpack(
                    layout, reference[size + 2 : len(reference) - (len(reference) - 2) % size]
                )
                target = {b"dimg": items.made_of, b"auxl": items.belongs_to}.get(how)
                if target is not None:
                    target[number] = tuple(other for (other,) in others)
        elif kind == b"iprp":
            for inner, content in _boxes(body):
                if inner == b"ipco":
                    items.properties = list(_boxes(content))
                elif inner == b"ipma":
                    items.has.update(_associations(content))
    return items


def _places(body: bytes) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Item, how it is stored, and where its first part begins and how long it is."""
    version = body[0]
    offset_size, length_size, base_size = body[4] >> 4, body[4] & 15, body[5] >> 4
    index_size = body[5] & 15 if version else 0
    position = 6

    def number(size: int) -> int:
        nonlocal position
        if position + size > len(body):
            raise IndexError
        position += size
        return int.from_bytes(body[position - size : position], "big")

    for _ in range(number(4 if version == 2 else 2)):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        first = None
        for _ in range(number(2)):
            number(index_size)
            offset, length = number(offset_size), number(length_size)
            first = first or (method, base + offset, length)
        if first is not None:
            yield item, first


def _associations(body: bytes) -> Iterator[tuple[int, list[int]]]:
    """Item, and the numbers of its properties."""
    wide_item, wide_index = body[0] > 0, body[3] & 1
    position = 8
    for _ in range(struct.unpack(">I", body[4:8])[0]):
        size = 4 if wide_item else 2
        item = int.from_bytes(body[position : position + size], "big")
        count = body[position + size]
        position += size + 1
        width = 2 if wide_index else 1
        indices = [
            int.from_bytes(body[at : at + width], "big") & (0x7FFF if wide_index else 0x7F)
            for at in range(position, position + count * width, width)
        ]
        position += count * width
        yield item, [index for index in indices if index]
