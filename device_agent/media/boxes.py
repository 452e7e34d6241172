"""The structure of an MP4, QuickTime or HEIF file, screened before FFmpeg reads it.

FFmpeg follows a box wherever it stands, and builds an index with an entry for each sample that a table
declares before it looks whether there is anything: a kilobyte may cost gigabytes. Here the boxes that a clip
is made of are known by their place. What stands elsewhere, or is none of them, is passed to FFmpeg under the
name of a box that it skips; what remains is added up.

Sources: ISO/IEC 14496-12 (ISO base media file format), 8.2 to 8.11; ISO/IEC 23008-12 (HEIF), 6 and 9.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, TypeAlias

from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.orientation import UPRIGHT, Turn, followed_by

MAX_SAMPLES = 1_000_000
"""In all tables of a file. A track has one per frame, or per 1,024 samples of sound."""

MAX_TRACKS = 64
MAX_BOXES = 50_000
MAX_ITEMS = 2_000
MAX_ENTRIES = {b"elst": 1_000, b"iinf": MAX_ITEMS, b"iloc": MAX_ITEMS}
"""Edits of a track, items of a picture: each is looked at for every sample, or every other item."""
MAX_DESCRIPTION_BYTES = 2**20
"""Of a track's sample descriptions; a decoder's parameters take kilobytes."""
_MAX_TABLE_BYTES = 16 * 2**20

_FIRST_BOXES = frozenset(
    {b"ftyp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"styp", b"sidx", b"pnot"}
    | {b"uuid", b"udta", b"junk", b"pict", b"PICT", b"prfl", b"emsg", b"prft", b"meta"}
)
_ROOT = b""
_CHILDREN: dict[bytes, frozenset[bytes]] = {
    _ROOT: frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"meta", b"sidx"}),
    b"moov": frozenset({b"mvhd", b"trak", b"mvex"}),
    b"trak": frozenset({b"tkhd", b"mdia", b"edts"}),
    b"edts": frozenset({b"elst"}),
    b"mdia": frozenset({b"mdhd", b"hdlr", b"minf"}),
    b"minf": frozenset({b"vmhd", b"smhd", b"hdlr", b"stbl"}),
    b"stbl": frozenset(
        {b"stsd", b"stts", b"ctts", b"cslg", b"stsc", b"stsz", b"stz2", b"stco", b"co64", b"stss", b"stps"}
    ),
    b"mvex": frozenset({b"mehd", b"trex"}),
    b"moof": frozenset({b"mfhd", b"traf"}),
    b"traf": frozenset({b"tfhd", b"tfdt", b"trun"}),
    b"meta": frozenset({b"hdlr", b"pitm", b"iinf", b"iloc", b"iref", b"iprp", b"idat"}),
    b"iprp": frozenset({b"ipco", b"ipma"}),
    b"ipco": frozenset(
        {b"hvcC", b"av1C", b"avcC", b"ispe", b"irot", b"imir", b"clap", b"colr", b"pixi", b"pasp", b"auxC"}
    ),
}
"""What is passed on, by the box that it stands in. No titles, no references to other files, no protection."""
_SKIPPED = b"skip"
"""Nothing in such a box is looked at. (Of ``free`` FFmpeg looks whether there is a film in it.)"""

_TABLES = frozenset(
    {b"stsz", b"stz2", b"stts", b"ctts", b"trun", b"stco", b"co64", b"stsc", b"stss", b"stps"}
)
_COUNTED = _TABLES | frozenset(MAX_ENTRIES) | {b"hdlr"}
_ENTRY_BYTES = {
    b"stts": 8,
    b"ctts": 8,
    b"stco": 4,
    b"co64": 8,
    b"stsc": 12,
    b"stss": 4,
    b"stps": 4,
    b"elst": 12,
}
_NOT_IN_DESCRIPTIONS = tuple(
    (_TABLES | frozenset(_CHILDREN) | {b"elst", b"cmov", b"hoov", b"udta", b"ilst", b"keys"}) - {_ROOT}
)
_PICTURE_ENTRY_BYTES = 86
_PCM_PACKET_SAMPLES = 1024
_SOUND_HANDLERS = frozenset({b"soun", b"url ", b"alis", b"rsrc"})
"""Of a QuickTime track there is a second one, which says where its data are."""
_AUXILIARY = b"auxv"
"""Handler of a track of pictures that says something of another's."""


Crop: TypeAlias = tuple[int, int, int, int]
"""Left, top, width, height [pixels]."""


