"""Media that was made ready before: in a conversation, each turn brings the pictures of all turns again.

    file ─▶ digest ─▶ known, to this user, in the same form? ──yes──▶ its tokens
                        └─no─▶ decode, transmit ─▶ remembered, the least recently used go first

Only over a perfect channel, where the same file gives the same tokens. One user never learns by the time that
an answer takes what another has shown.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import BinaryIO, Generic, TypeVar

MadeT = TypeVar("MadeT")

MOST_BYTES = 32 * 2**20
"""Of all tokens that are remembered."""
REMEMBERED_FILE_BYTES = 16 * 2**20
"""Larger files are no pictures; to read them only to know them costs as much as it saves."""
_PIECE = 2**20


class Remembered(Generic[MadeT]):
    """What was made of media, within a bound. Thread-safe.

    Args:
        size: of what was made [bytes].
        most_bytes: of all that is remembered.
    """

    def __init__(self, size: Callable[[MadeT], int], most_bytes: int = MOST_BYTES) -> None:
        self._size, self._most_bytes = size, most_bytes
        self._made: OrderedDict[Hashable, MadeT] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()

    def find(self, key: Hashable) -> MadeT | None:
        """What was made of it before."""
        with self._lock:
            if key not in self._made:
                return None
            self._made.move_to_end(key)
            return self._made[key]

    def keep(self, key: Hashable, made: MadeT) -> None:
        """Remember it; what was used least recently goes."""
        size = self._size(made)
        if size > self._most_bytes:
            return
        with self._lock:
            if key in self._made:
                return
            self._made[key] = made
            self._held_bytes += size
            while self._held_bytes > self._most_bytes:
                _, gone = self._made.popitem(last=False)
                self._held_bytes -= self._size(gone)


def digest_of(file: BinaryIO) -> bytes:
    """SHA-256 of a file, which is then at its beginning again."""
    found = hashlib.sha256()
    file.seek(0)
    while piece := file.read(_PIECE):
        found.update(piece)
    file.seek(0)
    return found.digest()
