"""Products of many rows with one matrix; on a CPU in bfloat16, a thousand rows at a time.

There, torch prepares and caches a kernel for each number of rows that it meets, which takes as long as to
multiply, and memory that is not freed. So rows are multiplied in pieces of a few sizes, the last one filled
up. A matrix of integers multiplies rows that are rounded to such
(:mod:`edge_server.runtime.integers`). Called by :mod:`edge_server.runtime.decoder`.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from edge_server.runtime.integers import IntegerMatrix, IntegerRows

Matrix: TypeAlias = Tensor | IntegerMatrix
Rows: TypeAlias = Tensor | IntegerRows

_PIECE = 1024
_FILLED_UP_TO = 64


def in_pieces(matrix: Matrix) -> bool:
    """Whether products with a matrix are made in pieces."""
    if isinstance(matrix, IntegerMatrix):
        return False
    return matrix.dtype == torch.bfloat16 and matrix.device.type == "cpu"


def rows_together(count: int) -> int:
    """How many rows there have to be where there are this many."""
    return -(-count // _FILLED_UP_TO) * _FILLED_UP_TO


def rows_for(x_NX: Tensor, matrix: Matrix) -> Rows:
    """Rows as a matrix multiplies them; done once, they do for several of a kind."""
    return IntegerRows.of(x_NX) if isinstance(matrix, IntegerMatrix) else x_NX.to(matrix.dtype)


def product(x_NX: Rows, weight_XY: Matrix, bias_Y: Tensor | None = None) -> Tensor:
    """Rows times a matrix, [N, Y]; both of one type, or integers with integers.

    In pieces, they are :func:`rows_together`, or few.
    """
    if isinstance(weight_XY, IntegerMatrix):
        rows = x_NX if isinstance(x_NX, IntegerRows) else IntegerRows.of(x_NX)
        product_NY = weight_XY.times(rows)
        return product_NY if bias_Y is None else product_NY.add_(bias_Y)
    assert isinstance(x_NX, Tensor)  # noqa: S101 - integers are for a matrix of integers
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


def add_product(x_NY: Tensor, y_NX: Tensor, weight_XY: Matrix) -> None:
    """Add rows times a matrix to x, whose type may be another than theirs."""
    if isinstance(weight_XY, IntegerMatrix):
        weight_XY.add_times(x_NY, IntegerRows.of(y_NX))
    elif x_NY.dtype == y_NX.dtype and not in_pieces(weight_XY):
        x_NY.addmm_(y_NX, weight_XY)
    else:
        x_NY.add_(product(y_NX, weight_XY))
