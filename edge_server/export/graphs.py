"""Graphs of a device bundle, one record each: what goes in, what the manifest says, what it is tried on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from device_agent.bundle.bundle import FEATURES, TOKENS
from edge_server.model.description import LinkConfig
from edge_server.model.head_gradient import can_learn_on_a_device
from edge_server.model.link import Link


class FeatureGraph(nn.Module):
    """Media to tokens; to the encoder's features too, where a device can learn the head that comes after."""

    def __init__(self, link: Link, slot: str) -> None:
        super().__init__()
        self.encoder = link.encoder(slot)
        self.head = link.heads[slot]
        self.outputs = (TOKENS, FEATURES) if can_learn_on_a_device(self.head) else (TOKENS,)

    def encoded(self, inputs: Tensor, token_length: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """What the encoder takes of one clip, and int64 [1], to float32 [token_length, C] and [P, D]."""
        features = self.encoder(inputs[None])
        tokens: Tensor = self.head(features, token_length)[0]
        return tokens if len(self.outputs) == 1 else (tokens, features[0].float())


class VisualGraph(FeatureGraph):
    """Frames, as a camera gives them, to tokens."""

    def __init__(self, link: Link) -> None:
        super().__init__(link, "visual")

    def forward(self, frames: Tensor, token_length: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """uint8 [F, H, W, 3] and int64 [1] to float32 [token_length, C], and [P, D]."""
        return self.encoded(self.encoder.front_end(frames), token_length)


class AudioGraph(FeatureGraph):
    """PCM to tokens."""

    def __init__(self, link: Link) -> None:
        super().__init__(link, "audio")

    def forward(self, pcm: Tensor, token_length: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """float32 [S] and int64 [1] to float32 [token_length, C], and [P, D]."""
        return self.encoded(self.encoder.front_end(pcm), token_length)


class TextGraph(nn.Module):
    """Language tokens to the analog path's channel tokens."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.embedding = link.embedding
        self.head = link.text_head

    def forward(self, token_ids: Tensor) -> Tensor:
        """int64 [L] to float32 [L, C]."""
        tokens: Tensor = self.head(self.embedding(token_ids)[None].float())[0]
        return tokens


@dataclass(frozen=True)
class Graph:
    """How one transmitter is exported.

    Attributes:
        build: of a link, the graph as torch computes it.
        example: of its raw inputs, to be traced with.
        dynamic: which of their axes have sizes that differ, by name.
        described: what the manifest says of it, beside its file's name.
        samples: raw inputs of several sizes, to compare ONNX Runtime with torch on.
        takes_length: whether it is told how many tokens to make, as its last input.
    """

    build: Callable[[Link], nn.Module]
    example: Callable[[], dict[str, Tensor]]
    dynamic: Mapping[str, Mapping[int, str]]
    described: Callable[[LinkConfig], dict[str, Any]]
    samples: Callable[[torch.Generator], Iterator[dict[str, Tensor]]]
    takes_length: bool = True


def _describe_visual(config: LinkConfig) -> dict[str, Any]:
    visual = config.visual
    return {
        "modalities": ["image", "video"],
        "frame_rate_hz": visual.frame_rate_hz,
        "window_s": visual.window_s,
        "max_frames": round(visual.frame_rate_hz * visual.window_s),
        "max_side": visual.max_side,
    }


def _describe_audio(config: LinkConfig) -> dict[str, Any]:
    assert config.audio is not None  # noqa: S101 - it has a transmitter
    audio = config.audio.format
    return {
        "modalities": ["audio"],
        "sample_rate_hz": audio.sample_rate_hz,
        "window_s": audio.samples / audio.sample_rate_hz,
    }


def _frames(generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    for size in ((32, 144, 256), (1, 480, 640), (7, 33, 50)):
        yield {"frames": torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=generator)}


def _sounds(generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    for samples in (64_000, 8_000, 100_000):
        yield {"pcm": torch.randn(samples, generator=generator) * 0.1}


def _texts(generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    for tokens in (1, 9, 40):
        yield {"token_ids": torch.randint(10, 200, (tokens,), generator=generator)}


GRAPHS: dict[str, Graph] = {
    "visual": Graph(
        build=VisualGraph,
        example=lambda: {"frames": torch.randint(0, 256, (5, 90, 160, 3), dtype=torch.uint8)},
        dynamic={"frames": {0: "frames", 1: "height", 2: "width"}},
        described=_describe_visual,
        samples=_frames,
    ),
    "audio": Graph(
        build=AudioGraph,
        example=lambda: {"pcm": torch.randn(16_000) * 0.1},
        dynamic={"pcm": {0: "samples"}},
        described=_describe_audio,
        samples=_sounds,
    ),
    "text": Graph(
        build=TextGraph,
        example=lambda: {"token_ids": torch.arange(10, 17)},
        dynamic={"token_ids": {0: "language_tokens"}},
        described=lambda config: {"modalities": ["text"], "max_token_length": config.max_text_tokens},
        samples=_texts,
        takes_length=False,
    ),
}
"""By transmitter: a modality's slot, or the analog path of text."""
