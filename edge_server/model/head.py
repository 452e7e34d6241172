"""The learned end of a transmitter: what an encoder gives, as power-normalised tokens for the channel.

    [B, P, D] ─▶ selection ─▶ [B, T, D] ─▶ MLP that knows the place in the block ─▶ [B, T, C] ─▶ unit power

One set of weights serves every token length. A *nested* head makes the block of the longest length whatever
is asked for, each token of unit power for itself, and sends its first T: so they are the same bits whichever
T is, and what follows them can be sent later.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge_server.model.config import TOKEN_LENGTHS, HeadConfig
from edge_server.model.selection import build_selection

#: Mean square of a real of a codeword: two reals make a complex symbol of unit energy.
REAL_POWER = 0.5
#: Keeps a codeword of zeros finite.
POWER_EPSILON = 1e-8


def position_features(token_length: Tensor | int, positions: Tensor, dim: int) -> Tensor:
    """Sinusoids of where in the block, and of how long a block, a token stands; [T, dim].

    Args:
        token_length: tokens in the block.
        positions: [T], 0 to token_length - 1.
        dim: width, a multiple of 4.
    """
    quarter = dim // 4
    rates = 2.0 ** (torch.arange(quarter, device=positions.device) * (7.0 / max(quarter - 1, 1)))
    length = torch.as_tensor(token_length, device=positions.device).float()
    where = (positions.float() + 0.5) / length
    angle_where = where[:, None] * rates * 3.14159265
    angle_length = torch.log2(length).reshape(1, 1) * rates * 0.1 + torch.zeros_like(angle_where)
    return torch.cat([angle_where.sin(), angle_where.cos(), angle_length.sin(), angle_length.cos()], dim=1)


class TransmitterHead(nn.Module):
    """Encoder tokens to what goes on air."""

    def __init__(
        self,
        config: HeadConfig,
        patches: int,
        hidden_size: int,
        channel_dim: int,
        token_lengths: Sequence[int] = TOKEN_LENGTHS,
    ) -> None:
        super().__init__()
        self.pooling = build_selection(config.selection, patches, hidden_size, token_lengths)
        self.longest = token_lengths[-1] if config.nested else None
        self.hidden_size = hidden_size
        self.norm = nn.LayerNorm(hidden_size)
        self.inner = nn.Linear(2 * hidden_size, 2 * hidden_size)
        self.outer = nn.Linear(2 * hidden_size, channel_dim)

    def forward(self, x_BPD: Tensor, token_length: int | Tensor) -> Tensor:
        """[B, P, D] to power-normalised tokens [B, token_length, C]."""
        made = self._block(x_BPD, token_length if self.longest is None else self.longest)
        if self.longest is None:
            return normalise_power(made)
        alone = normalise_power(made[:, :, None])[:, :, 0]
        if isinstance(token_length, int):
            return alone[:, :token_length]
        positions = torch.arange(self.longest, device=x_BPD.device)
        return alone.index_select(1, positions[positions < token_length])

    def _block(self, x_BPD: Tensor, token_length: int | Tensor) -> Tensor:
        pooled: Tensor = self.norm(self.pooling(x_BPD, token_length))
        positions = torch.arange(pooled.shape[1], device=x_BPD.device)
        where = position_features(torch.ones_like(positions).sum(), positions, self.hidden_size)
        where = where.expand(x_BPD.shape[0], -1, -1)
        hidden = nn.functional.gelu(self.inner(torch.cat([pooled, where.to(pooled.dtype)], dim=-1)))
        made: Tensor = self.outer(hidden)
        return made


def normalise_power(x_BTC: Tensor, used_BT: Tensor | None = None) -> Tensor:
    """Scale each codeword to unit energy per complex symbol: mean square REAL_POWER over [T, C].

    Args:
        x_BTC: codewords.
        used_BT: 1 where a codeword has a token, 0 where it is padded; None where none is. Padding comes out
            as zeros and does not count.
    """
    if used_BT is None:
        power = x_BTC.square().mean(dim=(-2, -1), keepdim=True)
    else:
        x_BTC = x_BTC * used_BT[..., None]
        reals = used_BT.sum(dim=-1)[:, None, None] * x_BTC.shape[-1]
        power = x_BTC.square().sum(dim=(-2, -1), keepdim=True) / reals
    return x_BTC * torch.rsqrt(power + POWER_EPSILON) * float(REAL_POWER**0.5)


class TextHead(nn.Module):
    """The analog path of text: one channel token per language token (the paper's embedding path)."""

    def __init__(self, embedding_size: int, channel_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embedding_size)
        self.outer = nn.Linear(embedding_size, channel_dim)

    def forward(self, x_BLE: Tensor, used_BL: Tensor | None = None) -> Tensor:
        """Language-token embeddings [B, L, E] to power-normalised tokens [B, L, C].

        Args:
            x_BLE: embeddings; rows shorter than L are padded at the end.
            used_BL: 1 where a row has a token, 0 where it is padded; None where none is.
        """
        return normalise_power(self.outer(self.norm(x_BLE)), used_BL)
