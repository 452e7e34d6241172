"""What defines a link, but its weights: what model.json says. Light to import: no torch.

A server that computes in processes of its own knows this much of its model and no more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, TypeAdapter
from tokenizers import Tokenizer

from edge_server.errors import ModelError
from edge_server.model import tokenizer as tk
from edge_server.model.checkpoint_config import CheckpointAudio, CheckpointFoundation, CheckpointVisual

#: Slots that feature tokens may fill, in the prompt's order.
SLOTS = ("visual", "audio")

#: Token lengths that a device may choose from, unless a model says otherwise; each doubles the one before.
TOKEN_LENGTHS = (1, 2, 4, 8, 16, 32)

SelectionName: TypeAlias = Literal["window", "linspace", "queries"]


@dataclass(frozen=True)
class VisualFormat:
    """What the visual encoder takes."""

    frames: int = 8
    """Frames, evenly spaced over the window."""
    height: int = 72
    """Rows [px]."""
    width: int = 120
    """Columns [px]."""


@dataclass(frozen=True)
class AudioFormat:
    """What the audio encoder takes."""

    sample_rate_hz: int = 16_000
    """Rate of the PCM [Hz]."""
    samples: int = 64_000
    """Window; shorter sound is padded with silence, longer is cut."""
    fft_size: int = 512
    """Analysis window (Hann), a multiple of 4 [samples]."""
    hop: int = 320
    """Step between two spectra [samples]."""
    mel_bins: int = 64
    """Mel bands between 50 Hz and half the sample rate."""

    @property
    def spectra(self) -> int:
        """Spectra in a window."""
        return self.samples // self.hop


@dataclass(frozen=True)
class EncoderConfig:
    """Size of an encoder."""

    hidden_size: int = 128
    """Width D."""
    layers: int = 4
    """Transformer blocks."""
    heads: int = 4
    """Attention heads."""
    intermediate_size: int = 256
    """Width of the MLP."""


@dataclass(frozen=True)
class VisualConfig:
    """The visual encoder (ViViT)."""

    format: VisualFormat = field(default_factory=VisualFormat)
    """What it takes."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Its size."""
    stem: tuple[int, ...] = (16, 32, 64)
    """Channels of the convolutions before ViViT, each halving rows and columns; () for none. Early
    convolutions let a small vision transformer learn from few clips (Xiao et al. 2021)."""
    stem_blocks: int = 2
    """Residual blocks behind these, each seeing twice as far as the one before: a patch cuts an instrument
    in pieces, and what sees it whole recognises it wherever it stands."""
    tubelet: tuple[int, int, int] = (2, 3, 3)
    """Frames, rows and columns of one patch, behind the stem."""
    order: Literal["time", "columns"] = "columns"
    """What pooling windows run along: time (as patches come) or the picture's columns, left to right."""
    frame_rate_hz: ClassVar[float] = 8.0
    """Frames that a device takes per second; the graph picks its own from these."""
    window_s: ClassVar[float] = 4.0
    """Window that a device takes [s]."""
    max_side: ClassVar[int] = 320
    """Largest side of a frame that a device keeps [px]."""


@dataclass(frozen=True)
class AudioConfig:
    """The audio encoder (AST)."""

    format: AudioFormat = field(default_factory=AudioFormat)
    """What it takes."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Its size."""
    stem: tuple[int, ...] = (32, 64, 64)
    """Channels of the convolutions before AST; () for none. The first two halve time and frequency, the last
    quarters frequency: what is left of a time is one patch, so AST's tokens follow one another in time."""
    stem_blocks: int = 2
    """Residual blocks before the last of these, each seeing twice as far as the one before: a timbre is a
    pattern of harmonics, and how they come and go."""
    patch: int = 16
    """Side of a patch [rows, spectra]."""
    frequency_stride: int = 16
    """Step between patches [rows]."""
    time_stride: int = 16
    """Step between patches [spectra]."""


