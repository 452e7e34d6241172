"""Receivers: what came over the channel, back to something that the foundation can read.

A receiver is told the SNR after equalisation (FiLM, as ADJSCC does with attention), of a block or of each of
its tokens, lets the tokens of a
block look at each other, and answers a fixed number of learned queries from them (as a resampler): the
foundation always reads the same number of slots, however many tokens went on air.

    [B, T, C] ─▶ linear ─▶ FiLM(snr_db) ─▶ self-attention ─▶ queries ─▶ [B, Q, E]

The paper's authors published another, kept here to be compared with: two linear layers, token by token, that
are told nothing.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn

from edge_server.model.config import ReceiverConfig
from edge_server.model.head import position_features

#: Beyond these, what an SNR is told by changes no more [dB]; weights depend on them. What may be told at all
#: is wider: :data:`protos.names.MIN_SNR_DB`.
SNR_BOUNDS_DB = (-20.0, 30.0)


class SnrFilm(nn.Module):
    """Scale and shift of every channel from the SNR."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 32), nn.GELU(), nn.Linear(32, 2 * width))
        last = self.net[2]
        assert isinstance(last, nn.Linear)  # noqa: S101 - narrows the type
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x_BTW: Tensor, snr_db: Tensor) -> Tensor:
        """Modulate [B, T, W] by snr_db, [B] or [B, T] [dB]."""
        snr_db_BT = (snr_db if snr_db.ndim == 2 else snr_db[:, None]).clamp(*SNR_BOUNDS_DB)
        linear = 10 ** (snr_db_BT / 10)
        told = torch.stack([snr_db_BT / 10, linear / (1 + linear), torch.rsqrt(1 + linear)], dim=-1)
        scale, shift = self.net(told).chunk(2, dim=-1)
        modulated: Tensor = x_BTW * (1 + scale) + shift
        return modulated


class MlpReceiver(nn.Module):
    """Receiver of a feature modality, as the paper's authors published it: Linear, ReLU, Linear."""

    def __init__(self, config: ReceiverConfig, channel_dim: int, embedding_size: int) -> None:
        super().__init__()
        self.inner = nn.Linear(channel_dim, config.width)
        self.outer = nn.Linear(config.width, embedding_size)

    def forward(self, x_BTC: Tensor, snr_db: Tensor, token_length_B: Tensor | None = None) -> Tensor:
        """Received tokens to embeddings [B, T, E], each alone; the SNR is not looked at."""
        out: Tensor = self.outer(torch.relu(self.inner(x_BTC)))
        return out


class QueryReceiver(nn.Module):
    """Receiver of a feature modality: queries to the received tokens."""

    def __init__(self, config: ReceiverConfig, channel_dim: int, embedding_size: int) -> None:
        super().__init__()
        self.config = config
        self.inner = nn.Linear(channel_dim, config.width)
        self.film = SnrFilm(config.width) if config.film else None

        def block(kind: type[nn.Module]) -> nn.Module:
            return kind(
                config.width,
                config.heads,
                dim_feedforward=2 * config.width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )

        self.mix = nn.ModuleList(block(nn.TransformerEncoderLayer) for _ in range(config.self_layers))
        self.answer = nn.ModuleList(block(nn.TransformerDecoderLayer) for _ in range(config.query_layers))
        self.queries = nn.Parameter(torch.randn(config.num_queries, config.width) * 0.5)
        self.norm = nn.LayerNorm(config.width)
        self.outer = nn.Linear(config.width, embedding_size)

    def forward(self, x_BTC: Tensor, snr_db: Tensor, token_length_B: Tensor | None = None) -> Tensor:
        """Received tokens to embeddings.

        Args:
            x_BTC: equalised reals, [B, T, C]; rows shorter than T are padded at the end.
            snr_db: Es/N0 after equalisation [dB], of each row, [B], or of each token, [B, T].
            token_length_B: tokens of each row, [B]; None where all have T.

        Returns:
            [B, Q, E].
        """
        batch, longest, _ = x_BTC.shape
        positions = torch.arange(longest, device=x_BTC.device)
        width = self.config.width
        padding = None
        if token_length_B is None:
            where = position_features(longest, positions, width)[None]
        else:
            where = torch.stack([position_features(length, positions, width) for length in token_length_B])
            padding = positions[None, :] >= token_length_B[:, None]
        x = self.inner(x_BTC) + where
        if self.film is not None:
            x = self.film(x, snr_db)
        for layer in self.mix:
            x = layer(x, src_key_padding_mask=padding)
        queries = self.queries.expand(batch, -1, -1)
        for layer in self.answer:
            queries = layer(queries, x, memory_key_padding_mask=padding)
        out: Tensor = self.outer(self.norm(queries))
        return out


Receiver: TypeAlias = MlpReceiver | QueryReceiver
"""The receiver of a feature modality."""


def build_receiver(config: ReceiverConfig, channel_dim: int, embedding_size: int) -> Receiver:
    """A receiver of the kind that the configuration names, with random weights."""
    kind = MlpReceiver if config.kind == "mlp" else QueryReceiver
    return kind(config, channel_dim, embedding_size)


class TextReceiver(nn.Module):
    """Receiver of the analog text path: one embedding per language token."""

    def __init__(self, channel_dim: int, embedding_size: int, width: int = 256) -> None:
        super().__init__()
        self.inner = nn.Linear(channel_dim, width)
        self.film = SnrFilm(width)
        self.outer = nn.Linear(width, embedding_size)

    def forward(self, x_BLC: Tensor, snr_db: Tensor) -> Tensor:
        """[B, L, C] at [B] or [B, L] [dB] to [B, L, E]."""
        hidden = nn.functional.gelu(self.film(self.inner(x_BLC), snr_db))
        out: Tensor = self.outer(hidden)
        return out
