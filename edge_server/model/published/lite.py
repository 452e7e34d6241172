"""EfficientNet-Lite0, a published ImageNet classifier (Tan and Le 2019), as a visual encoder.

    frames ─▶ middle of the first, and the whole of each ─▶ network ─▶ [B, 49, D], columns left to right

A token says of its cell of the picture: what is seen there, its colour, whether it moves. And of the whole:
which of the classifier's classes it is likely to show, as the average of the classes' own codes weighted by
their probabilities. A receiver that knows the codes can name a thing that training never showed.

The network's weights keep the names that they were published with. Padding is TensorFlow's: more of it at the
end where it is uneven.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_server.model.preprocess import pick_frames
from edge_server.model.published.config import LiteFormat, LiteVisual
from edge_server.model.published.front_ends import resize_weights

# Of each stage: blocks, kernel, stride, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _LAST, _HEAD = 32, 320, 1280
_EPS = 1e-3
# Rows and columns of cells.
_GRID = 7
# Of a token: mean colour, mean and largest motion, how likely the likeliest class is.
_COLOUR, _MOTION, _SURE = 3, 2, 1
# The average of codes is to be nearest to the likeliest class's, also where several like it follow.
_SHARPER = 4.0
# What brings motion and codes to the size of the rest.
_MOTION_GAIN, _CODE_GAIN = 20.0, 11.0
# Motion is looked for in averages over so many pixels a side: sensors are noisy.
_COARSE = 4


class _Convolution(nn.Conv2d):
    """Without bias, padded as TensorFlow does."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        # The side of a map is a multiple of the stride throughout.
        needed = self.kernel_size[0] - self.stride[0]
        before = needed // 2
        padded = F.pad(maps_NCHW, (before, needed - before, before, needed - before))
        return super().forward(padded)


class _Block(nn.Module):
    """An inverted bottleneck."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        self.expands = expansion > 1
        self.adds = stride == 1 and before == after
        if self.expands:
            self._expand_conv = _Convolution(before, inner, 1)
            self._bn0 = nn.BatchNorm2d(inner, eps=_EPS)
        self._depthwise_conv = _Convolution(inner, inner, kernel, stride, groups=inner)
        self._bn1 = nn.BatchNorm2d(inner, eps=_EPS)
        self._project_conv = _Convolution(inner, after, 1)
        self._bn2 = nn.BatchNorm2d(after, eps=_EPS)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        x = maps_NCHW
        if self.expands:
            x = F.relu6(self._bn0(self._expand_conv(x)))
        x = F.relu6(self._bn1(self._depthwise_conv(x)))
        out: Tensor = self._bn2(self._project_conv(x))
        return out + maps_NCHW if self.adds else out


class LiteNetwork(nn.Module):
    """The classifier as it was published."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._conv_stem = _Convolution(3, _STEM, 3, 2)
        self._bn0 = nn.BatchNorm2d(_STEM, eps=_EPS)
        blocks, before = [], _STEM
        for count, kernel, stride, expansion, after in _STAGES:
            for index in range(count):
                blocks.append(_Block(before, after, kernel, stride if index == 0 else 1, expansion))
                before = after
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _Convolution(_LAST, _HEAD, 1)
        self._bn1 = nn.BatchNorm2d(_HEAD, eps=_EPS)
        self._fc = nn.Linear(_HEAD, classes)

    def maps(self, pixels_NCHW: Tensor) -> Tensor:
        """What the last block gives, [N, 320, H / 32, W / 32]."""
        x = F.relu6(self._bn0(self._conv_stem(pixels_NCHW)))
        for block in self._blocks:
            x = block(x)
        return x

    def logits(self, maps_NCHW: Tensor) -> Tensor:
        """Of the classes, from :meth:`maps`, [N, classes]."""
        head = F.relu6(self._bn1(self._conv_head(maps_NCHW)))
        out: Tensor = self._fc(head.mean(dim=(2, 3)))
        return out


