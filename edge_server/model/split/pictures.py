"""Pictures to what published vision towers take, as operators of the graph: resize, crop, scale, normalise.

A picture is resized along each axis by one matrix, as Pillow does it: a filter as wide as the shrinking, its
weights summing to one, values rounded to bytes after each axis. They are the same bytes where Pillow takes
columns first, as it always did; version 13 takes rows first for some shapes, and a byte may differ by 1 or 2.
Source: Pillow, ``Resample.c``.

Shapes: H, W of the picture; h, w of what the tower takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edge_server.errors import ModelError


def _triangle(x: Tensor) -> Tensor:
    return (1.0 - x.abs()).clamp(min=0.0)


def _cubic(x: Tensor) -> Tensor:
    """Keys (1981), a = -0.5."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, torch.zeros_like(x)))


def _lanczos(x: Tensor) -> Tensor:
    """Windowed sinc, three lobes."""
    return torch.where(x.abs() < 3.0, torch.sinc(x) * torch.sinc(x / 3.0), torch.zeros_like(x))


#: Weights are multiples of 2^-22, as Pillow's are: sums of them times bytes are exact in float64, in whatever
#: order they are added, so that every runtime rounds them alike.
_STEPS = 2.0**22
#: By Pillow's numbers, which is how a checkpoint's settings say it.
_FILTERS: Mapping[int, Callable[[Tensor], Tensor]] = {1: _lanczos, 2: _triangle, 3: _cubic}


@dataclass(frozen=True)
class PictureSettings:
    """What a checkpoint's image processor does.

    Attributes:
        size: rows and columns that the tower takes [px].
        resample: filter, by Pillow's number.
        mean, deviation: of each channel, of values in [0, 1].
        fit: ``"stretch"``: to the size, whatever its shape; ``"crop"``: its shortest edge to ``edge``, then
            the middle.
        edge: length of the shortest edge before cropping [px].
        through: longest edge that a picture is brought to first, where one is [px].
    """

    size: tuple[int, int]
    resample: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    fit: Literal["stretch", "crop"] = "stretch"
    edge: int = 0
    through: int | None = None


def normalisation(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of :class:`PictureSettings` that every image processor says alike.

    Raises:
        ModelError: it rescales by something else than 1 / 255, or resamples as nothing here does.
    """
    if settings.get("do_rescale", True) and abs(settings.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise ModelError(f"image processor: rescale_factor is {settings['rescale_factor']!r}; 1/255 is read")
    resample = int(settings["resample"])
    if resample not in _FILTERS:
        raise ModelError(f"image processor: resample is {resample}; allowed: {', '.join(map(str, _FILTERS))}")
    normalises = settings.get("do_normalize", True)
    mean = tuple(map(float, settings["image_mean"])) if normalises else (0.0,) * 3
    deviation = tuple(map(float, settings["image_std"])) if normalises else (1.0,) * 3
    return {"resample": resample, "mean": mean, "deviation": deviation}


class PictureFrontEnd(nn.Module):
    """The first of any frames to pixels as the tower takes them."""

    scale: Tensor
    shift: Tensor

    def __init__(self, settings: PictureSettings) -> None:
        super().__init__()
        self.settings = settings
        deviation = torch.tensor(settings.deviation)[:, None, None]
        self.register_buffer("scale", 1.0 / (255.0 * deviation), persistent=False)
        shift = -torch.tensor(settings.mean)[:, None, None] / deviation
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [F, H, W, 3] to float32 [1, 3, h, w]."""
        picture = frames[0].permute(2, 0, 1).double()
        for down, across in self._steps(frames):
            picture = _as_bytes(torch.matmul(picture, across.transpose(0, 1)))
            picture = _as_bytes(torch.matmul(down, picture))
        return (picture.float() * self.scale + self.shift)[None]

    def _steps(self, frames: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each time that a picture is resized: what is done to its rows, and to its columns."""
        settings, filter_ = self.settings, _FILTERS[self.settings.resample]
        one = torch.ones((), dtype=torch.float64, device=frames.device)
        sizes = one * frames.shape[1], one * frames.shape[2]
        longest, shortest = torch.maximum(*sizes), torch.minimum(*sizes)
        steps: list[list[Tensor]] = [[], []]
        for axis, size in enumerate(sizes):
            count, pixels = settings.size[axis], frames.shape[1 + axis]
            if settings.fit == "crop":
                full = torch.floor(settings.edge * size / shortest)
                begin = torch.floor((full - count) / 2)
                steps[0].append(_weights(filter_, pixels, size, count, full, begin))
            elif settings.through is None:
                steps[0].append(_weights(filter_, pixels, size, count, one * count))
            else:
                # As long as the longest may be: what a shorter side lacks, the second step does not look at.
                most = settings.through
                full = torch.floor(most * size / longest)
                full = torch.where(size == longest, one * most, full + torch.remainder(full, 2))
                steps[0].append(_weights(filter_, pixels, size, most, full))
                steps[1].append(_weights(filter_, most, full, count, one * count))
        return [(step[0], step[1]) for step in steps if step]


def _weights(
    filter_: Callable[[Tensor], Tensor],
    pixels: int,
    size: Tensor,
    count: int,
    full: Tensor,
    begin: Tensor | None = None,
) -> Tensor:
    """Rows of filter weights, [count, pixels], each summing to one.

    Args:
        filter_: of the distance.
        pixels: columns.
        size: how many of these there are, at most ``pixels``.
        count: rows.
        full: pixels that ``size`` become.
        begin: the first of them that is wanted; None: 0.
    """
    scale = size / full
    wanted = torch.arange(count, dtype=torch.float64, device=size.device) + 0.5
    centres = (wanted if begin is None else wanted + begin) * scale
    positions = torch.arange(pixels, dtype=torch.float64, device=size.device) + 0.5
    weights = filter_((positions[None, :] - centres[:, None]) / torch.clamp(scale, min=1.0))
    weights = torch.where(positions[None, :] < size, weights, torch.zeros_like(weights))
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return torch.sign(weights) * torch.floor(weights.abs() * _STEPS + 0.5) / _STEPS


def _as_bytes(values: Tensor) -> Tensor:
    """What a byte keeps of them; halves go up."""
    return torch.floor(values + 0.5).clamp(0.0, 255.0)


def even_grid(tokens: int) -> tuple[int, int]:
    """Rows and columns of so many tokens of a square.

    Raises:
        ModelError: they make none.
    """
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise ModelError(f"{tokens} feature tokens make no square")
    return side, side
