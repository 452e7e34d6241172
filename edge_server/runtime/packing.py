"""Rows of different lengths without padding: their tokens one after another, padded only inside attention.

packed  [N, ...]     a a a b b c c c c      linear layers, norms: every token counts
padded  [B, T, ...]  a a a a                attention: what fills a row's end stands after its tokens,
                     b b b b                so that a causal mask, or a mask by length, hides it
                     c c c c
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge_server.runtime.transfer import on_device

Integers = npt.NDArray[np.int64]

# Attention on a CPU takes as many positions at once; the rest one by one.
_TOGETHER = 8


class Packing:
    """Where the tokens of B rows stand, packed and padded.

    Args:
        lengths: tokens of each row, at least 1.
        device: where the index tensors go.
    """

    def __init__(self, lengths: Sequence[int] | Integers, device: torch.device) -> None:
        self.lengths: Integers = np.asarray(lengths, np.int64)
        self.device = device
        self.rows = len(self.lengths)
        #: Length T that rows are padded to.
        self.longest = -(-int(self.lengths.max()) // _TOGETHER) * _TOGETHER
        self.uniform = self.longest * self.rows == int(self.lengths.sum())

    @cached_property
    def row_of_each(self) -> Integers:
        """The row of each packed token."""
        return np.repeat(np.arange(self.rows), self.lengths)

    @cached_property
    def position_of_each(self) -> Integers:
        """The place of each packed token in its row."""
        begin_B = np.cumsum(self.lengths) - self.lengths
        return np.arange(int(self.lengths.sum())) - np.repeat(begin_B, self.lengths)

    @cached_property
    def last_of_each(self) -> Tensor:
        """Where each row's last token stands among the packed ones."""
        return self.tensor(np.cumsum(self.lengths) - 1)

    @cached_property
    def _padded_places(self) -> Tensor:
        return self.tensor(self.row_of_each * self.longest + self.position_of_each)

    @cached_property
    def _packed_places(self) -> Tensor:
        """Which token stands at each padded place; at a row's end, its last."""
        position_BT = np.minimum(np.arange(self.longest), self.lengths[:, None] - 1)
        return self.tensor((position_BT + (np.cumsum(self.lengths) - self.lengths)[:, None]).ravel())

    def tensor(self, numbers: Integers) -> Tensor:
        """Integers on the device."""
        return on_device(numbers, self.device)

    def pad(self, x_NW: Tensor) -> Tensor:
        """Packed tokens [N, W] to rows [B, T, W]; a row's end repeats its last token."""
        padded_XW = x_NW if self.uniform else x_NW.index_select(0, self._packed_places)
        return padded_XW.reshape(self.rows, self.longest, -1)

    def pack(self, x_BTW: Tensor) -> Tensor:
        """Rows [B, T, W] to packed tokens [N, W]."""
        x_XW = x_BTW.reshape(self.rows * self.longest, -1)
        return x_XW if self.uniform else x_XW.index_select(0, self._padded_places)


def hide_ends(lengths_B: Tensor, longest: int, dtype: torch.dtype) -> Tensor:
    """A mask that attention adds: 0 where a row has tokens, minus infinity after them; [B, 1, 1, longest]."""
    after = torch.arange(longest, device=lengths_B.device) >= lengths_B[:, None]
    zeros = torch.zeros(after.shape, dtype=dtype, device=after.device)
    return zeros.masked_fill_(after, -torch.inf)[:, None, None]
