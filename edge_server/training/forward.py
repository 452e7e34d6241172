"""The forward pass of the link in training: heads, the noisy channel, receivers. Both stages call it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge_server.model.link import Link
from edge_server.training.radio import RadioTraining, transmit


@dataclass(frozen=True)
class UplinkTraining:
    """Channels and token lengths that training draws from."""

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


class Features(Protocol):
    """Clips behind the frozen encoders."""

    def take(self, slot: str, rows: npt.NDArray[np.int64]) -> Tensor:
        """Encoder tokens of some clips, float32, [len(rows), P, D]."""


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
    clips: Features,
    rows: npt.NDArray[np.int64],
    training: UplinkTraining,
    draw: Draw,
) -> dict[str, Tensor]:
    """Received embeddings of some clips, per slot, [B, slots, E]: one SNR a clip, one codeword a slot."""
    model, fading, snr_db_B = training.radio.draw(len(rows), draw.generator)
    lengths, odds = zip(*training.token_lengths, strict=True)
    received = {}
    for slot in link.slots:
        token_length = int(draw.rng.choice(lengths, p=odds))
        sent = link.send(slot, clips.take(slot, rows).to(link.device), token_length)
        radio = training.radio
        x_BTC, told_db = transmit(
            sent, model, fading, snr_db_B, draw.generator, pilots=radio.pilots, snr_per=radio.snr_per
        )
        received[slot] = link.receiver(slot)(x_BTC, told_db)
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
    link: Link, texts: Sequence[Sequence[int]], training: UplinkTraining, draw: Draw
) -> ReceivedTexts:
    """Texts over the analog path, each a codeword of language tokens with an SNR of its own."""
    model, fading, snr_db_B = training.radio.draw(len(texts), draw.generator)
    longest = max(len(ids) for ids in texts)
    pad, device = link.special.pad, link.device
    ids_BL = torch.tensor([[*ids, *[pad] * (longest - len(ids))] for ids in texts], device=device)
    used_BL = torch.tensor([[1.0] * len(ids) + [0.0] * (longest - len(ids)) for ids in texts], device=device)
    sent_BLE = link.embed(ids_BL)
    x_BLC, told_db = transmit(
        link.text_head(sent_BLE, used_BL),
        model,
        fading,
        snr_db_B,
        draw.generator,
        used_BL,
        training.radio.pilots,
        training.radio.snr_per,
    )
    return ReceivedTexts(sent_BLE, link.text_receiver(x_BLC, told_db), used_BL)


def receive_text(link: Link, ids: Sequence[int], training: UplinkTraining, draw: Draw) -> Tensor:
    """Language tokens over the analog path, as received embeddings [L, E]."""
    return receive_texts(link, [ids], training, draw).received_BLE[0]
