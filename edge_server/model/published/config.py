"""What defines parts of a link that others have trained, but their weights. Light to import: no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from edge_server.model import tokenizer as tk

#: Frame of Kaldi's filter bank, and the step between two: 25 ms and 10 ms at 16 kHz [samples].
FRAME = 400
HOP = 160
#: Widest picture whose shortest edge a device should be able to send in full: 16 to 9.
_WIDEST = 16 / 9

DTypeName: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class PictureFormat:
    """What a published visual encoder takes."""

    frames: int
    """Frames, evenly spaced over the window."""
    crop: tuple[int, int]
    """Rows and columns that are cut out of the middle [px]."""
    resize: int | tuple[int, int]
    """Length of the shortest edge, or rows and columns, before that [px]."""
    scale: tuple[float, float, float]
    """A channel is its byte times this ..."""
    shift: tuple[float, float, float]
    """... plus this."""

    @property
    def height(self) -> int:
        """Rows [px]."""
        return self.crop[0]

    @property
    def width(self) -> int:
        """Columns [px]."""
        return self.crop[1]


@dataclass(frozen=True)
class FilterBankFormat:
    """What a published audio encoder takes."""

    sample_rate_hz: int
    """Rate of the PCM [Hz]."""
    spectra: int
    """Spectra in a window, one each 10 ms."""
    mel_bins: int
    """Mel bands from 20 Hz to half the sample rate."""
    mean: float
    """Taken off a logarithm ..."""
    deviation: float
    """... which is then divided by twice this."""

    @property
    def samples(self) -> int:
        """Window; shorter sound is padded, longer is cut."""
        return FRAME + (self.spectra - 1) * HOP


@dataclass(frozen=True)
class CheckpointVisual:
    """A published visual encoder (ViViT)."""

    architecture: dict[str, Any]
    """Its Hugging Face configuration."""
    format: PictureFormat
    """What it takes."""
    windows: int | None = None
    """Averages that it ends with; None for all of its tokens."""
    order: Literal["time", "columns"] = "time"
    """What windows run along: time (as patches come) or the picture's columns, left to right."""
    window_s: float = 10.0
    """Window that a device takes [s]; the frames are spread over it."""

    @property
    def frame_rate_hz(self) -> float:
        """Frames that a device takes per second."""
        return self.format.frames / self.window_s

    @property
    def max_side(self) -> int:
        """Largest side of a frame that makes a difference [px]."""
        resize = self.format.resize
        return max(resize) if isinstance(resize, tuple) else math.ceil(resize * _WIDEST)


@dataclass(frozen=True)
class LiteFormat:
    """What EfficientNet-Lite takes."""

    frames: ClassVar[int] = 1
    """Frames: the one in the middle of the window."""
    side: int = 224
    """Rows and columns [px]."""
    mean: float = 127.0
    """Taken off a byte ..."""
    deviation: float = 128.0
    """... which is then divided by this."""

    @property
    def height(self) -> int:
        """Rows [px]."""
        return self.side

    @property
    def width(self) -> int:
        """Columns [px]."""
        return self.side


@dataclass(frozen=True)
class LiteVisual:
    """A published classifier of pictures (EfficientNet-Lite0) as the visual encoder."""

    classes: int
    """Classes that it knows."""
    format: LiteFormat = field(default_factory=LiteFormat)
    """What it takes."""
    code_size: int = 128
    """Width D of an encoder token: of the codes of class, colour and side."""
    window_s: float = 4.0
    """Window that a device takes [s]; the frame in its middle is looked at."""
    doubted_below: float = 0.0
    """A class that is less probable than this is told as a guess."""
    others: ClassVar[tuple[int, ...]] = (12, 4)
    """Colours and sides that may be told, and the widths of their codes."""
    frame_rate_hz: ClassVar[float] = 8.0
    """Frames that a device takes per second; the graph picks its own from these."""
    max_side: ClassVar[int] = 398
    """Largest side of a frame that makes a difference [px]: 16 to 9, and as high as the network's input."""

    @property
    def class_width(self) -> int:
        """Width of a class's code."""
        return self.code_size - sum(self.others)


@dataclass(frozen=True)
class CheckpointAudio:
    """A published audio encoder (AST)."""

    architecture: dict[str, Any]
    """Its Hugging Face configuration."""
    format: FilterBankFormat
    """What it takes."""
    windows: int | None = None
    """Averages that it ends with; None for all of its tokens."""


@dataclass(frozen=True)
class CheckpointFoundation:
    """A published foundation."""

    architecture: dict[str, Any]
    """Its Hugging Face configuration."""
    special: tk.SpecialIds = field(default_factory=tk.SpecialIds)
    """Special tokens of its tokenizer."""
    dtype: DTypeName = "float32"
    """Type of its weights."""
    max_positions: int = 1024
    """Longest prompt with its answer that is served [language and feature tokens]."""

    @property
    def hidden_size(self) -> int:
        """Embedding width E."""
        return int(self.architecture["hidden_size"])
