"""Divides the prompts of a prefill into groups of about one length, each padded and attended to together.

Called by :meth:`edge_server.runtime.decoder.Decoder.prefill`, whose prompts come with the longest first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edge_server.runtime.packing import Integers, Packing
from edge_server.runtime.transfer import on_device

# Prompts of at least this share of the longest one's length are padded to it. A GPU computes for padding in
# less time than it takes to be told of another group.
_ABOUT_AS_LONG, _ABOUT_AS_LONG_ON_A_GPU = 0.75, 0.25


@dataclass(frozen=True)
class PromptGroup:
    """Prompts that attention takes together.

    Attributes:
        packing: of them alone.
        tokens: where they stand among all packed positions.
        cache_rows: where their keys and values are, as an index.
    """

    packing: Packing
    tokens: slice
    cache_rows: slice | Tensor


def prompt_groups(packing: Packing, cache_row_B: Integers) -> list[PromptGroup]:
    """Groups of packed prompts.

    Args:
        packing: of all, the longest first.
        cache_row_B: where the keys and values of each are.
    """
    share = _ABOUT_AS_LONG if packing.device.type == "cpu" else _ABOUT_AS_LONG_ON_A_GPU
    ends = np.cumsum(packing.lengths)
    groups: list[PromptGroup] = []
    begin = 0
    while begin < packing.rows:
        alike = packing.lengths >= share * packing.lengths[begin]
        end = int(np.count_nonzero(alike))
        tokens = slice(int(ends[begin] - packing.lengths[begin]), int(ends[end - 1]))
        own = Packing(packing.lengths[begin:end], packing.device)
        groups.append(PromptGroup(own, tokens, rows_as_index(cache_row_B[begin:end], packing.device)))
        begin = end
    return groups


def rows_as_index(cache_row_B: Integers, device: torch.device) -> slice | Tensor:
    """Cache rows as an index; a slice, which copies nothing, where they are neighbours."""
    first, last = int(cache_row_B[0]), int(cache_row_B[-1])
    return slice(first, last + 1) if last - first == len(cache_row_B) - 1 else on_device(cache_row_B, device)
