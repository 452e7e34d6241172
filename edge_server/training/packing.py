"""Several questions about one context, packed into one row; each sees the context and itself.

    block      0 0 0 0 0 0 | 1 1 1 1 | 2 2 2 2 2 | 3 3 3
               context       question and answer ...

The context is read once for all of them, and none finds in a neighbour what it should find in the context:
every question stands where it will stand when it is asked alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Block of the context that every other block sees.
CONTEXT = 0


def packed_mask(blocks_BL: Tensor) -> Tensor:
    """Who sees whom: what came before in its own block, and in the context; bool, [B, 1, L, L].

    Args:
        blocks_BL: block of each position, int64, [B, L].
    """
    length = blocks_BL.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=blocks_BL.device).tril()
    same = blocks_BL[:, :, None] == blocks_BL[:, None, :]
    context = (blocks_BL == CONTEXT)[:, None, :]
    return (causal & (same | context))[:, None]


def packed_positions(blocks: Sequence[int]) -> list[int]:
    """Rotary position of each token of a row: every block goes on where the context ends."""
    context = sum(block == CONTEXT for block in blocks)
    positions = []
    begin = 0
    for i, block in enumerate(blocks):
        if i and block != blocks[i - 1]:
            begin = i
        positions.append(i if block == CONTEXT else context + i - begin)
    return positions
