"""EfficientNet-Lite0, a published ImageNet classifier (Tan and Le 2019), as a visual encoder.

    frames ─▶ middle square of one ─▶ network ─▶ what it is, its colour, where it is ─▶ [B, 1, D]

What it is: which of the classifier's classes it is likely to show, as the average of the classes' own codes
weighted by their probabilities. A receiver that knows the codes can name a thing that training never showed.
Where it is, are the cells that speak for these classes (class activation maps, Zhou et al. 2016); its colour
is the name that most of what is seen there would be given. It is nowhere where no class is probable enough:
so a receiver learns of the doubt.

The network's weights keep the names that they were published with. Padding is TensorFlow's: more of it at the
end where it is uneven.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_server.model.preprocess import pick_frames
from edge_server.model.published.colours import ColourNames
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
# The average of codes is to be nearest to the likeliest class's, also where several like it follow.
_SHARPER = 4.0
# How much more a cell counts for each unit by which it speaks more for the classes.
_SALIENCE = 1.0
# Of the power that a class has: what colour and side get.
_OTHERS_SHARE = 0.1
# A side is told where the middle of what is seen is so far from that of the square, of half its width.
_ASIDE = 0.3
_SIDES = 4


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

    def head(self, maps_NCHW: Tensor) -> Tensor:
        """What classes are told by, from :meth:`maps`, [N, 1280, H / 32, W / 32]."""
        out: Tensor = F.relu6(self._bn1(self._conv_head(maps_NCHW)))
        return out

    def logits(self, head_NCHW: Tensor) -> Tensor:
        """Of the classes, from :meth:`head`, [N, classes]."""
        out: Tensor = self._fc(head_NCHW.mean(dim=(2, 3)))
        return out


class LiteFrontEnd(nn.Module):
    """Frames as a camera gives them to pixels as the network takes them."""

    def __init__(self, format: LiteFormat) -> None:
        super().__init__()
        self.format = format

    def forward(self, frames: Tensor) -> Tensor:
        """Pick a frame, resize and scale it.

        Args:
            frames: uint8, [F, H, W, 3], RGB; any F >= 1, H, W.

        Returns:
            float32, [1, 3, side, side]: the largest square in the middle of the frame in the middle.
        """
        format = self.format
        frame = pick_frames(frames, 1).permute(0, 3, 1, 2)
        one = torch.ones((), device=frames.device)
        height, width = one * frames.shape[1], one * frames.shape[2]
        shortest = torch.minimum(height, width)
        square = self._resized(frame, height / shortest, width / shortest)
        return (square - format.mean) / format.deviation

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

    columns: Tensor

    def __init__(self, config: LiteVisual) -> None:
        super().__init__()
        self.config = config
        self.front_end = LiteFrontEnd(config.format)
        self.network = LiteNetwork(config.classes)
        self.colours = ColourNames()
        self.codes = nn.Parameter(torch.zeros(config.classes, config.class_width))
        self.directions = nn.Parameter(torch.zeros(config.class_width, _HEAD))
        across = (torch.arange(_GRID, dtype=torch.float32) - _GRID // 2) / (_GRID / 2)
        self.register_buffer("columns", across.repeat(_GRID), persistent=False)

    @property
    def patches(self) -> int:
        """Encoder tokens P: one of the whole."""
        return 1

    @property
    def hidden_size(self) -> int:
        """Width D of an encoder token."""
        return self.config.code_size

    @torch.no_grad()
    def derive(self) -> None:
        """Make what follows from the network's weights: the classes' codes.

        A class's code is its row of the classifier in the directions in which the rows differ most, all of
        length 1. They and the classifier are rounded to 16 bits, in which a bundle keeps them.
        """
        weight = self.network._fc.weight
        weight.copy_(weight.half().float())
        rows = weight - weight.mean(dim=0)
        u, s, vh = torch.linalg.svd(rows.double(), full_matrices=False)
        width = self.config.class_width
        self.codes.copy_(F.normalize((u * s)[:, :width], dim=1).half().float())
        # Only as many as there are; a classifier of few classes has fewer.
        self.directions[: len(vh)].copy_((vh[:width] * rows.norm(dim=1).mean()).half().float())

    def forward(self, pixels_BFCHW: Tensor) -> Tensor:
        """What the front end gives of clips, [B, 1, 3, side, side], to the codes of all fields [B, 1, D]."""
        return self.joined(*self.parts(pixels_BFCHW[:, 0]))

    def parts(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probability of each class, [B, classes]; which colour, [B, 12], and side, [B, 4], as 0 and 1."""
        head_BHYX = self.network.head(self.network.maps(pixels_BCHW))
        logits_BK = self.network.logits(head_BHYX)
        likely_BK = torch.softmax(_SHARPER * logits_BK, dim=-1)
        doubts_B = (torch.softmax(logits_BK, dim=-1).amax(dim=-1) < self.config.doubted_below).float()
        # How much each cell speaks for the classes that are likely.
        spoken_BH1 = torch.matmul(torch.matmul(likely_BK, self.codes), self.directions)[..., None]
        speaks_BS = torch.matmul(head_BHYX.flatten(2).transpose(1, 2), spoken_BH1)[..., 0]
        counts_BS = torch.softmax(_SALIENCE * speaks_BS, dim=-1)
        format = self.config.format
        rgb_BCHW = (pixels_BCHW * format.deviation + format.mean) / 255.0
        colour_BK = self.colours(rgb_BCHW, counts_BS.reshape(-1, _GRID, _GRID))
        return likely_BK, colour_BK, self._side(counts_BS, doubts_B)

    def joined(self, likely_BK: Tensor, colour_BK: Tensor, side_BK: Tensor) -> Tensor:
        """Codes of all fields, [B, 1, D]."""
        others = _OTHERS_SHARE**0.5 * torch.cat([colour_BK, side_BK], dim=-1)
        return torch.cat([torch.matmul(likely_BK, self.codes), others], dim=-1)[:, None]

    def _side(self, counts_BS: Tensor, doubts_B: Tensor) -> Tensor:
        """Which of nothing, left, middle and right, [B, 4]: nothing, where it is in doubt what is seen."""
        aside_B = torch.matmul(counts_BS, self.columns)
        left, right = (aside_B < -_ASIDE).float(), (aside_B > _ASIDE).float()
        sure_B4 = (1 - doubts_B)[:, None] * torch.stack(
            [torch.zeros_like(left), left, 1 - left - right, right], dim=-1
        )
        return torch.cat([doubts_B[:, None], sure_B4[:, 1:]], dim=-1)
