"""Sizes of a link's parts. Light to import: no torch.

A server that computes in processes of its own knows this much of its model and no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AliasChoices, Field

from edge_server.model import tokenizer as tk

#: Token lengths that a device may choose from, unless a model says otherwise; each doubles the one before.
TOKEN_LENGTHS = (1, 2, 4, 8, 16, 32)

SelectionName: TypeAlias = Literal["window", "linspace", "queries", "nested"]


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
class ListenerAudio:
    """A small classifier of sounds as the audio encoder: see :mod:`edge_server.model.listener`."""

    classes: int
    """Classes that it knows."""
    format: AudioFormat = field(default_factory=AudioFormat)
    """What it takes."""
    channels: tuple[int, ...] = (32, 48, 80, 128)
    """Channels of its convolutions, each behind the first halving time and frequency."""
    code_size: int = 64
    """Width D of an encoder token: of the codes of class and loudness."""
    others: ClassVar[tuple[int, ...]] = (3,)
    """Levels of loudness that may be told, and the width of their codes."""

    @property
    def class_width(self) -> int:
        """Width of a class's code."""
        return self.code_size - sum(self.others)


@dataclass(frozen=True)
class HeadConfig:
    """The heads of feature modalities."""

    selection: SelectionName = "window"
    """How encoder tokens become as many as are sent."""

    @property
    def nested(self) -> bool:
        """Whether the first tokens of a block are the block of that length: more can be sent behind them."""
        return self.selection == "nested"


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
    # "slots" is what model.json called it before.
    num_queries: Annotated[int, Field(validation_alias=AliasChoices("num_queries", "slots"))] = 14
    """Learned queries Q: embeddings that the foundation gets of a block, however many tokens were sent."""

    def embeddings(self, token_length: int) -> int:
        """Embeddings that the foundation gets for so many tokens."""
        return token_length if self.kind == "mlp" else self.num_queries


@dataclass(frozen=True)
class MemoryField:
    """One of the things that a caption says, as one of several that both ends know by heart."""

    things: int
    """How many it may be."""
    width: int
    """Reals of its code."""


@dataclass(frozen=True)
class MemoryConfig:
    """What both ends of a slot know by heart: see :mod:`edge_server.model.memory`."""

    fields: tuple[MemoryField, ...]
    """Fields, the one that names the thing first; an encoder token ends with the codes of all, in order."""
    doubts: int | None = None
    """Which field's first thing says that the encoder doubts what it names; None: none."""

    @property
    def width(self) -> int:
        """Reals of all codes."""
        return sum(field.width for field in self.fields)


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
    norm_eps: ClassVar[float] = 1e-6
    """Added to a mean square before its root is taken, in every norm."""

    @property
    def special(self) -> tk.SpecialIds:
        """Special tokens of its tokenizer."""
        return tk.OWN_IDS


@dataclass(frozen=True)
class LoraTraining:
    """Low-rank adaptation of the foundation (stage 2)."""

    rank: int = 8
    """Rank of the update."""
    alpha: int = 16
    """Scale: the update counts alpha / rank."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Which projections get one."""
    applies_to: Literal["media"] | None = field(default=None, metadata={"identity_if_set": True})
    """Whom it answers: questions that come with media, all others being the untouched foundation's; None:
    all questions."""