@dataclass(frozen=True)
class HeadConfig:
    """The heads of feature modalities."""

    selection: SelectionName = "window"
    """How encoder tokens become as many as are sent."""


@dataclass(frozen=True)
class ReceiverConfig:
    """Kind and size of a receiver."""

    kind: Literal["queries", "mlp"] = "queries"
    """Learned queries to the received tokens, or two linear layers (of which only the width counts)."""
    film: bool = True
    """Whether the SNR is told."""
    width: int = 128
    """Inner width."""
    heads: int = 4
    """Attention heads."""
    self_layers: int = 1
    """Blocks in which received tokens look at each other."""
    query_layers: int = 2
    """Blocks in which queries look at received tokens."""
    slots: int = 14
    """Embeddings that the foundation gets."""

    def embeddings(self, token_length: int) -> int:
        """Embeddings that the foundation gets for so many tokens."""
        return token_length if self.kind == "mlp" else self.slots


@dataclass(frozen=True)
class FoundationConfig:
    """Size of a foundation that is trained from nothing."""

    vocab_size: int
    """Language tokens, special ones included."""
    hidden_size: int = 128
    """Embedding width E."""
    layers: int = 5
    """Decoder blocks."""
    heads: int = 4
    """Attention heads; as many key/value heads."""
    intermediate_size: int = 384
    """Width of the gated MLP."""
    max_positions: int = 512
    """Longest prompt with its answer [language and feature tokens]."""
    rope_theta: float = 1e6
    """Base of the rotary position embedding; large, so that most dimensions compare content, not place."""

    @property
    def special(self) -> tk.SpecialIds:
        """Special tokens of its tokenizer."""
        return tk.OWN_IDS


#: Which transmitter, receiver and slot of the prompt serve which modality on the wire.
SLOT_OF_MODALITY = {"image": "visual", "video": "visual", "audio": "audio"}


@dataclass(frozen=True)
class LoraTraining:
    """Low-rank adaptation of the foundation (stage 2)."""

    rank: int = 8
    """Rank of the update."""
    alpha: int = 16
    """Scale: the update counts alpha / rank."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Which projections get one."""


# Configurations of published parts have a key that the others lack; these, with all their defaults, fit any.
_FIRST_THAT_FITS = Field(union_mode="left_to_right")


@dataclass(frozen=True)
class LinkConfig:
    """Everything that defines the model but its weights."""

    name: str
    """Name, as shown to clients."""
    foundation: Annotated[CheckpointFoundation | FoundationConfig, _FIRST_THAT_FITS]
    """The foundation model: published, or trained from nothing."""
    visual: Annotated[CheckpointVisual | VisualConfig, _FIRST_THAT_FITS] = field(default_factory=VisualConfig)
    """The visual encoder, likewise."""
    audio: Annotated[CheckpointAudio | AudioConfig, _FIRST_THAT_FITS] = field(default_factory=AudioConfig)
    """The audio encoder, likewise."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The heads of feature modalities."""
    receiver: ReceiverConfig = field(default_factory=ReceiverConfig)
    """The receivers of feature modalities."""
    lora: LoraTraining = field(default_factory=LoraTraining)
    """LoRA of the foundation."""
    channel_dim: int = 32
    """Reals per sent token C."""
    max_text_tokens: int = 96
    """Longest question or context [language tokens]."""
    token_lengths: tuple[int, ...] = TOKEN_LENGTHS
    """Token lengths that a device may choose from; each doubles the one before."""


def read_description(directory: Path) -> tuple[LinkConfig, Tokenizer]:
    """What a model folder says of its link, and its foundation's tokenizer.

    Raises:
        ModelError: a file is missing, or says something else.
    """
    try:
        raw: dict[str, Any] = json.loads((directory / "model.json").read_text())
        config = TypeAdapter(LinkConfig).validate_python(raw)
        return config, tk.load_tokenizer(directory / "tokenizer.json")
    except (OSError, ValueError) as error:
        raise ModelError(f"{directory}: not a model folder that can be read: {error}") from error
