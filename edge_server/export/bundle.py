"""The device's half, from torch to a device bundle: ONNX graphs from raw media to power-normalised tokens.

Resizing, spectrogram, normalisation, pooling and power normalisation all lie inside the graphs. An export
ends with a parity check: ONNX Runtime and torch give the same tokens for every modality and token length.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.onnx.utils import register_custom_op_symbolic

from device_agent.bundle.bundle import Bundle, write_manifest
from edge_server.errors import ExportError
from edge_server.model.config import TOKEN_LENGTHS
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit

#: Largest difference between ONNX Runtime and torch, relative to the tokens' root mean square.
PARITY_TOLERANCE = 1e-3
_OPSET = 18


class VisualGraph(nn.Module):
    """Frames, as a camera gives them, to tokens."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.encoder = link.encoder("visual")
        self.head = link.heads["visual"]

    def forward(self, frames: Tensor, token_length: Tensor) -> Tensor:
        """uint8 [F, H, W, 3] and int64 [1] to float32 [token_length, C]."""
        pixels = self.encoder.front_end(frames)
        tokens: Tensor = self.head(self.encoder(pixels[None]), token_length)[0]
        return tokens


class AudioGraph(nn.Module):
    """PCM to tokens."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.encoder = link.encoder("audio")
        self.head = link.heads["audio"]

    def forward(self, pcm: Tensor, token_length: Tensor) -> Tensor:
        """float32 [S] and int64 [1] to float32 [token_length, C]."""
        mel = self.encoder.front_end(pcm)
        tokens: Tensor = self.head(self.encoder(mel[None]), token_length)[0]
        return tokens


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
class _Sample:
    """Inputs that a graph is tried on."""

    graph: str
    inputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class Exported:
    """A device bundle that has passed its check.

    Attributes:
        bundle: as a device reads it.
        parity: per graph, the largest difference from torch, relative to the tokens' root mean square.
    """

    bundle: Bundle
    parity: Mapping[str, float]


def export_bundle(link: Link, folder: Path, commit: str | None = None) -> Exported:
    """Write a device bundle and check it against torch.

    Args:
        link: the trained model.
        folder: where the bundle goes.
        commit: of the code that trained the model; found with git where None.

    Raises:
        ExportError: a graph's tokens differ from torch's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    link = link.eval()
    graphs: dict[str, nn.Module] = {
        "visual": VisualGraph(link),
        "audio": AudioGraph(link),
        "text": TextGraph(link),
    }
    frames = torch.randint(0, 256, (5, 90, 160, 3), dtype=torch.uint8)
    config = link.config
    length = torch.tensor([config.token_lengths[len(config.token_lengths) // 2]])
    examples: dict[str, dict[str, Tensor]] = {
        "visual": {"frames": frames, "token_length": length},
        "audio": {"pcm": torch.randn(16_000) * 0.1, "token_length": length},
        "text": {"token_ids": torch.arange(10, 17)},
    }
    dynamic = {
        "visual": {"frames": {0: "frames", 1: "height", 2: "width"}},
        "audio": {"pcm": {0: "samples"}},
        "text": {"token_ids": {0: "language_tokens"}},
    }
    for name, graph in graphs.items():
        _export(graph.eval(), examples[name], dynamic[name], folder / f"{name}.onnx")
    link.tokenizer.save(str(folder / "tokenizer.json"))
    parity = check_parity(graphs, folder, config.token_lengths)
    bundle = write_manifest(
        folder,
        {
            "format": 1,
            "name": config.name,
            "channel_dim": config.channel_dim,
            "token_lengths": list(config.token_lengths),
            "transmitters": {
                "visual": {
                    "graph": "visual.onnx",
                    "modalities": ["image", "video"],
                    "frame_rate_hz": config.visual.frame_rate_hz,
                    "window_s": config.visual.window_s,
                    "max_frames": round(config.visual.frame_rate_hz * config.visual.window_s),
                    "max_side": config.visual.max_side,
                },
                "audio": {
                    "graph": "audio.onnx",
                    "modalities": ["audio"],
                    "sample_rate_hz": config.audio.format.sample_rate_hz,
                    "window_s": config.audio.format.samples / config.audio.format.sample_rate_hz,
                },
                "text": {
                    "graph": "text.onnx",
                    "modalities": ["text"],
                    "max_token_length": config.max_text_tokens,
                },
            },
            "tokenizer": "tokenizer.json",
            "precision": "fp32",
            "training_commit": commit if commit is not None else current_commit(),
        },
    )
    return Exported(bundle, parity)


def check_parity(
    graphs: Mapping[str, nn.Module], folder: Path, token_lengths: Sequence[int] = TOKEN_LENGTHS
) -> dict[str, float]:
    """Compare ONNX Runtime with torch on media of several sizes, at every token length.

    Returns:
        Per graph, the largest difference relative to the tokens' root mean square.

    Raises:
        ExportError: a difference exceeds PARITY_TOLERANCE, or is not a number.
    """
    worst: dict[str, float] = {}
    sessions = {
        name: onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in graphs
    }
    for sample in _samples(token_lengths):
        with torch.inference_mode():
            expected = graphs[sample.graph](*sample.inputs.values()).numpy()
        (found,) = sessions[sample.graph].run(None, {k: v.numpy() for k, v in sample.inputs.items()})
        if found.shape != expected.shape:
            raise ExportError(f"{sample.graph}: tokens of shape {found.shape}, torch gives {expected.shape}")
        scale = float(np.sqrt(np.mean(expected**2)))
        difference = float(np.abs(found - expected).max()) / scale
        worst[sample.graph] = max(worst.get(sample.graph, 0.0), difference)
        if not difference <= PARITY_TOLERANCE:
            described = {k: tuple(v.shape) for k, v in sample.inputs.items()}
            raise ExportError(
                f"{sample.graph}: tokens differ from torch by {difference:.2e} (relative) for {described}"
            )
    return worst


def _samples(token_lengths: Sequence[int]) -> Iterator[_Sample]:
    generator = torch.Generator().manual_seed(0)
    for size in ((32, 144, 256), (1, 480, 640), (7, 33, 50)):
        frames = torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=generator)
        for length in token_lengths:
            yield _Sample("visual", {"frames": frames, "token_length": torch.tensor([length])})
    for samples in (64_000, 8_000, 100_000):
        pcm = torch.randn(samples, generator=generator) * 0.1
        for length in token_lengths:
            yield _Sample("audio", {"pcm": pcm, "token_length": torch.tensor([length])})
    for tokens in (1, 9, 40):
        yield _Sample("text", {"token_ids": torch.randint(10, 200, (tokens,), generator=generator)})


def _export(
    graph: nn.Module, inputs: Mapping[str, Tensor], dynamic: Mapping[str, Mapping[int, str]], path: Path
) -> None:
    register_custom_op_symbolic("aten::_upsample_bilinear2d_aa", _resize, _OPSET)
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracing exporter is the one that keeps a token length chosen at run time; it warns of its age,
        # and of shapes that are constants here on purpose. The parity check is what vouches for the result.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=["tokens"],
            dynamic_axes={**{k: dict(v) for k, v in dynamic.items()}, "tokens": {0: "tokens"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(str(path), full_check=True)


def _resize(graph: Any, maps: Any, size: Any, align_corners: Any, scales: Any) -> Any:
    """Antialiased resizing as ONNX's operator: the one step that the tracing exporter does not know."""
    unused = graph.op("Constant", value_t=torch.tensor([], dtype=torch.float32))
    return graph.op(
        "Resize",
        maps,
        unused,  # region of interest
        unused,  # scales
        size,
        axes_i=[2, 3],
        mode_s="linear",
        coordinate_transformation_mode_s="half_pixel",
        antialias_i=1,
        exclude_outside_i=1,
    )
