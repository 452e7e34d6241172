"""Files of boxes (ISO 14496-12: MP4, MOV, HEIF): tables that lie, boxes where none belong, boxes of boxes."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from tests.chaos.hostile_files.spoiling import log_uniform
from tests.heif_files import coded, heif
from tests.hostile_media import Kind, box, fragments, full_box, mov, silence, stillness

_CONTAINERS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"mvex"))
_WRAPPERS = (
    *(b"dinf", b"udta", b"sinf", b"schi", b"tref", b"wave", b"gmhd", b"imap", b"ilst", b"iprp", b"mfra"),
    *(b"junk", b"moov", b"trak", b"stbl", b"meta", b"ipro", b"strk", b"meco", b"moof", b"traf"),
)
_FIRST = (b"uuid", b"udta", b"junk", b"pict", b"prfl", b"ediw", b"emsg", b"meta", b"jP  ", b"free", b"wide")


@dataclass
class Box:
    """A box: its type, and its content or the boxes in it."""

    kind: bytes
    content: bytes = b""
    inside: list[Box] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """As it stands in a file."""
        return box(self.kind, self.content or b"".join(each.to_bytes() for each in self.inside))

    def find(self, *path: bytes) -> Box:
        """A box in this one, by the types on the way."""
        return self if not path else next(b for b in self.inside if b.kind == path[0]).find(*path[1:])

    def put(self, kind: bytes, content: bytes) -> None:
        """Replace the content of a box in this one, or add it."""
        self.inside = [each for each in self.inside if each.kind != kind] + [Box(kind, content)]


def tree(data: bytes) -> list[Box]:
    """The boxes of a file."""
    found, at = [], 0
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        content = data[at + 8 : at + size]
        found.append(Box(kind, b"", tree(content)) if kind in _CONTAINERS else Box(kind, content))
        at += size
    return found


Tree: TypeAlias = list[Box]


def _clip(rng: random.Random) -> Tree:
    if rng.random() < 0.5:
        return tree(stillness("mp4", "libx264", 64, 64, 8, 4))
    return tree(silence("ipod", "aac", 16_000, "mono", 1.0))


def _file(made: Tree) -> bytes:
    return b"".join(each.to_bytes() for each in made)


def _movie(made: Tree) -> Box:
    return next(each for each in made if each.kind == b"moov")


def _table(made: Tree) -> Box:
    return _movie(made).find(b"trak", b"mdia", b"minf", b"stbl")


def _lie(made: Tree, rng: random.Random) -> None:
    """Sample tables that declare more than there is."""
    count = log_uniform(rng, 10_000, 2**31)
    table = _table(made)
    lies = {
        b"stsz": struct.pack(">III", 0, 1, count),
        b"stts": struct.pack(">IIII", 0, 1, count, 512),
        b"stsc": struct.pack(">IIIII", 0, 1, 1, count, 1),
        b"ctts": struct.pack(">IIII", 0, 1, count, 1),
        b"stco": struct.pack(">III", 0, 1, 40),
        b"stss": struct.pack(">II", 0, count),
    }
    for kind in rng.sample(list(lies), rng.randrange(1, 6)):
        table.put(kind, lies[kind])


def lying(rng: random.Random) -> bytes:
    """Tables that lie, where they belong."""
    made = _clip(rng)
    _lie(made, rng)
    return _file(made)


def wrapped(rng: random.Random) -> bytes:
    """The same where nobody looks for them: in a box of another type, one or several deep."""
    made = _clip(rng)
    _lie(made, rng)
    holder = rng.choice((_movie(made), _movie(made).find(b"trak", b"mdia", b"minf")))
    for _ in range(log_uniform(rng, 1, 40)):
        holder.inside = [Box(rng.choice(_WRAPPERS), b"", holder.inside)]
    return _file(made)


def renamed(rng: random.Random) -> bytes:
    """Behind another first box, or under another name, as old files have it."""
    made = _clip(rng)
    _lie(made, rng)
    if rng.random() < 0.5:
        _movie(made).kind = rng.choice((b"hoov", b"moOv", b"mdat", b"skip"))
    first = rng.choice(_FIRST)
    return box(first, rng.randbytes(log_uniform(rng, 1, 64))) + _file(made)


def deflated(rng: random.Random) -> bytes:
    """A movie header that is deflated: with tables that lie, or of nothing, a thousandfold."""
    made = _clip(rng)
    _lie(made, rng)
    movie = _movie(made)
    inner = movie.to_bytes() if rng.random() < 0.5 else bytes(log_uniform(rng, 2**20, 2**28))
    packed = struct.pack(">I", min(len(inner) * rng.choice((1, 16)), 2**32 - 1)) + zlib.compress(inner, 9)
    movie.inside = [Box(b"cmov", b"", [Box(b"dcom", b"zlib"), Box(b"cmvd", packed)])]
    return _file(made)


def edited(rng: random.Random) -> bytes:
    """Edit lists: long, negative, of odd speeds."""
    made, count = _clip(rng), log_uniform(rng, 1, 400_000)
    entry = struct.pack(">IiI", *rng.choice(((1, 0, 1 << 16), (2**31 - 1, -(2**31), 2**31 - 1), (0, 7, 0))))
    track = _movie(made).find(b"trak")
    track.inside = [each for each in track.inside if each.kind != b"edts"]
    edits = Box(b"elst", struct.pack(">II", 0, count) + entry * min(count, 400_000))
    track.inside.insert(1, Box(b"edts", b"", [edits]))
    return _file(made)


def titled(rng: random.Random) -> bytes:
    """Metadata: a great many keys, items, free-form items; covers that are none."""
    made, count = _clip(rng), log_uniform(rng, 10, 200_000)
    if rng.random() < 0.5:
        keys = b"".join(box(b"mdta", b"%06x" % number) for number in range(count))
        inside = [Box(b"keys", struct.pack(">II", 0, count) + keys)]
    else:
        data = box(b"data", struct.pack(">II", rng.choice((1, 13, 21)), 0) + b"v")
        names = (b"----", b"\xa9nam", b"covr", b"trkn", b"\xa9cmt")
        items = b"".join(box(rng.choice(names), data) for _ in range(count))
        inside = [Box(b"ilst", items)]
    about = full_box(b"hdlr", bytes(4), b"mdir", bytes(13))
    meta = bytes(4) + about + b"".join(each.to_bytes() for each in inside)
    _movie(made).inside.append(Box(b"udta", b"", [Box(b"meta", meta)]))
    return _file(made)


def deep(rng: random.Random) -> bytes:
    """Boxes in boxes in boxes."""
    kind, inner = rng.choice(_WRAPPERS), b""
    for _ in range(log_uniform(rng, 100, 20_000)):
        inner = box(kind, inner)
    made = _clip(rng)
    made.insert(rng.randrange(len(made)), Box(kind, inner))
    return _file(made)


def crowded(rng: random.Random) -> bytes:
    """Many tracks, or many small boxes."""
    if rng.random() < 0.5:
        return mov(log_uniform(rng, 10, 10**7), tracks=log_uniform(rng, 2, 3000))
    made = _clip(rng)
    kind = rng.choice((*_WRAPPERS, b"free", b"sidx", b"pssh", b"sgpd", b"saiz"))
    many = Box(kind, rng.randbytes(rng.randrange(24)))
    rng.choice((made, _movie(made).inside, _table(made).inside)).extend(
        [many] * log_uniform(rng, 10, 200_000)
    )
    return _file(made)


def fragmented(rng: random.Random) -> bytes:
    """Fragments: of many samples, or many of them."""
    one = fragments(log_uniform(rng, 100, 2**31))
    at = one.index(b"moof") - 4
    return one[:at] + one[at:] * log_uniform(rng, 1, 2000)


def sized(rng: random.Random) -> bytes:
    """A picture of a size that is not: of the track, of the sample entry."""
    data = bytearray(stillness("mp4", "libx264", 64, 64, 8, 4))
    for kind, offset in ((b"avc1", 28), (b"tkhd", 80)):
        at = data.index(kind) + offset
        data[at : at + 4] = rng.getrandbits(32).to_bytes(4, "big")
    return bytes(data)


def photo(rng: random.Random) -> bytes:
    """A HEIF picture of many tiles, odd sizes, turns and crops."""
    side = 64
    pixels = np.full((side, side, 3), rng.randrange(256), np.uint8)
    columns, rows = log_uniform(rng, 1, 40), log_uniform(rng, 1, 40)
    size = (log_uniform(rng, 1, 65_535), log_uniform(rng, 1, 65_535)) if rng.random() < 0.5 else (0, 0)
    turns = [box(b"irot", bytes([rng.randrange(256)])) for _ in range(log_uniform(rng, 1, 200))]
    return heif(
        [coded(pixels, "hevc")] * (columns * rows), (side, side), columns=columns, size=size, turns=turns
    )


_Makers: TypeAlias = Sequence[tuple[str, Kind, Callable[[random.Random], bytes]]]
MAKERS: _Makers = (
    ("MP4, tables that lie", "video", lying),
    ("MP4, tables in other boxes", "video", wrapped),
    ("MOV, under other names", "audio", renamed),
    ("MOV, a deflated header", "video", deflated),
    ("MP4, edit lists", "video", edited),
    ("MP4, metadata", "audio", titled),
    ("MP4, boxes of boxes", "video", deep),
    ("MP4, many boxes", "audio", crowded),
    ("MP4, fragments", "audio", fragmented),
    ("MP4, sizes", "video", sized),
    ("HEIF", "image", photo),
)
