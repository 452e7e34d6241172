"""Counts of an MP4 or QuickTime file, checked against the bytes that could back them.

A table of such a file may say "a hundred million samples, one byte each" in twenty bytes; FFmpeg builds an
index with an entry for each before it looks whether there is anything. Here the counts are added up first.

Source: ISO/IEC 14496-12 (ISO base media file format), 8.6 to 8.8.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from device_agent.errors import MediaError, MediaLimitError

MAX_SAMPLES = 500_000
"""In all tables of a file. A track has one per frame, or per 1,024 samples of sound."""

MAX_TRACKS = 64
MAX_BOXES = 20_000
MAX_DEPTH = 12
_MAX_TABLE_BYTES = 16 * 2**20

_FIRST_BOXES = frozenset(
    {b"ftyp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"styp", b"sidx", b"pnot"}
)
_TABLES = (b"stsz", b"stz2", b"stts", b"ctts", b"trun")
_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"mvex"})


def is_boxes(head: bytes) -> bool:
    """Whether bytes begin as an MP4 or QuickTime file does."""
    return head[4:8] in _FIRST_BOXES


def check_boxes(file: BinaryIO, field: str) -> None:
    """Add up the samples that a file's tables declare; its position is put back to the start.

    Args:
        file: seekable, at any position.
        field: what to call it in errors.

    Raises:
        MediaError: boxes within boxes without an end.
        MediaLimitError: more samples, or boxes, than any clip has.
    """
    size = file.seek(0, os.SEEK_END)
    tracks: list[_Track] = [_Track()]
    for boxes, (kind, begin, end) in enumerate(_boxes(file, 0, size, field, 0)):
        if boxes > MAX_BOXES:
            raise MediaLimitError(field, f"has more than {MAX_BOXES} boxes")
        if kind == b"trak":
            tracks.append(_Track())
            if len(tracks) > MAX_TRACKS:
                raise MediaLimitError(field, f"has more than {MAX_TRACKS} tracks")
        elif kind in _TABLES:
            file.seek(begin)
            tracks[-1].add(kind, file.read(min(max(end - begin, 0), _MAX_TABLE_BYTES)))
    samples = sum(track.samples for track in tracks)
    if samples > MAX_SAMPLES:
        raise MediaLimitError(
            field, f"declares {samples} samples in its tables; at most {MAX_SAMPLES} are allowed"
        )
    file.seek(0)


class _Track:
    """The tables of one track; of fragments, those of all tracks."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(_TABLES, 0)
        self._runs: list[tuple[int, ...]] = []

    def add(self, kind: bytes, table: bytes) -> None:
        """Count a table in."""
        if kind in (b"stsz", b"stz2"):
            self._counts[kind] += int.from_bytes(table[8:12], "big")
        elif kind == b"trun":
            self._counts[kind] += int.from_bytes(table[4:8], "big")
        else:
            entries = min(int.from_bytes(table[4:8], "big"), len(table[8:]) // 8)
            pairs = struct.unpack(f">{2 * entries}I", table[8 : 8 + 8 * entries])
            self._counts[kind] += sum(pairs[::2])
            if kind == b"stts":
                self._runs.append(pairs)

    @property
    def samples(self) -> int:
        """Entries that an index of the track would take."""
        counts = dict(self._counts)
        if self._runs and all(len(run) == 2 and run[1] == 1 for run in self._runs):
            # Plain PCM: a sample of sound each, indexed by the chunk.
            counts |= {b"stsz": 0, b"stz2": 0, b"stts": 0}
        return max(counts.values())


def _boxes(file: BinaryIO, begin: int, end: int, field: str, depth: int) -> Iterator[tuple[bytes, int, int]]:
    """Every box that may hold a table: type, and where its content begins and ends [bytes]."""
    if depth > MAX_DEPTH:
        raise MediaError(field, f"has boxes nested deeper than {MAX_DEPTH}")
    position = begin
    while end - position >= 8:
        file.seek(position)
        size, kind = struct.unpack(">I4s", file.read(8))
        content = position + 8
        if size == 1:
            size, content = int.from_bytes(file.read(8), "big"), content + 8
        if size == 0:
            size = end - position
        # What claims to end beyond its parent ends with it.
        stop = min(position + size, end)
        yield kind, content, stop
        if kind in _CONTAINERS:
            yield from _boxes(file, content, stop, field, depth + 1)
        if size < 8:
            return
        position += size
