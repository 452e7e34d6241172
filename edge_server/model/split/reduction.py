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


def merge(x_TE: Tensor, grid: Grid, length: int) -> Tensor:
    """The most alike become their average, half of them at a time (ToMe, Bolya et al. 2023)."""
    weight_T = torch.ones(len(x_TE), dtype=x_TE.dtype, device=x_TE.device)
    place_T = torch.arange(len(x_TE), dtype=x_TE.dtype, device=x_TE.device)
    while len(x_TE) > length:
        gone = min(len(x_TE) - length, len(x_TE) // 2)
        alike = _alike(x_TE[0::2], x_TE[1::2])
        best, partner = alike.max(dim=1)
        order = best.argsort(descending=True)
        leaving, staying = 2 * order[:gone], 2 * order[gone:]
        onto = nn.functional.one_hot(partner[order[:gone]], len(x_TE) // 2).to(x_TE.dtype).t()
        weighted = torch.cat([x_TE, place_T[:, None], torch.ones_like(place_T)[:, None]], dim=1)
        weighted = weighted * weight_T[:, None]
        sums = torch.cat([weighted[staying], weighted[1::2] + torch.matmul(onto, weighted[leaving])])
        weight_T = sums[:, -1]
        means = sums[:, :-1] / weight_T[:, None]
        # As they stood: a merged token stands where its parts did on average.
        order = means[:, -1].argsort()
        x_TE, place_T, weight_T = means[order, :-1], means[order, -1], weight_T[order]
    return x_TE


def salient(x_TE: Tensor, grid: Grid, length: int) -> Tensor:
    """Those furthest from the average token, in their order: what stands out, told without attention."""
    return x_TE[_most(_saliency(x_TE), length)]


def diverse(x_TE: Tensor, grid: Grid, length: int) -> Tensor:
    """A few that stand out, and those least like them (DART, Wen et al. 2025), in their order."""
    pivots = _most(_saliency(x_TE), max(1, length // 4))
    likeness = _alike(x_TE, x_TE[pivots]).amax(dim=1)
    is_pivot = nn.functional.one_hot(pivots, len(x_TE)).sum(dim=0)
    return x_TE[_most(10.0 * is_pivot - likeness, length)]


def random(x_TE: Tensor, grid: Grid, length: int) -> Tensor:
    """Some, always the same, in their order: what a method has to be better than."""
    picks = torch.randperm(len(x_TE), generator=torch.Generator().manual_seed(0))[:length]
    return x_TE[picks.sort().values.to(x_TE.device)]


REDUCERS: Mapping[str, Reducer] = {
    "window": window,
    "merge": merge,
    "salient": salient,
    "diverse": diverse,
    "random": random,
}
"""By the name that ``edge-server split --reduce`` takes."""


def _alike(a_AE: Tensor, b_BE: Tensor) -> Tensor:
    """Cosine of each with each, [A, B]."""
    normal = nn.functional.normalize
    return torch.matmul(normal(a_AE, dim=1), normal(b_BE, dim=1).t())


def _saliency(x_TE: Tensor) -> Tensor:
    return (x_TE - x_TE.mean(dim=0)).square().sum(dim=1)


def _most(score_T: Tensor, count: int) -> Tensor:
    """Where the highest scores are, in order of place."""
    return score_T.topk(count).indices.sort().values


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
