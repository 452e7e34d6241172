"""Things known by heart: a picture goes on air as the code of what it shows, and comes back as a caption.

    [B, P, D] ─▶ code of the whole, [B, W] ─▶ spread over T x C reals ─▶ channel ─▶ nearest ─▶ caption

For encoders that say of a whole picture which of so many things it is likely to show, as the average of the
things' codes (:mod:`edge_server.model.published.lite`). Both ends know codes and captions: none is learned.
A code is spread by rows of orthogonal matrices, of which T tokens take the first T x C: more tokens say the
same more often. The receiver compares what arrived with what each thing would have sent (a matched filter).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_server.model.config import MemoryConfig
from edge_server.model.head import REAL_POWER

_SEED = 7
#: Less correlated than this with the nearest thing, and it is a guess.
SURE = 0.4


def spreading(width: int, reals: int) -> Tensor:
    """Rows that codes are multiplied by, [reals, width]: of one orthogonal matrix after another."""
    generator = torch.Generator().manual_seed(_SEED)
    rows: list[Tensor] = []
    while len(rows) * width < reals:
        drawn = torch.randn(width, width, generator=generator, dtype=torch.float64)
        rows.append(torch.linalg.qr(drawn).Q.float())
    return torch.cat(rows)[:reals]


class CodeHead(nn.Module):
    """Encoder tokens, each of which ends with the code of the whole, to what goes on air.

    Args:
        config: how wide codes are.
        channel_dim: reals of a token.
        longest: most tokens.
    """

    rows: Tensor

    def __init__(self, config: MemoryConfig, channel_dim: int, longest: int) -> None:
        super().__init__()
        self.width = config.width
        rows = spreading(config.width, channel_dim * longest)
        self.register_buffer("rows", rows.reshape(longest, channel_dim, config.width), persistent=False)

    def forward(self, x_BPD: Tensor, token_length: int | Tensor) -> Tensor:
        """[B, P, D] to power-normalised tokens [B, token_length, C]."""
        code_BW = x_BPD[..., -self.width :].mean(dim=1)
        positions = torch.arange(len(self.rows), device=x_BPD.device)
        rows = self.rows[positions[positions < token_length]]
        sent_BTC = torch.einsum("tcw,bw->btc", rows, code_BW)
        power = sent_BTC.square().mean(dim=(-2, -1), keepdim=True)
        return sent_BTC * torch.rsqrt(power + 1e-12) * float(REAL_POWER**0.5)


class MemoryReceiver(nn.Module):
    """Received tokens to the caption of the thing whose code they are nearest to.

    Args:
        config: how many things, and how wide their codes are.
        queries: language tokens of a caption.
        channel_dim: reals of a token.
        longest: most tokens of a block.
        embedding: of the foundation's language tokens, where the words of captions are looked up.
    """

    rows: Tensor
    keys: Tensor
    words: Tensor

    def __init__(
        self, config: MemoryConfig, queries: int, channel_dim: int, longest: int, embedding: nn.Embedding
    ) -> None:
        super().__init__()
        # In a tuple: it is a part of the foundation, not of the receiver.
        self._embedding = (embedding,)
        rows = spreading(config.width, channel_dim * longest)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("keys", torch.zeros(config.things, config.width))
        words = torch.zeros(2, config.things, queries, dtype=torch.int64)
        self.register_buffer("words", words)

    def forward(self, x_BTC: Tensor, snr_db_B: Tensor, token_length_B: Tensor | None = None) -> Tensor:
        """Received tokens to embeddings of captions, [B, Q, E].

        Args:
            x_BTC: equalised reals; rows shorter than T are padded at the end.
            snr_db_B: not looked at: the nearest thing is the nearest at any.
            token_length_B: tokens of each row, [B]; None where all have T.
        """
        lengths = [x_BTC.shape[1]] * len(x_BTC) if token_length_B is None else token_length_B.tolist()
        words = [self.recall(x_TC[:length]) for x_TC, length in zip(x_BTC, lengths, strict=True)]
        embedded: Tensor = self._embedding[0](torch.stack(words))
        return embedded

    def recall(self, x_TC: Tensor) -> Tensor:
        """Language tokens of the caption that a block stands for, int64, [Q]."""
        received = x_TC.flatten()
        expected_KN = F.normalize(self.keys @ self.rows[: len(received)].T, dim=1)
        likeness_K = expected_KN @ F.normalize(received, dim=0)
        nearest = likeness_K.argmax()
        return self.words[(likeness_K[nearest] < SURE).long(), nearest]