class LiteFrontEnd(nn.Module):
    """Frames as a camera gives them to pixels as the network takes them."""

    def __init__(self, format: LiteFormat) -> None:
        super().__init__()
        self.format = format

    def forward(self, frames: Tensor) -> Tensor:
        """Resize and scale frames.

        Args:
            frames: uint8, [F, H, W, 3], RGB; any F >= 1, H, W.

        Returns:
            float32, [1 + format.frames, 3, side, side]: the largest square in the middle of the first that
            is picked; then the whole of each, its sides made equal.
        """
        format = self.format
        picked = pick_frames(frames, format.frames).permute(0, 3, 1, 2)
        one = torch.ones((), device=frames.device)
        height, width = one * frames.shape[1], one * frames.shape[2]
        shortest = torch.minimum(height, width)
        square = self._resized(picked[:1], height / shortest, width / shortest)
        whole = self._resized(picked, one, one)
        return (torch.cat([square, whole]) - format.mean) / format.deviation

    def _resized(self, frames_NCHW: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The middle of frames whose sides are so many times as long as what is kept of them."""
        side = self.format.side
        down, across = (
            resize_weights(size, side * times, side, frames_NCHW, begin=torch.floor(side * (times - 1) / 2))
            for size, times in ((frames_NCHW.shape[2], rows), (frames_NCHW.shape[3], columns))
        )
        return torch.matmul(torch.matmul(down, frames_NCHW), across.transpose(0, 1))


class LiteEncoder(nn.Module):
    """EfficientNet-Lite0 with its own preprocessing."""

    order: Tensor

    def __init__(self, config: LiteVisual) -> None:
        super().__init__()
        self.config = config
        self.front_end = LiteFrontEnd(config.format)
        self.network = LiteNetwork(config.classes)
        self.grid = (_GRID, _GRID)
        seen = config.hidden_size - config.code_size - _COLOUR - _MOTION - _SURE
        self.look = nn.Linear(_LAST, seen)
        self.codes = nn.Parameter(torch.zeros(config.classes, config.code_size))
        cells = torch.arange(_GRID * _GRID).reshape(self.grid)
        self.register_buffer("order", cells.T.reshape(-1).clone(), persistent=False)

    @property
    def patches(self) -> int:
        """Encoder tokens P: cells of the picture."""
        return _GRID * _GRID

    @property
    def hidden_size(self) -> int:
        """Width D of an encoder token."""
        return self.config.hidden_size

    @torch.no_grad()
    def derive(self) -> None:
        """Make what follows from the network's weights: how a cell is looked at, and the classes' codes.

        A cell is seen in the directions that move the network's last layer most, in units of what the batch
        norms say is usual. A class's code is its row of the classifier in the directions in which the rows
        differ most, all of one length.
        """
        network = self.network
        last = network._blocks[-1].get_submodule("_bn2")
        usual, middle = last.get_parameter("weight").abs(), last.get_parameter("bias")
        variance = network._bn1.get_buffer("running_var")
        gain = network._bn1.weight / torch.sqrt(variance + _EPS)
        head = network._conv_head.weight[:, :, 0, 0] * gain[:, None] * usual
        directions = torch.linalg.svd(head.double(), full_matrices=False).Vh.float()
        self.look.weight.copy_(directions[: self.look.out_features] / usual)
        self.look.bias.copy_(-self.look.weight @ middle)
        rows = network._fc.weight - network._fc.weight.mean(dim=0)
        u, s, _ = torch.linalg.svd(rows.double(), full_matrices=False)
        codes = F.normalize((u * s)[:, : self.config.code_size], dim=1).float()
        self.codes.copy_(codes * _CODE_GAIN)

    def forward(self, pixels_BFCHW: Tensor) -> Tensor:
        """What the front end gives of each clip, [B, 1 + F, 3, side, side], to encoder tokens [B, P, D]."""
        return self.joined(*self.parts(pixels_BFCHW))

    def parts(self, pixels_BFCHW: Tensor) -> tuple[Tensor, Tensor]:
        """What cells show, [B, P, X], and how likely each class is, [B, classes]."""
        whole = pixels_BFCHW[:, 1:]
        maps = self.network.maps(torch.cat([pixels_BFCHW[:, 0], whole[:, 0]]))
        middle, cells = maps.chunk(2)
        likely_BK = torch.softmax(_SHARPER * self.network.logits(middle), dim=-1)
        colour = F.avg_pool2d(whole[:, 0], whole.shape[-1] // _GRID)
        seen = self.look(cells.flatten(2).transpose(1, 2))
        parts = [seen, colour.flatten(2).transpose(1, 2), self._motion(whole)]
        return torch.cat(parts, dim=-1).index_select(1, self.order), likely_BK

    def joined(self, local_BPX: Tensor, likely_BK: Tensor) -> Tensor:
        """What cells show, with how likely each class is: encoder tokens [B, P, D]."""
        surest = likely_BK.amax(dim=-1, keepdim=True)
        whole = torch.cat([surest, torch.matmul(likely_BK, self.codes)], dim=-1)
        return torch.cat([local_BPX, whole[:, None].expand(-1, self.patches, -1)], dim=-1)

    @property
    def local_size(self) -> int:
        """Width of what a token says of its own cell."""
        return self.hidden_size - self.config.code_size - _SURE

    def _motion(self, whole_BFCHW: Tensor) -> Tensor:
        """Mean and largest change from one frame to the next in each cell, [B, P, 2], rows first."""
        batch, frames = whole_BFCHW.shape[:2]
        grey = F.avg_pool2d(whole_BFCHW.flatten(0, 1).mean(dim=1, keepdim=True), _COARSE)
        grey = grey.reshape(batch, frames, *grey.shape[-2:])
        change = (grey[:, 1:] - grey[:, :-1]).abs().mean(dim=1, keepdim=True)
        cell = change.shape[-1] // _GRID
        both = torch.cat([F.avg_pool2d(change, cell), F.max_pool2d(change, cell) / 4], dim=1)
        return both.flatten(2).transpose(1, 2) * _MOTION_GAIN
