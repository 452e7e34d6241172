"""Products of many rows with one matrix; on a CPU in bfloat16, a thousand rows at a time.

There, torch prepares and caches a kernel for each number of rows that it meets, which takes as long as to
multiply, and memory that is not freed. So rows are multiplied in pieces of a few sizes, the last one filled
up. Called by :mod:`edge_server.runtime.decoder`.
"""

from __future__ import annotations

import torch
from torch import Tensor

_PIECE = 1024
_FILLED_UP_TO = 64


def in_pieces(matrix: Tensor) -> bool:
    """Whether products with a matrix are made in pieces."""
    return matrix.dtype == torch.bfloat16 and matrix.device.type == "cpu"


def rows_together(count: int) -> int:
    """How many rows there have to be where there are this many."""
    return -(-count // _FILLED_UP_TO) * _FILLED_UP_TO


def product(x_NX: Tensor, weight_XY: Tensor, bias_Y: Tensor | None = None) -> Tensor:
    """Rows times a matrix, [N, Y], all of one type; in pieces they are :func:`rows_together`, or few."""
    if not in_pieces(weight_XY):
        return torch.mm(x_NX, weight_XY) if bias_Y is None else torch.addmm(bias_Y, x_NX, weight_XY)
    out_NY = x_NX.new_empty(len(x_NX), weight_XY.shape[1])
    for begin in range(0, len(x_NX), _PIECE):
        piece, out = x_NX[begin : begin + _PIECE], out_NY[begin : begin + _PIECE]
        if bias_Y is None:
            torch.mm(piece, weight_XY, out=out)
        else:
            torch.addmm(bias_Y, piece, weight_XY, out=out)
    return out_NY


def add_product(x_NY: Tensor, y_NX: Tensor, weight_XY: Tensor) -> None:
    """Add rows times a matrix to x, whose type may be another than theirs."""
    if x_NY.dtype == y_NX.dtype and not in_pieces(weight_XY):
        x_NY.addmm_(y_NX, weight_XY)
    else:
        x_NY.add_(product(y_NX, weight_XY))
