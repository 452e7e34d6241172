"""Accounts of peers that several processes count in: doors of one machine that open one port together.

The kernel gives each connection to any of them: what one peer may ask is bounded only where all count
together. The accounts are a table in a file that all map into memory. A bucket of it that is looked at is
locked by the kernel (``fcntl``), until that is done or its process has ended.

    bucket of 8 rows, by the hash of the name
    row: hash │ questions: level, time │ bytes: level, time │ streams of each door │ sessions of each door
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_server.cell.accounts import Account, Rates
from edge_server.cell.token_bucket import TokenBucket

MAX_DOORS = 16
_KEY_BYTES, _ROWS, _BUCKETS = 16, 8, 4096
_HELD = struct.Struct(f"<{MAX_DOORS}H{MAX_DOORS}H")
_LEVELS = struct.Struct("<4d")
_ROW_BYTES = _KEY_BYTES + _LEVELS.size + _HELD.size
_BUCKET_BYTES = _ROWS * _ROW_BYTES
_MOST = 0xFFFF


def make_shared_accounts(path: Path) -> None:
    """Make an empty table that only its owner can read.

    Raises:
        OSError: it cannot be made.
    """
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "wb") as file:
        file.truncate(_BUCKETS * _BUCKET_BYTES)


class SharedAccounts:
    """Implements :class:`edge_server.cell.accounts.Accounts` for one of several processes.

    There is room for some 30,000 peers that are active at once; beyond, the one in the same bucket that was
    counted longest ago is forgotten, in favour of whoever it was. The table is held until the process ends:
    streams that end last are counted too.

    Args:
        path: the table.
        door: which process this is, from 0 to :data:`MAX_DOORS` - 1.
        rates: of each peer; the same everywhere.
        clock: seconds that are the same in all these processes, such as since boot.

    Raises:
        OSError: the table cannot be opened.
    """

    def __init__(self, path: Path, door: int, rates: Rates, clock: Callable[[], float]) -> None:
        self._door = door
        self._rates = rates
        self._clock = clock
        self._file = os.open(path, os.O_RDWR)
        self._table = mmap.mmap(self._file, _BUCKETS * _BUCKET_BYTES)
        self._forget_door()

    @contextmanager
    def of(self, name: str) -> Iterator[Account]:
        """See :class:`edge_server.cell.accounts.Accounts`."""
        key = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()
        bucket = int.from_bytes(key[:4], "little") % _BUCKETS * _BUCKET_BYTES
        fcntl.lockf(self._file, fcntl.LOCK_EX, _BUCKET_BYTES, bucket)
        try:
            row = self._row(bucket, key)
            account, held = self._read(row)
            try:
                yield account
            finally:
                self._write(row, key, account, held)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, _BUCKET_BYTES, bucket)

    def _row(self, bucket: int, key: bytes) -> int:
        """Where a peer's account is, or is to be."""
        rows = range(bucket, bucket + _BUCKET_BYTES, _ROW_BYTES)
        for row in rows:
            if self._table[row : row + _KEY_BYTES] == key:
                return row
        now_s, nobody = self._clock(), bytes(_KEY_BYTES)
        oldest: int = min(rows, key=self._counted_at)
        free = (
            row
            for row in rows
            if self._table[row : row + _KEY_BYTES] == nobody or self._read(row)[0].is_idle(now_s)
        )
        found = next(free, oldest)
        self._table[found : found + _ROW_BYTES] = bytes(_ROW_BYTES)
        return found

    def _counted_at(self, row: int) -> float:
        return float(_LEVELS.unpack_from(self._table, row + _KEY_BYTES)[1])

    def _read(self, row: int) -> tuple[Account, list[int]]:
        questions, bytes_ = self._rates.buckets(self._clock())
        if any(self._table[row : row + _KEY_BYTES]):
            of_questions, at_s, of_bytes, bytes_at_s = _LEVELS.unpack_from(self._table, row + _KEY_BYTES)
            questions.restore(of_questions, at_s)
            bytes_.restore(of_bytes, bytes_at_s)
        held = list(_HELD.unpack_from(self._table, row + _KEY_BYTES + _LEVELS.size))
        streams, sessions = held[:MAX_DOORS], held[MAX_DOORS:]
        here = streams[self._door], sessions[self._door]
        return Account(questions, bytes_, *here, sum(streams) - here[0], sum(sessions) - here[1]), held

    def _write(self, row: int, key: bytes, account: Account, held: list[int]) -> None:
        # Below nothing: of an account that was forgotten while something was held.
        held[self._door] = min(max(account.streams, 0), _MOST)
        held[MAX_DOORS + self._door] = min(max(account.sessions, 0), _MOST)
        levels = _LEVELS.pack(*_kept(account.questions), *_kept(account.bytes))
        self._table[row : row + _ROW_BYTES] = key + levels + _HELD.pack(*held)

    def _forget_door(self) -> None:
        """What the process before this one held at this door, it holds no more."""
        place = _KEY_BYTES + _LEVELS.size + 2 * self._door
        for bucket in range(0, _BUCKETS * _BUCKET_BYTES, _BUCKET_BYTES):
            if not any(self._table[bucket : bucket + _BUCKET_BYTES]):
                continue
            fcntl.lockf(self._file, fcntl.LOCK_EX, _BUCKET_BYTES, bucket)
            for row in range(bucket, bucket + _BUCKET_BYTES, _ROW_BYTES):
                for at in (row + place, row + place + 2 * MAX_DOORS):
                    self._table[at : at + 2] = bytes(2)
            fcntl.lockf(self._file, fcntl.LOCK_UN, _BUCKET_BYTES, bucket)


def _kept(bucket: TokenBucket) -> tuple[float, float]:
    return bucket.level, bucket.at_s