@dataclass(frozen=True)
class Boxes:
    """What a file's boxes say.

    Attributes:
        patches: what FFmpeg is to read in place of what stands there: offset to bytes.
        turns: how the pictures of a track are shown, by the number of the track.
        crops: left, top, width and height of what is shown of them (their clean aperture), likewise [pixels].
        alphas: numbers of tracks that say how much of another's pictures is seen.
        items: where the description of pictures (HEIF, AVIF) begins and ends, if there is one [bytes].
    """

    patches: dict[int, bytes]
    turns: dict[int, Turn]
    crops: dict[int, Crop]
    alphas: frozenset[int]
    items: tuple[int, int] | None


def is_boxes(head: bytes) -> bool:
    """Whether bytes begin as an MP4, QuickTime or HEIF file does."""
    return head[4:8] in _FIRST_BOXES


def check_boxes(file: BinaryIO, field: str) -> Boxes:
    """Follow the boxes of a file; its position is put back to the start.

    Args:
        file: seekable, at any position.
        field: what to call it in errors.

    Raises:
        MediaError: a table says that it has more entries than bytes, or boxes hide where none belong.
        MediaLimitError: more samples, or boxes, than any clip has.
    """
    size = file.seek(0, os.SEEK_END)
    tracks: list[_Track] = [_Track()]
    patches: dict[int, bytes] = {}
    turns: dict[int, Turn] = {}
    crops: dict[int, Crop] = {}
    alphas: set[int] = set()
    film, number = UPRIGHT, 0
    items = None
    for boxes, (kind, header, begin, end, known) in enumerate(_boxes(file, _ROOT, 0, size)):
        if boxes > MAX_BOXES:
            raise MediaLimitError(field, f"has more than {MAX_BOXES} boxes")
        if not known:
            patches[header + 4] = _SKIPPED
            continue
        if kind in (b"trak", b"meta"):
            tracks.append(_Track())
            if len(tracks) > MAX_TRACKS:
                raise MediaLimitError(field, f"has more than {MAX_TRACKS} tracks")
            if kind == b"meta":
                items = items or (begin, end)
        elif kind in _COUNTED:
            file.seek(begin)
            table = file.read(min(end - begin, _MAX_TABLE_BYTES))
            tracks[-1].add(kind, table, end - begin, field)
            if kind == b"hdlr" and table[8:12] == _AUXILIARY:
                alphas.add(number)
        elif kind == b"mvhd":
            film = _turn(file, begin, end, 36, 48)[1]
        elif kind == b"tkhd":
            number, turns[number] = _turn(file, begin, end, 40, 52)
        elif kind == b"stsd":
            file.seek(begin)
            descriptions = file.read(min(end - begin, MAX_DESCRIPTION_BYTES + 1))
            _check_descriptions(descriptions, field)
            if (crop := _crop(descriptions)) is not None:
                crops[number] = crop
    samples = sum(track.samples for track in tracks)
    if samples > MAX_SAMPLES:
        raise MediaLimitError(
            field, f"declares {samples} samples in its tables; at most {MAX_SAMPLES} are allowed"
        )
    file.seek(0)
    turns = {number: followed_by(turn, film) for number, turn in turns.items()}
    return Boxes(patches, turns, crops, frozenset(alphas), items)


