"""From all feature tokens of a picture or sound to fewer of them, without training.

Every method gives one block for each token length; the graph keeps those of all lengths below one another and
takes the one that is asked for, which costs nothing beside the tower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from edge_server.model.selection import pooling_matrix

Grid: TypeAlias = tuple[int, int]
"""Rows and columns of feature tokens; a sound has one row."""

Reducer: TypeAlias = Callable[[Tensor, Grid, int], Tensor]
"""[T, E], what they are a grid of, and a token length, to [length, E]."""


def window(x_TE: Tensor, grid: Grid, length: int) -> Tensor:
    """Averages over windows of the grid, as even as the length allows."""
    rows, columns = shape_of(length, grid)
    down, across = pooling_matrix(grid[0], rows), pooling_matrix(grid[1], columns)
    return torch.matmul(torch.kron(down, across).to(x_TE), x_TE)


REDUCERS: Mapping[str, Reducer] = {"window": window}
"""By the name that ``edge-server split --reduce`` takes."""


class TokenReduction(nn.Module):
    """All feature tokens, or as many as are asked for.

    Args:
        reducer: how they become fewer.
        grid: what they are.
        lengths: ascending; the last is all of them.
    """

    def __init__(self, reducer: Reducer, grid: Grid, lengths: Sequence[int]) -> None:
        super().__init__()
        if lengths[-1] != grid[0] * grid[1]:
            raise ValueError(f"lengths: {tuple(lengths)}; the last must be {grid[0] * grid[1]}, all of them")
        self._reducer, self._grid, self.lengths = reducer, grid, tuple(lengths)

    def forward(self, x_TE: Tensor, token_length: Tensor) -> Tensor:
        """[T, E] and int64 [1] to [token_length, E]."""
        if len(self.lengths) == 1:
            return x_TE
        bank = [self._reducer(x_TE, self._grid, length) for length in self.lengths[:-1]]
        lengths = torch.tensor(self.lengths, device=x_TE.device)
        begin = torch.where(lengths < token_length, lengths, torch.zeros_like(lengths)).sum()
        rows = torch.arange(self.lengths[-1], device=x_TE.device)
        return torch.cat([*bank, x_TE])[begin + rows[rows < token_length]]


def default_lengths(tokens: int) -> tuple[int, ...]:
    """All tokens, and what powers of two lie below, down to a sixteenth of them."""
    lengths, length = [], 1
    while length < tokens:
        if 16 * length >= tokens:
            lengths.append(length)
        length *= 2
    return (*lengths, tokens)


def shape_of(length: int, grid: Grid) -> Grid:
    """Rows and columns of a smaller grid of about the same shape."""
    wanted = grid[0] / grid[1]
    shapes = [(rows, length // rows) for rows in range(1, length + 1) if length % rows == 0]
    fitting = [shape for shape in shapes if shape[0] <= grid[0] and shape[1] <= grid[1]] or shapes
    return min(fitting, key=lambda shape: abs(shape[0] / shape[1] - wanted))
