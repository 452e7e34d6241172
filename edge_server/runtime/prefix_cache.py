"""What was computed of prompts up to their questions, kept for the next question about the same.

    <bos> <visual> ... </visual> <audio> ... </audio> │ <question> ... <answer>
    └── read once: keys and values of every layer ────┘ └── read for each ────┘

A causal model's keys and values of a position depend on nothing behind it, so they serve every question.
Kept by a runner for prompts that say that others are likely to ask about the same (:attr:`Prompt.kept_as`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

MAX_BYTES = 64 * 2**20
"""Of each runner."""
KEPT_S = 600.0
"""Nothing is kept for longer: what it was made of may have been deleted."""


@dataclass(frozen=True)
class Prefix:
    """Keys and values of a prompt's beginning.

    Attributes:
        layers: of each layer, [2, G, P, D].
        made_s: when, on the cache's clock [s].
    """

    layers: Sequence[Tensor]
    made_s: float

    @property
    def length(self) -> int:
        """Positions P."""
        return self.layers[0].shape[2]

    @property
    def size_bytes(self) -> int:
        """Of the tensors."""
        return sum(layer.nbytes for layer in self.layers)


class PrefixCache:
    """Prefixes by name; those that were asked about last stay.

    Args:
        clock: monotonic seconds.
        max_bytes: bound.
    """

    def __init__(self, clock: Callable[[], float], max_bytes: int = MAX_BYTES) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, Prefix] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, name: str) -> Prefix | None:
        """What was kept under a name; None: nothing, or not any more."""
        self._expire()
        prefix = self._kept.get(name)
        if prefix is not None:
            self._kept.move_to_end(name)
        return prefix

    def keep(self, name: str, layers: Sequence[Tensor]) -> None:
        """Keep a prefix.

        Args:
            name: by which it will be asked for.
            layers: keys and values, [2, G, P, D] each; copied.
        """
        self._drop(name)
        prefix = Prefix([layer.clone() for layer in layers], self._clock())
        self._kept[name] = prefix
        self._bytes += prefix.size_bytes
        while self._bytes > self._max_bytes and self._kept:
            self._drop(next(iter(self._kept)))

    def _expire(self) -> None:
        since_s = self._clock() - KEPT_S
        for name in [name for name, prefix in self._kept.items() if prefix.made_s <= since_s]:
            self._drop(name)

    def _drop(self, name: str) -> None:
        prefix = self._kept.pop(name, None)
        if prefix is not None:
            self._bytes -= prefix.size_bytes
