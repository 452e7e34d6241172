"""The running batch's keys and values: one block of memory per layer, a cache row for each question.

row 0  k k k k k . . .     Questions come and go without a copy of the others: one that leaves gives its row
row 1  k k k . . . . .     back, one that comes takes a free one. Before a step that would find holes
row 2  . . . . . . . .     between them, the last ones move into the holes, so that a step reads the
row 3  k k k k k k k .     rows 0 to B - 1 as they are. Under load, arrivals have filled them by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_server.runtime.packing import Integers
from edge_server.runtime.transfer import on_device

# A multiple of what padding rounds lengths up to.
_POSITIONS_STEP = 32
_FEWEST_ROWS = 8
# A cache of more positions in all than this shrinks once less than this share of them is in use.
_WORTH_SHRINKING_POSITIONS = 8192
_TOO_LITTLE_USED = 0.25


class KeyValueCache:
    """Keys and values of one running batch.

    Args:
        layers: decoder blocks.
        heads: key/value heads G.
        head_dim: width of each, D.
        dtype: of keys and values.
        device: where they are.
    """

    def __init__(
        self, layers: int, heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._heads, self._head_dim = heads, head_dim
        self._dtype, self._device = dtype, device
        self.lengths: Integers = np.zeros(0, np.int64)
        self.last_R = torch.zeros(0, dtype=torch.int64, device=device)
        #: What is added to a row's place to get the position that it is turned by: pictures span fewer
        #: positions than they have tokens. Zero but for models whose positions do.
        self.shift_R = torch.zeros(0, dtype=torch.int64, device=device)
        #: 1 for rows that are answered with a LoRA which is kept apart, else 0.
        self.adapted_R = torch.zeros(0, device=device)
        #: Keys and values of each layer, [2, R, G, P, D].
        self.layers = [self._empty(0, 0) for _ in range(layers)]
        self._free: set[int] = set()
        self._unfit: set[int] = set()
        #: What is recorded of work over exactly this memory; gone when it moves.
        self.recorded: dict[tuple[int, int], Any] = {}

    @property
    def rows(self) -> int:
        """Cache rows R."""
        return self.layers[0].shape[1]

    @property
    def positions(self) -> int:
        """Positions of a cache row P."""
        return self.layers[0].shape[3]

    def take(self, lengths: Sequence[int]) -> list[int]:
        """Free cache rows for rows of these lengths, in ascending order."""
        needed, longest = len(lengths) - len(self._free), max(lengths)
        if needed > 0:
            # Both at once: each change of size is a copy of everything.
            rows = max(_FEWEST_ROWS, self.rows + needed, 2 * self.rows)
            self._resize(rows, self._room_for(longest))
        self.reach(longest)
        cache_rows = sorted(self._free)[: len(lengths)]
        self._clean(cache_rows)
        self._free.difference_update(cache_rows)
        self.lengths[cache_rows] = lengths
        self.shift_R[cache_rows] = 0
        self.adapted_R[cache_rows] = 0
        return cache_rows

    def write(self, cache_row: int, layers: Sequence[Tensor]) -> None:
        """Put keys and values at a row's beginning.

        Args:
            cache_row: taken, and long enough.
            layers: of each layer, [2, G, P, D].
        """
        for layer, known in zip(self.layers, layers, strict=True):
            layer[:, cache_row, :, : known.shape[2]] = known

    def free(self, cache_rows: Sequence[int]) -> None:
        """Rows have left."""
        self._free.update(cache_rows)
        self.lengths[list(cache_rows)] = 0
        in_use = self.rows - len(self._free)
        longest = int(self.lengths.max(initial=0))
        if self.rows * self.positions <= _WORTH_SHRINKING_POSITIONS:
            return
        if longest + 1 < _TOO_LITTLE_USED * self.positions:
            self._resize(self.rows, longest + 1)
        if in_use < _TOO_LITTLE_USED * self.rows and self._free.isdisjoint(range(in_use)):
            self._resize(max(in_use, _FEWEST_ROWS), self.positions)

    def remember(self, cache_rows: Sequence[int], tokens_B: Tensor) -> None:
        """The newest language token of each cache row, [B]."""
        self.last_R.index_copy_(0, self._index(cache_rows), tokens_B.to(self.last_R.dtype))

    def is_fit(self, cache_row: int) -> bool:
        """Whether a cache row holds numbers only, as far as is known."""
        return cache_row not in self._unfit

    def mark_nonfinite(self, cache_row: int) -> None:
        """A cache row holds what is no number: clean it before another row gets it."""
        self._unfit.add(cache_row)

    def reach(self, length: int) -> None:
        """See to it that a row of this length fits, and that it can grow a little."""
        if length > self.positions:
            self._resize(self.rows, self._room_for(length))

    def room_for_one_more(self, rows: int) -> int:
        """See to it that the first rows can grow by a position; how many the longest has then."""
        longest = int(self.lengths[:rows].max()) + 1
        self.reach(longest)
        return longest

    def _room_for(self, length: int) -> int:
        """Positions of a cache row in which a row of this length can grow a little."""
        if length <= self.positions:
            return self.positions
        return max(length + _POSITIONS_STEP, 3 * self.positions // 2)

    def compact(self, cache_rows: Sequence[int]) -> list[int]:
        """Move rows so that they fill the cache rows from 0 on, without holes; where each row stands then."""
        count = len(cache_rows)
        holes = sorted(self._free.intersection(range(count)))
        if not holes:
            return list(cache_rows)
        movers = sorted(cache_row for cache_row in cache_rows if cache_row >= count)
        longest = int(self.lengths[movers].max())
        self._clean(holes)
        to, from_ = self._index(holes), self._index(movers)
        for layer in self.layers:
            used = layer[:, :, :, :longest]
            used.index_copy_(1, to, used.index_select(1, from_))
        self.last_R[to] = self.last_R[from_]
        self.shift_R[to] = self.shift_R[from_]
        self.adapted_R[to] = self.adapted_R[from_]
        self.lengths[holes] = self.lengths[movers]
        self.lengths[movers] = 0
        moved = dict(zip(movers, holes, strict=True))
        self._unfit.update(moved[cache_row] for cache_row in self._unfit.intersection(movers))
        self._free.difference_update(holes)
        self._free.update(movers)
        return [moved.get(cache_row, cache_row) for cache_row in cache_rows]

    def places(self, positions_B: Tensor) -> Tensor:
        """Where one position of each of the first rows is kept, in a layer as [2 * R * G * P, D].

        Args:
            positions_B: one for each row, on the cache's device.

        Returns:
            A place for each row, and of it for its key and its value, and of these for each head.
        """
        begin = torch.arange(
            0, 2 * self.rows * self._heads * self.positions, self.positions, device=self._device
        )
        begin_B2G = begin.view(2, self.rows, self._heads)[:, : len(positions_B)].transpose(0, 1)
        return (begin_B2G + positions_B[:, None, None]).flatten()

    def copy_from(self, other: KeyValueCache, theirs: Sequence[int], ours: Sequence[int]) -> None:
        """Copy rows of another batch into cache rows that were taken for them."""
        longest = int(other.lengths[list(theirs)].max())
        from_, to = self._index(theirs), self._index(ours)
        for mine, its in zip(self.layers, other.layers, strict=True):
            mine[:, :, :, :longest].index_copy_(1, to, its[:, :, :, :longest].index_select(1, from_))
        self.last_R[to] = other.last_R[from_]
        self.shift_R[to] = other.shift_R[from_]
        self.adapted_R[to] = other.adapted_R[from_]
        self._unfit.update(ours[i] for i, cache_row in enumerate(theirs) if cache_row in other._unfit)

    def _index(self, cache_rows: Sequence[int]) -> Tensor:
        return on_device(np.asarray(cache_rows, np.int64), self._device)

    def _clean(self, cache_rows: Sequence[int]) -> None:
        for cache_row in self._unfit.intersection(cache_rows):
            # What attention does not see counts zero times its value, and zero times NaN is not zero.
            for layer in self.layers:
                layer[:, cache_row].zero_()
            self._unfit.discard(cache_row)

    def _empty(self, rows: int, positions: int) -> Tensor:
        shape = (2, rows, self._heads, positions, self._head_dim)
        return torch.zeros(shape, dtype=self._dtype, device=self._device)

    def _resize(self, rows: int, positions: int) -> None:
        positions = -(-positions // _POSITIONS_STEP) * _POSITIONS_STEP
        kept_rows, kept_positions = min(rows, self.rows), min(positions, self.positions)
        layers = []
        for old in self.layers:
            new = self._empty(rows, positions)
            new[:, :kept_rows, :, :kept_positions] = old[:, :kept_rows, :, :kept_positions]
            layers.append(new)
        last_R = torch.zeros(rows, dtype=torch.int64, device=self._device)
        last_R[:kept_rows] = self.last_R[:kept_rows]
        shift_R = torch.zeros_like(last_R)
        shift_R[:kept_rows] = self.shift_R[:kept_rows]
        adapted_R = torch.zeros(rows, device=self._device)
        adapted_R[:kept_rows] = self.adapted_R[:kept_rows]
        lengths = np.zeros(rows, np.int64)
        lengths[:kept_rows] = self.lengths[:kept_rows]
        self._free = {cache_row for cache_row in self._free if cache_row < rows} | set(range(self.rows, rows))
        self._unfit = {cache_row for cache_row in self._unfit if cache_row < rows}
        # All at once: memory that runs out before here leaves the cache as it was.
        self.layers, self.last_R, self.shift_R, self.lengths = layers, last_R, shift_R, lengths
        self.adapted_R = adapted_R
        self.recorded = {}
