"""The half of a link that answers, read from its model folder without the libraries that train.

    model.json, tokenizer.json  configuration
    foundation.safetensors  ──▶ embedding, decoder's weights ◀── lora.safetensors, merged or kept beside
    link.safetensors        ──▶ receivers

A whole link (:class:`edge_server.model.link.Link`) has encoders, heads, and the foundation as a network that
can be trained; importing what these are made of takes longer than all else that a server does before its
first answer. Foundations whose class or settings need their own library are read by :class:`Link` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from edge_server.errors import ModelError
from edge_server.model.decoder_files import decoder_weights_in
from edge_server.model.decoder_weights import DecoderWeights
from edge_server.model.description import LinkConfig, read_description
from edge_server.model.llama_shape import shape_of
from edge_server.model.memory import MemoryReceiver
from edge_server.model.receiver import MlpReceiver, QueryReceiver, Receiver, TextReceiver, build_receiver
from edge_server.model.tokenizer import SpecialIds

AnyReceiver: TypeAlias = Receiver | MemoryReceiver


class AnswersWith(Protocol):
    """What lays prompts out, and is served: a whole link, or :class:`AnsweringHalf`."""

    config: LinkConfig
    tokenizer: Tokenizer
    slots: tuple[str, ...]

    @property
    def embedding(self) -> nn.Embedding:
        """The foundation's language-token embedding, [vocab, E]."""

    @property
    def special(self) -> SpecialIds:
        """Language tokens that mark the parts of a prompt."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""

    @property
    def text_receiver(self) -> TextReceiver:
        """The receiver of the analog text path; only where the configuration has one."""

    def receiver(self, slot: str) -> AnyReceiver:
        """The receiver of a slot."""


class AnsweringHalf(nn.Module):
    """Embedding, receivers, and what the decoder computes with.

    Args:
        config: of the link.
        tokenizer: the foundation's.
        embedding_VE: the foundation's language-token embedding.
        weights: the foundation's. Its LoRA is merged, or kept apart where it is for some questions only.
    """

    text_receiver: TextReceiver

    def __init__(
        self, config: LinkConfig, tokenizer: Tokenizer, embedding_VE: Tensor, weights: DecoderWeights
    ) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.slots = tuple(modality.slot for modality in config.modalities)
        self.embedding = nn.Embedding(len(embedding_VE), embedding_VE.shape[1], _weight=embedding_VE)
        self.receivers = build_receivers(config, self.embedding)
        if config.analog_text:
            self.text_receiver = TextReceiver(config.channel_dim, config.foundation.hidden_size)
        self._tied = weights.vocabulary_VE is embedding_VE
        self.weights = weights

    def receiver(self, slot: str) -> AnyReceiver:
        """The receiver of a slot."""
        return receiver_of(self.receivers, slot)

    @property
    def special(self) -> SpecialIds:
        """Language tokens that mark the parts of a prompt."""
        return self.config.foundation.special

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        where: torch.device = self.embedding.weight.device
        return where

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> AnsweringHalf:
        """What brings a module to a device or a type brings the decoder's weights as well."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.weights = self.weights.mapped(fn)
        if self._tied:  # one matrix, not two
            self.weights = replace(self.weights, vocabulary_VE=self.embedding.weight.detach())
        return self


def build_receivers(config: LinkConfig, embedding: nn.Embedding) -> nn.ModuleDict:
    """Receivers of all slots, with random weights."""

    def built(slot: str) -> nn.Module:
        if slot in config.memory:
            longest, queries = config.token_lengths[-1], config.receiver.num_queries
            return MemoryReceiver(config.memory[slot], queries, config.channel_dim, longest, embedding)
        return build_receiver(config.receiver, config.channel_dim, config.foundation.hidden_size)

    return nn.ModuleDict({modality.slot: built(modality.slot) for modality in config.modalities})


def receiver_of(receivers: nn.ModuleDict, slot: str) -> AnyReceiver:
    """The receiver of a slot."""
    receiver = receivers[slot]
    assert isinstance(receiver, MlpReceiver | QueryReceiver | MemoryReceiver)  # noqa: S101 - narrows the type
    return receiver


def known_by_heart(receivers: nn.ModuleDict) -> dict[str, Tensor]:
    """What receivers know that was never learned, by its name in ``link.safetensors``."""
    return {
        f"receivers.{slot}.{name}": each
        for slot, receiver in receivers.items()
        if isinstance(receiver, MemoryReceiver)
        for name, each in receiver.known().items()
    }


def read_weights(path: Path) -> dict[str, Tensor]:
    """A file of weights.

    Raises:
        ModelError: it is none, or cut short.
        OSError: it cannot be read.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path}: no file of weights, or cut short: {error}") from error


def read_answering_half(directory: Path) -> AnsweringHalf | None:
    """The half that answers of a model folder; None: its foundation needs its own library.

    Raises:
        ModelError: a file is missing, does not fit the configuration, or asks for what is not served.
    """
    try:
        config, tokenizer = read_description(directory)
        shape = shape_of(config.foundation)
        if shape is None:
            return None
        lora_path = directory / "lora.safetensors"
        embedding_VE, weights = decoder_weights_in(
            config,
            shape,
            read_weights(directory / "foundation.safetensors"),
            read_weights(lora_path) if lora_path.exists() else {},
        )
        half = AnsweringHalf(config, tokenizer, embedding_VE, weights)
        _fill(half, read_weights(directory / "link.safetensors"), directory)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{directory}: not a model folder that can be read: {error}") from error
    return half.requires_grad_(False).eval()


def _fill(half: AnsweringHalf, told: Mapping[str, Tensor], directory: Path) -> None:
    """Give receivers their weights. Heads, which are the devices', are in the same file."""
    own: dict[str, Tensor] = {
        f"{part}.{name}": parameter
        for part in ("receivers", "text_receiver")
        if hasattr(half, part)
        for name, parameter in getattr(half, part).named_parameters()
    }
    own |= known_by_heart(half.receivers)
    if set(own) != {name for name in told if name.startswith(("receivers.", "text_receiver."))}:
        raise ModelError(f"{directory}/link.safetensors: parameters differ from what model.json describes")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(told[name])
