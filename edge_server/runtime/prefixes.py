"""Keys and values of what was read before: the next turn of a conversation begins where they end.

    row leaves ─▶ keys and values of its prompt and answer ─▶ kept, the least recently used go first
    prompt ─▶ the longest beginning that one of its own conversation has in common with it ─▶ copied

What two prompts have in common is told by a signature: a number for each position, the language token there
or a digest of the block of feature tokens. One conversation never finds what another has read.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge_server.runtime.packing import Integers

FEWEST = 16
"""Shorter beginnings are read again: finding them costs as much."""
OF_ONE = 2
"""Beginnings that one conversation may have kept."""


@dataclass
class Followed:
    """What a row of a batch has read and said, as far as its conversation may find it again.

    Attributes:
        conversation: who may.
        signature_L: of its prompt.
        said: language tokens since.
    """

    conversation: str
    signature_L: Integers
    said: list[int] = field(default_factory=list)

    def first(self, length: int) -> Integers:
        """Signature of its first positions."""
        return np.concatenate([self.signature_L, np.asarray(self.said, np.int64)])[:length]


@dataclass(frozen=True)
class Kept:
    """The beginning of a conversation.

    Attributes:
        signature_L: of its positions.
        kv: keys and values of all layers, [layer, 2, G, L, D].
    """

    signature_L: Integers
    kv: Tensor


class Prefixes:
    """Beginnings of conversations, within a bound.

    Args:
        most_bytes: of all keys and values that are kept; 0: none are.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[str, list[Kept]] = OrderedDict()
        self.held_bytes = 0
        #: Positions that were found, and so not read again.
        self.found = 0

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def find(self, conversation: str, signature_L: Integers) -> tuple[Kept, int] | None:
        """The longest beginning of a prompt that is kept, and its length; it leaves a position to read."""
        if not conversation or conversation not in self._kept:
            return None
        self._kept.move_to_end(conversation)
        of_each = [(in_common(each.signature_L, signature_L), each) for each in self._kept[conversation]]
        length, best = max(of_each, key=lambda found: found[0])
        length = min(length, len(signature_L) - 1)
        if length < FEWEST:
            return None
        self.found += length
        return best, length

    def keep(self, conversation: str, signature_L: Integers, kv: Tensor) -> None:
        """Keep a beginning in place of what it goes on from, or of the oldest of its conversation."""
        if not conversation or kv.nbytes > self.most_bytes or len(signature_L) < FEWEST:
            return
        own = self._kept.setdefault(conversation, [])
        for old in list(own):
            if in_common(old.signature_L, signature_L) == len(old.signature_L):
                self._drop(own, old)
        while len(own) >= OF_ONE:
            self._drop(own, own[0])
        own.append(Kept(signature_L, kv))
        self.held_bytes += kv.nbytes
        self._kept.move_to_end(conversation)
        while self.held_bytes > self.most_bytes:
            oldest, theirs = next(iter(self._kept.items()))
            self._drop(theirs, theirs[0])
            if not theirs:
                del self._kept[oldest]

    def _drop(self, own: list[Kept], old: Kept) -> None:
        # By identity: comparing tensors is not what is meant.
        del own[next(place for place, each in enumerate(own) if each is old)]
        self.held_bytes -= old.kv.nbytes


def in_common(one_L: Integers, other_L: Integers) -> int:
    """How many positions two signatures have in common, from the first on."""
    length = min(len(one_L), len(other_L))
    differs = np.flatnonzero(one_L[:length] != other_L[:length])
    return int(differs[0]) if len(differs) else length


def signature_of_block(x_TC: npt.NDArray[np.float32]) -> Integers:
    """Of each feature token of a block: below zero, where no language token is."""
    digest = hashlib.blake2b(np.ascontiguousarray(x_TC).tobytes(), digest_size=8).digest()
    begin = int.from_bytes(digest, "little") >> 2
    return -1 - (begin + np.arange(len(x_TC), dtype=np.int64))


def stacked(layers: list[Tensor], cache_row: int, length: int) -> Tensor:
    """A copy of a cache row's first positions, [layer, 2, G, length, D]."""
    return torch.stack([layer[:, cache_row, :, :length] for layer in layers])
