"""A LoRA that is kept apart from the foundation's weights, because not every row is answered with it.

    rows ─┬─▶ foundation's product ──────────────────────▶ + ─▶
          └─▶ down, [N, R] ─▶ times 1 or 0 of each row ─▶ up ─┘

Rows of both kinds are in one pass, as in servers of many LoRAs (Punica, Chen et al. 2023; S-LoRA, Sheng et
al. 2023). A row that is not answered with it gets what it would get of the foundation alone: nought is added.
Where no row of a pass is, nothing is computed. Called by :mod:`edge_server.runtime.decoder`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from edge_server.model.decoder_weights import LowRank, Projection
from edge_server.runtime.kv_cache import KeyValueCache
from edge_server.runtime.matmul import add_product, product
from edge_server.runtime.packing import Integers
from edge_server.runtime.transfer import on_device


@dataclass(frozen=True)
class Adapted:
    """The rows of a pass, some of which are answered with the LoRA.

    Attributes:
        share_N1: 1 for these, 0 for the others; None: all are.
    """

    share_N1: Tensor | None

    def last(self, places: Tensor) -> Adapted:
        """These rows alone."""
        return self if self.share_N1 is None else Adapted(self.share_N1.index_select(0, places))


def adapted_rows(
    adapted: Sequence[bool], lengths: Integers, more: int, device: torch.device
) -> Adapted | None:
    """Packed rows of prompts.

    Args:
        adapted: of each prompt.
        lengths: positions of each.
        more: rows that follow and belong to none.
        device: where they are computed.

    Returns:
        None: no prompt is answered with it.
    """
    if not any(adapted):
        return None
    if all(adapted):
        return Adapted(None)
    share_N = np.repeat(np.asarray(adapted, np.float32), lengths)
    return Adapted(on_device(np.pad(share_N, (0, more)), device)[:, None])


def adapted_steps(cache: KeyValueCache, rows: int) -> Adapted | None:
    """A decode step of a cache's first rows; None: none is answered with it.

    On a GPU, where asking would mean waiting for it, and a recorded step has to do for any, it may be some.
    """
    share_R = cache.adapted_R[:rows]
    if share_R.device.type == "cpu":
        count = int(share_R.sum())
        if count in (0, rows):
            return Adapted(None) if count else None
    return Adapted(share_R[:, None])


@dataclass(frozen=True)
class Addition:
    """What is added to a product, or to several of the same rows that stand side by side.

    Attributes:
        down_XR: to the ranks of all of them.
        up_RY: from these; a rank counts for its own product only.
    """

    down_XR: Tensor
    up_RY: Tensor

    def in_bfloat16(self) -> Addition:
        """The same, rounded."""
        return replace(self, down_XR=self.down_XR.bfloat16(), up_RY=self.up_RY.bfloat16())

    def add(self, y_NY: Tensor, x_NX: Tensor, rows: Adapted, which: slice = slice(None)) -> None:
        """Add it.

        Args:
            y_NY: the product.
            x_NX: what it is the product of.
            rows: which rows it counts for.
            which: of all columns, those that the product has.
        """
        down_NR = product(x_NX.to(self.down_XR.dtype), self.down_XR)
        if rows.share_N1 is not None:
            down_NR.mul_(rows.share_N1)
        add_product(y_NY, down_NR, self.up_RY[:, which])


def add_to(
    y_NY: Tensor, x_NX: Tensor, addition: Addition | None, rows: Adapted | None, which: slice = slice(None)
) -> None:
    """Add what there is to add to a product; see :meth:`Addition.add`."""
    if addition is not None and rows is not None:
        addition.add(y_NY, x_NX, rows, which)


@dataclass(frozen=True)
class BlockAdapter:
    """Of a decoder block; None: that product has none."""

    qkv: Addition | None = None
    out: Addition | None = None
    gate: Addition | None = None
    up: Addition | None = None
    down: Addition | None = None

    def in_bfloat16(self) -> BlockAdapter:
        """The same, rounded."""
        parts = (self.qkv, self.out, self.gate, self.up, self.down)
        return BlockAdapter(*(None if part is None else part.in_bfloat16() for part in parts))


def block_adapter(
    lora: Mapping[Projection, LowRank], widths: Mapping[Projection, int], turned: Callable[[Tensor], Tensor]
) -> BlockAdapter:
    """Lay a block's LoRA out as the decoder computes it.

    Args:
        lora: of its projections.
        widths: of what queries, keys and values give.
        turned: reorders rows of query and key projections so that a rotary pair's are neighbours.
    """
    reordered: dict[Projection, LowRank] = {
        name: LowRank(each.down_RX, turned(each.up_YR)) if name in ("q", "k") else each
        for name, each in lora.items()
    }
    return BlockAdapter(
        qkv=_side_by_side(reordered, widths),
        out=_alone(lora.get("out")),
        gate=_alone(lora.get("gate")),
        up=_alone(lora.get("up")),
        down=_alone(lora.get("down")),
    )


def _alone(lora: LowRank | None) -> Addition | None:
    return None if lora is None else Addition(lora.down_RX.t(), lora.up_YR.t())


def _side_by_side(lora: Mapping[Projection, LowRank], widths: Mapping[Projection, int]) -> Addition | None:
    there = {name: lora[name] for name in widths if name in lora}
    if not there:
        return None
    some = next(iter(there.values()))
    ranks = sum(len(each.down_RX) for each in there.values())
    up_RY = some.up_YR.new_zeros(ranks, sum(widths.values()))
    rank = column = 0
    for name, width in widths.items():
        if name in there:
            more = len(there[name].down_RX)
            up_RY[rank : rank + more, column : column + width] = there[name].up_YR.t()
            rank += more
        column += width
    return Addition(torch.cat([each.down_RX for each in there.values()]).t(), up_RY)
