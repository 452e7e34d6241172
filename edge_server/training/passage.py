"""Through the link, as both stages do it: heads, the noisy channel, receivers; and prompts in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from edge_server.model import tokenizer as tk
from edge_server.model.config import SLOTS
from edge_server.model.foundation import Piece, context_pieces, embed_pieces, question_pieces
from edge_server.model.link import Link
from edge_server.training.clips import EncodedClips
from edge_server.training.losses import IGNORE
from edge_server.training.packing import CONTEXT, packed_mask, packed_positions
from edge_server.training.radio import RadioTraining, transmit
from edge_server.training.split import TrainingSplit


@dataclass(frozen=True)
class PassageTraining:
    """What tokens meet on their way in training."""

    radio: RadioTraining
    """Which channels."""
    token_lengths: tuple[tuple[int, float], ...] = (
        (1, 0.08),
        (2, 0.12),
        (4, 0.2),
        (8, 0.2),
        (16, 0.3),
        (32, 0.1),
    )
    """Token lengths and how often each is used; drawn for each modality and step."""


@dataclass(frozen=True)
class Draw:
    """The randomness of one step."""

    rng: np.random.Generator
    generator: torch.Generator


def draw_of(seed: int, stage: int, step: int) -> Draw:
    """Generators that follow from seed, stage and step alone."""
    rng = np.random.default_rng([seed, stage, step])
    return Draw(rng, torch.Generator().manual_seed(int(rng.integers(2**62))))


def receive_clips(
    link: Link,
    clips: EncodedClips[TrainingSplit],
    rows: npt.NDArray[np.int64],
    training: PassageTraining,
    draw: Draw,
) -> dict[str, Tensor]:
    """Received embeddings of some clips, per slot, [B, slots, E]: one SNR a clip, one codeword a slot."""
    model, fading, snr_db_B = training.radio.draw(len(rows), draw.generator)
    lengths, odds = zip(*training.token_lengths, strict=True)
    received = {}
    for slot in SLOTS:
        token_length = int(draw.rng.choice(lengths, p=odds))
        sent = link.send(slot, clips.take(slot, rows).to(link.device), token_length)
        x_BTC, told_db_B = transmit(sent, model, fading, snr_db_B, draw.generator)
        received[slot] = link.receiver(slot)(x_BTC, told_db_B)
    return received


@dataclass(frozen=True)
class ReceivedTexts:
    """Texts behind the analog path, padded at their ends.

    Attributes:
        sent_BLE: embeddings of their language tokens.
        received_BLE: what the receiver made of them.
        used_BL: 1 where a text has a token.
    """

    sent_BLE: Tensor
    received_BLE: Tensor
    used_BL: Tensor

    def means(self) -> Tensor:
        """Mean received embedding of each text, [B, E]."""
        total_BE = (self.received_BLE * self.used_BL[..., None]).sum(dim=1)
        return total_BE / self.used_BL.sum(dim=1, keepdim=True)

    def errors(self) -> Tensor:
        """Mean square error of each text's embeddings, over their mean square, [B]."""
        used_BL1 = self.used_BL[..., None]
        error_B = ((self.received_BLE - self.sent_BLE).square() * used_BL1).sum(dim=(1, 2))
        return error_B / (self.sent_BLE.square() * used_BL1).sum(dim=(1, 2))


def receive_texts(
    link: Link, texts: Sequence[Sequence[int]], training: PassageTraining, draw: Draw
) -> ReceivedTexts:
    """Texts over the analog path, each a codeword of language tokens with an SNR of its own."""
    model, fading, snr_db_B = training.radio.draw(len(texts), draw.generator)
    longest = max(len(ids) for ids in texts)
    pad, device = link.special.pad, link.device
    ids_BL = torch.tensor([[*ids, *[pad] * (longest - len(ids))] for ids in texts], device=device)
    used_BL = torch.tensor([[1.0] * len(ids) + [0.0] * (longest - len(ids)) for ids in texts], device=device)
    sent_BLE = link.embed(ids_BL)
    x_BLC, told_db_B = transmit(
        link.text_head(sent_BLE, used_BL), model, fading, snr_db_B, draw.generator, used_BL
    )
    return ReceivedTexts(sent_BLE, link.text_receiver(x_BLC, told_db_B), used_BL)


