"""Things known by heart: a picture goes on air as the code of what it shows, and comes back as a caption.

    [B, P, D] ─▶ codes of the whole, [B, W] ─▶ spread over T x C reals ─▶ channel ─▶ nearest ─▶ caption

For encoders that say of a whole picture which of so many things it is likely to show, as the average of the
things' codes (:mod:`edge_server.model.published.lite`). Both ends know codes and captions: none is learned.
A code is spread by rows of an orthogonal matrix, again and again, of which T tokens take the first T x C:
more tokens say the same more often. The receiver compares what arrived with what each thing would have sent
(a matched filter).

A caption has fields: what it is, its colour, where it is. The code of each is a part of W, found by itself;
where T x C is a multiple of W, parts do not disturb each other. How much of the power a field gets is what
the encoder makes of its length. A field may tell by its first thing, which says nothing else, that the
encoder doubts: then, and where what arrived is like no thing, the thing is told as a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_server.model.config import MemoryConfig
from edge_server.model.head import REAL_POWER

_SEED = 7
#: Less correlated than this with the nearest thing, and it is a guess.
SURE = 0.4
#: Ends what is shorter than a caption.
NO_WORD = -1

Words: TypeAlias = Sequence[Sequence[int]] | None


def spreading(width: int, reals: int) -> tuple[Tensor, Tensor]:
    """What spreads codes over reals: an orthogonal matrix again and again, each time with other signs.

    Returns:
        The matrix, [width, width], exact in 16 bits; signs of its columns, [ceil(reals / width), width].
    """
    generator = torch.Generator().manual_seed(_SEED)
    drawn = torch.randn(width, width, generator=generator, dtype=torch.float64)
    times = -(-reals // width)
    signs = torch.randint(0, 2, (times, width), generator=generator) * 2.0 - 1.0
    return torch.linalg.qr(drawn).Q.half().float(), signs


def spreading_rows(width: int, reals: int) -> Tensor:
    """The same as one matrix, whose rows codes are multiplied by, [reals, width]."""
    matrix, signs = spreading(width, reals)
    return torch.cat([matrix * each for each in signs])[:reals]


class CodeHead(nn.Module):
    """Encoder tokens, each of which ends with the code of the whole, to what goes on air.

    Args:
        config: how wide the codes of all fields are.
        channel_dim: reals of a token.
        longest: most tokens.
    """

    matrix: Tensor
    signs: Tensor

    def __init__(self, config: MemoryConfig, channel_dim: int, longest: int) -> None:
        super().__init__()
        self.width = config.width
        self.shape = longest, channel_dim
        matrix, signs = spreading(config.width, channel_dim * longest)
        self.register_buffer("matrix", matrix.T.contiguous(), persistent=False)
        self.register_buffer("signs", signs, persistent=False)

    def forward(self, x_BPD: Tensor, token_length: int | Tensor) -> Tensor:
        """[B, P, D] to power-normalised tokens [B, token_length, C]."""
        code_BW = x_BPD[..., -self.width :].mean(dim=1)
        longest, channel_dim = self.shape
        spread = torch.matmul(code_BW[:, None] * self.signs, self.matrix).flatten(1)
        whole_BTC = spread[:, : longest * channel_dim].reshape(-1, longest, channel_dim)
        positions = torch.arange(longest, device=x_BPD.device)
        sent_BTC = whole_BTC.index_select(1, positions[positions < token_length])
        power = sent_BTC.square().mean(dim=(-2, -1), keepdim=True)
        return sent_BTC * torch.rsqrt(power + 1e-12) * float(REAL_POWER**0.5)


class MemoryReceiver(nn.Module):
    """Received tokens to a caption: of each field, the thing whose code they are nearest to.

    Args:
        config: of each field, how many things, and how wide their codes are.
        queries: language tokens of a caption.
        channel_dim: reals of a token.
        longest: most tokens of a block.
        embedding: of the foundation's language tokens, where the words of captions are looked up.
    """

    rows: Tensor
    filler: Tensor

    def __init__(
        self, config: MemoryConfig, queries: int, channel_dim: int, longest: int, embedding: nn.Embedding
    ) -> None:
        super().__init__()
        self.config = config
        # In a tuple: it is a part of the foundation, not of the receiver.
        self._embedding = (embedding,)
        rows = spreading_rows(config.width, channel_dim * longest)
        self.register_buffer("rows", rows, persistent=False)
        for number, field in enumerate(config.fields):
            self.register_buffer(f"keys_{number}", torch.zeros(field.things, field.width))
            # As they are said: for sure, and as a guess. Shorter ones end in NO_WORD.
            words = torch.full((2, field.things, queries), NO_WORD, dtype=torch.int64)
            self.register_buffer(f"words_{number}", words)
        self.register_buffer("filler", torch.zeros(1, dtype=torch.int64))

    def learn(self, number: int, codes: Tensor, sure: Sequence[Sequence[int]], guess: Words = None) -> None:
        """Put the things of a field into memory.

        Args:
            number: of the field.
            codes: of its things, [things, width].
            sure: what is said of each, as language tokens.
            guess: likewise where it is unsure; None: the same.
        """
        keys, words = self.get_buffer(f"keys_{number}"), self.get_buffer(f"words_{number}")
        keys.copy_(codes)
        for said, which in ((sure, 0), (sure if guess is None else guess, 1)):
            for thing, ids in enumerate(said):
                kept = torch.tensor(list(ids)[: words.shape[2]], dtype=torch.int64)
                words[which, thing, : len(kept)] = kept

    def known(self) -> dict[str, Tensor]:
        """All that was put into memory."""
        return {name: each for name, each in self.named_buffers() if name != "rows"}

    def forward(self, x_BTC: Tensor, snr_db: Tensor, token_length_B: Tensor | None = None) -> Tensor:
        """Received tokens to embeddings of captions, [B, Q, E].

        Args:
            x_BTC: equalised reals; rows shorter than T are padded at the end.
            snr_db: not looked at: the nearest thing is the nearest at any.
            token_length_B: tokens of each row, [B]; None where all have T.
        """
        lengths = [x_BTC.shape[1]] * len(x_BTC) if token_length_B is None else token_length_B.tolist()
        words = [self.recall(x_TC[:length]) for x_TC, length in zip(x_BTC, lengths, strict=True)]
        embedded: Tensor = self._embedding[0](torch.stack(words))
        return embedded

    def nearest(self, x_TC: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of each field, the thing that a block is nearest to, and how like it is, from -1 to 1."""
        received = x_TC.flatten()
        found, first = [], 0
        for number, field in enumerate(self.config.fields):
            rows_NW = self.rows[: len(received), first : first + field.width]
            first += field.width
            # In the field's own directions: what other fields send, and noise elsewhere, does not count.
            expected_KW = self.get_buffer(f"keys_{number}") @ (rows_NW.T @ rows_NW)
            likeness_K = F.normalize(expected_KW, dim=1) @ F.normalize(received @ rows_NW, dim=0)
            thing = likeness_K.argmax()
            found.append((thing, likeness_K[thing]))
        return found

    def recall(self, x_TC: Tensor) -> Tensor:
        """Language tokens of the caption that a block stands for, int64, [Q]."""
        found = self.nearest(x_TC)
        doubts = self.config.doubts
        guess = (found[0][1] < SURE).long()
        if doubts is not None:
            guess = torch.maximum(guess, (found[doubts][0] == 0).long())
        said = [self.get_buffer(f"words_{number}")[guess, thing] for number, (thing, _) in enumerate(found)]
        whole = torch.cat(said)
        length = said[0].shape[0]
        # Words first, in order, then what fills a caption up.
        filled = torch.cat([whole[whole != NO_WORD], self.filler.expand(length)])
        return filled[:length]
