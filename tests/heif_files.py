"""HEIF files as phones write them: one picture in tiles, its turns and its crop among its properties."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from typing import Literal

import av
import numpy as np
from PIL import Image

from tests.hostile_media import box, full_box

Coded = tuple[bytes, bytes, bytes]
"""Type of the item, box of its decoder's parameters, data."""


def boxes(data: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Type and content of each box."""
    position = 0
    while len(data) - position >= 8:
        size, kind = struct.unpack(">I4s", data[position : position + 8])
        yield kind, data[position + 8 : position + size]
        position += size


def coded(pixels_HWC: np.ndarray, codec: Literal["hevc", "av1"]) -> Coded:
    """One picture, as an item of a HEIF file."""
    if codec == "av1":
        file = io.BytesIO()
        Image.fromarray(pixels_HWC).save(file, "AVIF", quality=95, subsampling="4:4:4")
        parts = dict(boxes(file.getvalue()))
        properties = dict(boxes(dict(boxes(dict(boxes(parts[b"meta"][4:]))[b"iprp"]))[b"ipco"]))
        return b"av01", box(b"av1C", properties[b"av1C"]), parts[b"mdat"]
    height, width = pixels_HWC.shape[:2]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        options = {"x265-params": "log-level=none:keyint=1:pools=1:frame-threads=1", "crf": "4"}
        stream = out.add_stream("libx265", rate=1, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_HWC, format="rgb24")))
        out.mux(stream.encode(None))
    data = file.getvalue()
    begin = data.index(b"hvcC") - 4
    parameters = data[begin : begin + int.from_bytes(data[begin : begin + 4], "big")]
    return b"hvc1", parameters, dict(boxes(data))[b"mdat"]


def heif(
    tiles: Sequence[Coded],
    tile_size: tuple[int, int],
    *,
    columns: int = 0,
    size: tuple[int, int] = (0, 0),
    turns: Sequence[bytes] = (),
    in_idat: bool = False,
    brand: bytes = b"heic",
    alpha: Sequence[Coded] = (),
) -> bytes:
    """A file whose primary item is a grid of tiles, or with ``columns=0`` its only tile.

    Args:
        tiles: row by row.
        tile_size: width and height of each [pixels].
        columns: of the grid.
        size: width and height of what is shown of the grid [pixels].
        turns: boxes of properties that the primary item has, in this order.
        in_idat: the grid's description stands in the file's own description.
        brand: of the file.
        alpha: of each tile, how much of it is seen; of a grid, they are one too.
    """
    count = len(tiles)
    grid = struct.pack(">BBBBHH", 0, 0, count // columns - 1, columns - 1, *size) if columns else b""
    data = [tile[2] for tile in tiles] + ([grid] if columns else [])
    primary = len(data)
    types = [tile[0] for tile in tiles] + ([b"grid"] if columns else [])
    entries = [
        full_box(b"infe", struct.pack(">HH4s", number, 0, kind), b"\0").replace(b"infe\0", b"infe\2", 1)
        for number, kind in enumerate(types, 1)
    ]
    extent = full_box(b"ispe", struct.pack(">II", *tile_size))
    properties = [tiles[0][1], extent, full_box(b"ispe", struct.pack(">II", *size)), *turns]
    own = [4 + number for number in range(len(turns))]
    has = {number: [1, 2] for number in range(1, count + 1)}
    has[primary] = (has.get(primary, [3]) if not columns else [3]) + own
    references = []
    if columns:
        others = struct.pack(f">{count}H", *range(1, count + 1))
        references.append(box(b"dimg", struct.pack(">HH", primary, count), others))
    if alpha:
        first = primary + 1
        data += [tile[2] for tile in alpha] + ([grid] if columns else [])
        kinds = [tile[0] for tile in alpha] + ([b"grid"] if columns else [])
        entries += [
            full_box(b"infe", struct.pack(">HH4s", number, 0, kind), b"\0").replace(b"infe\0", b"infe\2", 1)
            for number, kind in enumerate(kinds, first)
        ]
        properties += [alpha[0][1], full_box(b"auxC", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")]
        codec, says_so = len(properties) - 1, len(properties)
        has |= {number: [codec, 2] for number in range(first, first + count)}
        last = len(data)
        has[last] = [*(has.get(last, [3]) if not columns else [3]), says_so]
        if columns:
            others = struct.pack(f">{count}H", *range(first, first + count))
            references.append(box(b"dimg", struct.pack(">HH", last, count), others))
        references.append(box(b"auxl", struct.pack(">HHH", last, 1, primary)))
    reference = full_box(b"iref", *references) if references else b""
    associations = b"".join(
        struct.pack(">HB", number, len(indices)) + bytes(indices) for number, indices in has.items()
    )
    association = full_box(b"ipma", struct.pack(">I", len(has)), associations)
    head = box(b"ftyp", brand, bytes(4), b"mif1", brand)

    def description(base: int) -> bytes:
        locations = b""
        for number, item in enumerate(data, 1):
            inside = in_idat and number == primary and bool(columns)
            locations += struct.pack(">HHHHII", number, int(inside), 0, 1, 0 if inside else base, len(item))
            base += len(item)
        location = full_box(b"iloc", b"\x44\0", struct.pack(">H", len(data)), locations)
        return full_box(
            b"meta",
            full_box(b"hdlr", bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", struct.pack(">H", primary)),
            location.replace(b"iloc\0", b"iloc\1", 1),
            full_box(b"iinf", struct.pack(">H", len(entries)), *entries),
            reference,
            box(b"iprp", box(b"ipco", *properties), association),
            box(b"idat", grid) if in_idat else b"",
        )

    return head + description(len(head) + len(description(0)) + 8) + box(b"mdat", *data)