def receive_text(link: Link, ids: Sequence[int], training: PassageTraining, draw: Draw) -> Tensor:
    """Language tokens over the analog path, as received embeddings [L, E]."""
    return receive_texts(link, [ids], training, draw).received_BLE[0]


@dataclass
class Row:
    """A context with questions and their answers, to be learned.

    Attributes:
        pieces: language token ids and embeddings, in order.
        labels: for each position, the language token that stands there if it is to be learned, else IGNORE.
        blocks: for each position, the block it belongs to (see ``packing``).
        special: special tokens of the foundation's tokenizer.
    """

    pieces: list[Piece]
    labels: list[int]
    blocks: list[int]
    special: tk.SpecialIds = tk.OWN_IDS

    @classmethod
    def about(cls, slots: Mapping[str, Piece], special: tk.SpecialIds = tk.OWN_IDS) -> Row:
        """A row with its context: what fills which slot."""
        row = cls([], [], [], special)
        for piece in ([special.bos], *context_pieces(slots, ids=special)):
            row._append(piece, CONTEXT)
        return row

    def ask(self, question: Piece, answer: Sequence[int]) -> None:
        """Add a question, and the language tokens of its answer, which are to be learned."""
        block = self.blocks[-1] + 1
        for piece in question_pieces(question, self.special):
            self._append(piece, block)
        ids = [*answer, self.special.eos]
        self._append(ids, block)
        self.labels[-len(ids) :] = ids

    def _append(self, piece: Piece, block: int) -> None:
        self.pieces.append(piece)
        self.labels += [IGNORE] * len(piece)
        self.blocks += [block] * len(piece)


@dataclass(frozen=True)
class AnswerLogits:
    """What the foundation says where it is to say an answer; K language tokens in all.

    Attributes:
        logits_KV: over the vocabulary.
        targets_K: the language tokens that are right.
        rows_K: which row of the batch each belongs to.
        blocks_K: which block of its row (the first question is block 1).
    """

    logits_KV: Tensor
    targets_K: Tensor
    rows_K: Tensor
    blocks_K: Tensor


def answer_logits(link: Link, rows: Sequence[Row]) -> AnswerLogits:
    """Run the foundation over a batch of rows; every answer token sees the right ones before it."""
    embedding = link.embedding
    embedded = [embed_pieces(embedding, row.pieces) for row in rows]
    longest = max(len(e) for e in embedded)
    x_BLE = torch.stack([F.pad(e, (0, 0, 0, longest - len(e))) for e in embedded])
    x_BLE = x_BLE.to(embedding.weight.dtype)
    labels, blocks, positions = (
        torch.tensor([part + [rest] * (longest - len(part)) for part in parts], device=link.device)
        for parts, rest in (
            ([row.labels for row in rows], IGNORE),
            ([row.blocks for row in rows], CONTEXT),
            ([packed_positions(row.blocks) for row in rows], 0),
        )
    )
    hidden = hidden_states(link, x_BLE, blocks, positions)[:, :-1]
    labels = labels[:, 1:]
    learned = labels != IGNORE
    # Logits only where something is learned: answers are few among many positions.
    with link.precision():
        logits = F.linear(hidden[learned], link.vocabulary).float()
    return AnswerLogits(logits, labels[learned], learned.nonzero()[:, 0], blocks[:, 1:][learned])


def answer_loss(link: Link, rows: Sequence[Row]) -> tuple[Tensor, float]:
    """Cross-entropy of the answers in a batch of rows, and the share of their tokens that are right."""
    answers = answer_logits(link, rows)
    right = (answers.logits_KV.argmax(-1) == answers.targets_K).float().mean().item()
    return F.cross_entropy(answers.logits_KV, answers.targets_K), right


def hidden_states(link: Link, x_BLE: Tensor, blocks_BL: Tensor, positions_BL: Tensor) -> Tensor:
    """Last hidden states of the foundation, with its LoRA where it has one, [B, L, E]."""
    foundation = link.foundation
    decoder = getattr(foundation, "base_model", foundation)
    decoder = getattr(decoder, "model", decoder)
    # A causal LM inside a PeftModel is one level deeper than a bare one.
    decoder = getattr(decoder, "model", decoder)
    with link.precision():
        out: Tensor = decoder(
            inputs_embeds=x_BLE,
            attention_mask=packed_mask(blocks_BL),
            position_ids=positions_BL,
            use_cache=False,
        ).last_hidden_state
    return out