class _Track:
    """The tables of one track; of fragments, those of all tracks."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(_TABLES, 0)
        self._runs: list[tuple[int, ...]] = []
        self._chunks: list[tuple[int, int]] = []
        self._handlers: set[bytes] = set()

    def add(self, kind: bytes, table: bytes, size: int, field: str) -> None:
        """Count a table in; ``size`` is what its box takes [bytes]."""
        if kind == b"hdlr":
            self._handlers.add(table[8:12])
            return
        entries = _entries(kind, table)
        if kind in _ENTRY_BYTES and entries * _ENTRY_BYTES[kind] > size - 8:
            raise MediaError(
                field, f"its {kind.decode()!r} box declares {entries} entries; it has {size} bytes"
            )
        if kind in MAX_ENTRIES:
            if entries > MAX_ENTRIES[kind]:
                raise MediaLimitError(
                    field, f"its {kind.decode()!r} box has {entries} entries; at most {MAX_ENTRIES[kind]}"
                )
        elif kind in (b"stts", b"ctts"):
            present = min(entries, len(table[8:]) // 8)
            pairs = struct.unpack(f">{2 * present}I", table[8 : 8 + 8 * present])
            self._counts[kind] += sum(pairs[::2])
            if kind == b"stts":
                self._runs.append(pairs)
        else:
            self._counts[kind] += entries
            if kind == b"stsc":
                present = min(entries, len(table[8:]) // 12)
                triples = struct.unpack(f">{3 * present}I", table[8 : 8 + 12 * present])
                self._chunks += zip(triples[::3], triples[1::3], strict=True)

    @property
    def samples(self) -> int:
        """Entries that an index of the track would take."""
        counts = dict(self._counts)
        is_sound = b"soun" in self._handlers <= _SOUND_HANDLERS
        if is_sound and self._runs and all(len(run) == 2 and run[1] == 1 for run in self._runs):
            # Plain PCM: a sample of sound each, indexed by parts of chunks.
            counts |= {b"stsz": 0, b"stz2": 0, b"stts": 0, b"stsc": self._packets_of_chunks()}
        return max(counts.values())

    def _packets_of_chunks(self) -> int:
        last = max(self._counts[b"stco"], self._counts[b"co64"]) + 1
        return sum(
            max(min(next_first, last) - first, 0) * -(-samples // _PCM_PACKET_SAMPLES)
            for (first, samples), (next_first, _) in pairwise([*self._chunks, (last, 0)])
        )


def _turn(file: BinaryIO, begin: int, end: int, at: int, at_in_version_1: int) -> tuple[int, Turn]:
    """The number of a track (of a film it is none), and its display matrix, 16.16 fixed point."""
    file.seek(begin)
    header = file.read(min(end - begin, at_in_version_1 + 36))
    at, number_at = (at_in_version_1, 20) if header[:1] == b"\1" else (at, 12)
    if len(header) < at + 20:
        return 0, UPRIGHT
    right_x, right_y, _, down_x, down_y = struct.unpack(">5i", header[at : at + 20])
    number = int.from_bytes(header[number_at : number_at + 4], "big")
    return number, (right_x, right_y, down_x, down_y)


def _entries(kind: bytes, table: bytes) -> int:
    if kind in (b"stsz", b"stz2"):
        return int.from_bytes(table[8:12], "big")
    if kind in (b"iinf", b"iloc"):
        begin = 4 if kind == b"iinf" else 6
        wide = table[:1] > (b"\0" if kind == b"iinf" else b"\1")
        return int.from_bytes(table[begin : begin + (4 if wide else 2)], "big")
    return int.from_bytes(table[4:8], "big")


def _check_descriptions(table: bytes, field: str) -> None:
    """Their boxes stand behind fields whose length depends on the codec: looked for wherever they begin."""
    if len(table) > MAX_DESCRIPTION_BYTES:
        raise MediaLimitError(
            field, f"describes a track's samples in more than {MAX_DESCRIPTION_BYTES} bytes"
        )
    for name in _NOT_IN_DESCRIPTIONS:
        if name in table:
            raise MediaError(field, f"has a {name.decode()!r} box in the description of a track's samples")


def _crop(table: bytes) -> Crop | None:
    """The clean aperture in the first description of a track of pictures."""
    size = int.from_bytes(table[8:12], "big")
    entry = table[8 : 8 + size]
    at = entry.find(b"clap", _PICTURE_ENTRY_BYTES)
    if len(entry) < _PICTURE_ENTRY_BYTES or at < 0 or len(entry) < at + 36:
        return None
    width, height = struct.unpack(">HH", entry[32:36])
    return clean_aperture(entry[at + 4 : at + 36], (width, height))


def clean_aperture(body: bytes, size: tuple[int, int]) -> Crop | None:
    """What a ``clap`` box leaves of a picture; None where it makes no sense.

    Args:
        body: its content, 32 bytes.
        size: width and height of the picture [pixels].
    """
    values = struct.unpack(">IIIIiIiI", body[:32])
    if not all(values[1::2]):
        return None
    width, height, right, down = (top / bottom for top, bottom in zip(values[::2], values[1::2], strict=True))
    left, top = (size[0] - width) / 2 + right, (size[1] - height) / 2 + down
    crop = round(left), round(top), round(width), round(height)
    inside = min(crop[:2]) >= 0 and crop[0] + crop[2] <= size[0] and crop[1] + crop[3] <= size[1]
    return crop if inside and min(crop[2:]) >= 1 else None


def _boxes(
    file: BinaryIO, parent: bytes, begin: int, end: int
) -> Iterator[tuple[bytes, int, int, int, bool]]:
    """Every box whose parent is known: type, where it and its content begin, where it ends; known itself."""
    position = begin
    while end - position >= 8:
        file.seek(position)
        size, kind = struct.unpack(">I4s", file.read(8))
        content = position + 8
        if size == 1 and end - content >= 8:
            size, content = int.from_bytes(file.read(8), "big"), content + 8
        if size == 0:
            size = end - position
        # What claims to end beyond its parent ends with it.
        stop = max(min(position + size, end), content)
        known = kind in _CHILDREN[parent]
        if kind == b"meta" and known:
            # A picture's; of QuickTime there is one without a version, which only holds titles.
            file.seek(content + 8)
            known, content = file.read(4) == b"hdlr", content + 4
        yield kind, position, content, stop, known
        if known and kind in _CHILDREN:
            yield from _boxes(file, kind, content, stop)
        if size < content - position:
            return
        position += size
