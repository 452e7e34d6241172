"""Selection: from an encoder's P tokens to the T that are sent, for every token length.

- *window*: averages over a window that slides along the encoder tokens (ours);
- *linspace*: T of the P tokens, evenly spaced, the others dropped (as the paper's authors published it);
- *queries*: T learned queries look at all of them; the first T of one nested set, so that the first token
  says what matters most (after the Matryoshka Query Transformer, Hu et al. 2024);
- *nested*: these queries too, and nothing behind them looks at T either (:mod:`edge_server.model.head`): a
  prefix of a longer block is the shorter block, to the bit.

Each has one set of weights, or none, for all lengths.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge_server.model.config import TOKEN_LENGTHS, SelectionName


class MatrixSelection(nn.Module):
    """Selection by a constant matrix per token length.

    The matrices of all lengths lie above one another in one constant. Since every length doubles the one
    before, those of length T begin at row T - S, where S is the shortest.
    """

    bank: Tensor

    def __init__(self, matrices: list[Tensor]) -> None:
        super().__init__()
        self.register_buffer("bank", torch.cat(matrices), persistent=False)
        self.shortest, self.longest = len(matrices[0]), len(matrices[-1])

    def forward(self, x_BPD: Tensor, token_length: int | Tensor) -> Tensor:
        """[B, P, D] to [B, token_length, D]."""
        return torch.matmul(self.matrix(token_length), x_BPD)

    def matrix(self, token_length: int | Tensor) -> Tensor:
        """The matrix of a length, [token_length, P]."""
        if isinstance(token_length, int):
            begin = token_length - self.shortest
            return self.bank[begin : begin + token_length]
        rows = _first(token_length, self.longest, self.bank.device)
        return self.bank[rows + token_length - self.shortest]


class WindowPooling(MatrixSelection):
    """Averages over a window of P / T encoder tokens.

    A window may begin and end within a token, which then counts by the part that lies in it; so no length
    needs to be a factor of P.
    """

    def __init__(self, patches: int, token_lengths: Sequence[int] = TOKEN_LENGTHS) -> None:
        super().__init__([pooling_matrix(patches, length) for length in token_lengths])


class LinspaceSelection(MatrixSelection):
    """T of P encoder tokens, evenly spaced from the first to the last."""

    def __init__(self, patches: int, token_lengths: Sequence[int] = TOKEN_LENGTHS) -> None:
        super().__init__([linspace_matrix(patches, length) for length in token_lengths])


class NestedQueries(nn.Module):
    """Learned queries, of which a token length uses the first T, look at all encoder tokens."""

    def __init__(self, hidden_size: int, longest: int = TOKEN_LENGTHS[-1], heads: int = 4) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(longest, hidden_size) * 0.5)
        self.norm = nn.LayerNorm(hidden_size)
        self.attention = nn.MultiheadAttention(hidden_size, heads, batch_first=True)

    def forward(self, x_BPD: Tensor, token_length: int | Tensor) -> Tensor:
        """[B, P, D] to [B, token_length, D]."""
        if isinstance(token_length, int):
            queries = self.queries[:token_length]
        else:
            queries = self.queries[_first(token_length, len(self.queries), self.queries.device)]
        queries = queries.expand(x_BPD.shape[0], -1, -1)
        x = self.norm(x_BPD)
        looked: Tensor = self.attention(queries, x, x, need_weights=False)[0]
        return queries + looked


def build_selection(
    name: SelectionName, patches: int, hidden_size: int, token_lengths: Sequence[int] = TOKEN_LENGTHS
) -> nn.Module:
    """The selection of that name, over so many encoder tokens of that width, to any of those lengths.

    Raises:
        ValueError: a token length does not double the one before.
    """
    if any(2 * a != b for a, b in itertools.pairwise(token_lengths)):
        raise ValueError(f"token_lengths: {tuple(token_lengths)}; each must be twice the one before")
    if name == "window":
        return WindowPooling(patches, token_lengths)
    if name == "linspace":
        return LinspaceSelection(patches, token_lengths)
    return NestedQueries(hidden_size, token_lengths[-1])


def pooling_matrix(patches: int, token_length: int) -> Tensor:
    """Weights [token_length, patches] of window averages; every row sums to one."""
    edges = torch.linspace(0, patches, token_length + 1, dtype=torch.float64)
    begin = torch.arange(patches, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], begin + 1) - torch.maximum(edges[:-1, None], begin)
    weights = overlap.clamp(min=0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def linspace_matrix(patches: int, token_length: int) -> Tensor:
    """Rows [token_length, patches] that each pick one token; the picks are evenly spaced."""
    picks = torch.linspace(0, patches - 1, token_length).round().long()
    return torch.nn.functional.one_hot(picks, patches).float()


def _first(token_length: Tensor, longest: int, device: torch.device) -> Tensor:
    """Indices below a token length that is known only when the graph runs."""
    indices = torch.arange(longest, device=device)
    return indices[indices < token_length]
