"""The device's half of a split model as ONNX graphs, checked against torch.

Exported with torch's own exporter: pictures of any size, sound of any length and a token length chosen
when it runs go through one graph.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from edge_server.errors import ExportError
from edge_server.model.split.family import MediaHalf
from edge_server.model.split.reduction import Reducer, TokenReduction
from edge_server.model.split.scale import add_scale

#: Largest difference between ONNX Runtime and torch, relative to the tokens' root mean square.
PARITY_TOLERANCE = 1e-3
#: Most bytes of one graph: what protobuf holds.
MAX_GRAPH_BYTES = 2**31 - 2**20
_OPSET = 18
_LARGEST_SIDE = 4096
#: Range of the scale around what was found on a few made-up media: real ones differ by less than e^2.
_SCALE_MARGIN = 2.0


class MediaGraph(nn.Module):
    """Raw media to a codeword at the token length that is asked for."""

    def __init__(
        self, half: MediaHalf, reducer: Reducer, lengths: Sequence[int], log_rms: tuple[float, float]
    ) -> None:
        super().__init__()
        self.front_end, self.encoder = half.front_end, half.encoder
        self.reduction = TokenReduction(reducer, half.grid, lengths)
        self.log_rms = log_rms

    def forward(self, media: Tensor, token_length: Tensor) -> Tensor:
        """uint8 [1, H, W, 3] or float32 [S], and int64 [1], to float32 [token_length, C]."""
        x_TE = self.encoder(self.front_end(media)).float()
        return add_scale(self.reduction(x_TE, token_length), self.log_rms)


def features(half: MediaHalf, media: Tensor) -> Tensor:
    """All feature tokens of a picture or sound, [T, E]."""
    with torch.inference_mode():
        return torch.as_tensor(half.encoder(half.front_end(media))).float()


def scale_range(slot: str, half: MediaHalf) -> tuple[float, float]:
    """The range in which the scale of feature tokens is told, around that of made-up media.

    Raises:
        ExportError: the encoder gives what is no number, or another number of tokens than it says.
    """
    found = []
    for media in _samples(slot, half):
        x_TE = features(half, media)
        if len(x_TE) != half.grid[0] * half.grid[1]:
            raise ExportError(f"{slot}: the encoder gives {len(x_TE)} tokens, its grid is {half.grid}")
        found.append(float(x_TE.square().mean().sqrt().log()))
    middle = sum(found) / len(found)
    if not np.isfinite(middle):
        raise ExportError(f"{slot}: the encoder gives feature tokens that are no numbers, or all zero")
    return middle - _SCALE_MARGIN, middle + _SCALE_MARGIN


def export_media(slot: str, graph: MediaGraph, half: MediaHalf, path: Path) -> float:
    """Write one graph and compare it with torch at every token length.

    Returns:
        The largest difference, relative to the tokens' root mean square.

    Raises:
        ExportError: it differs by more than PARITY_TOLERANCE, or is too large for one file.
    """
    size = sum(each.numel() for each in graph.state_dict().values()) * 4
    if size > MAX_GRAPH_BYTES:
        raise ExportError(
            f"{slot}: encoder and connector have {size / 2**30:.1f} GiB of weights; a device bundle's graph "
            "holds 2 at most"
        )
    graph = graph.eval().float()
    media = next(_samples(slot, half))
    sizes = {"visual": ("height", "width"), "audio": ("samples",)}[slot]
    first = 1 if slot == "visual" else 0
    dynamic = {
        first + axis: torch.export.Dim(name, min=2, max=_LARGEST_SIDE if slot == "visual" else 2**24)
        for axis, name in enumerate(sizes)
    }
    with quietly(), torch.inference_mode():
        torch.onnx.export(
            graph,
            (media, torch.tensor([graph.reduction.lengths[0]])),
            str(path),
            input_names=["frames" if slot == "visual" else "pcm", "token_length"],
            output_names=["tokens"],
            dynamic_shapes=(dynamic, None),
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    onnx.checker.check_model(str(path))
    return _difference(slot, graph, half, path)


def _difference(slot: str, graph: MediaGraph, half: MediaHalf, path: Path) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    worst = 0.0
    for media in _samples(slot, half):
        for length in graph.reduction.lengths:
            inputs: Mapping[str, Tensor] = dict(zip(names, (media, torch.tensor([length])), strict=True))
            with torch.inference_mode():
                expected = graph(*inputs.values()).numpy()
            (found,) = session.run(None, {name: each.numpy() for name, each in inputs.items()})
            if found.shape != expected.shape:
                raise ExportError(f"{slot}: tokens of shape {found.shape}, torch gives {expected.shape}")
            difference = float(np.abs(found - expected).max() / np.sqrt(np.mean(expected**2)))
            if not difference <= PARITY_TOLERANCE:
                raise ExportError(
                    f"{slot}: tokens differ from torch by {difference:.2e} (relative), for media of shape "
                    f"{tuple(media.shape)} at token length {length}"
                )
            worst = max(worst, difference)
    return worst


def _samples(slot: str, half: MediaHalf) -> Iterator[Tensor]:
    """Made-up media of several sizes: smooth, as pictures and sounds are."""
    generator = torch.Generator().manual_seed(0)
    if slot == "visual":
        for height, width in ((90, 130), (480, 360), (33, 50)):
            coarse = torch.rand(1, 3, 6, 8, generator=generator) * 255
            smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
            yield smooth.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        return
    for share in (0.5, 1.0, 1.3):
        count = int(half.window_s * half.sample_rate_hz * share)
        time = torch.arange(count) / half.sample_rate_hz
        hum = torch.sin(2 * torch.pi * 220 * time) * torch.sin(2 * torch.pi * 2 * time).abs()
        yield 0.3 * hum + 0.01 * torch.randn(count, generator=generator)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """What the exporter tells of its own stages is not for who splits a model; the check vouches for it."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
