"""Raw media to what published encoders take, inside the graph: the published preprocessing, as operators.

- ViViT: the image processor of its checkpoint (shortest edge, crop in the middle, scale, mean and deviation);
- AST: the filter bank of Kaldi, as its feature extractor computes it. Removing the mean, pre-emphasis, window
  and Fourier transform of a frame are one linear map, and a strided convolution with it makes the spectra.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank, window_function

from edge_server.model.preprocess import pick_frames
from edge_server.model.published.config import FRAME, HOP, FilterBankFormat, PictureFormat

_FFT = 512
_PRE_EMPHASIS = 0.97
_LOWEST_HZ = 20.0
_MEL_FLOOR = 1.192092955078125e-07


class PictureFrontEnd(nn.Module):
    """Frames as a camera gives them to pixels as a published encoder takes them."""

    scale: Tensor
    shift: Tensor

    def __init__(self, format: PictureFormat) -> None:
        super().__init__()
        self.format = format
        self.register_buffer("scale", torch.tensor(format.scale)[:, None, None], persistent=False)
        self.register_buffer("shift", torch.tensor(format.shift)[:, None, None], persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Pick, resize, crop and normalise frames.

        Args:
            frames: uint8, [F, H, W, 3], RGB; any F >= 1, H, W.

        Returns:
            float32, [format.frames, 3, crop rows, crop columns].
        """
        picked = pick_frames(frames, self.format.frames).permute(0, 3, 1, 2)
        rows, columns = self._sizes(frames)
        down = self._cropped(frames.shape[1], rows, self.format.crop[0], picked)
        across = self._cropped(frames.shape[2], columns, self.format.crop[1], picked)
        pixels = torch.matmul(torch.matmul(down, picked), across.transpose(0, 1))
        return pixels * self.scale + self.shift

    def _sizes(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns after resizing."""
        one = torch.ones((), device=frames.device)
        height, width = one * frames.shape[1], one * frames.shape[2]
        if isinstance(self.format.resize, tuple):
            return one * self.format.resize[0], one * self.format.resize[1]
        shortest = torch.minimum(height, width)
        return torch.floor(self.format.resize * height / shortest), torch.floor(
            self.format.resize * width / shortest
        )

    @staticmethod
    def _cropped(size: int, full: Tensor, crop: int, like: Tensor) -> Tensor:
        return resize_weights(size, full, crop, like, begin=torch.floor((full - crop) / 2))


def resize_weights(size: int, full: Tensor, count: int, like: Tensor, begin: Tensor) -> Tensor:
    """Rows of triangle-filter weights, [count, size], each summing to one.

    Args:
        size: pixels before resizing.
        full: pixels after resizing.
        count: how many of these are wanted.
        like: of the device and type that the weights get.
        begin: the first that is wanted.
    """
    scale = torch.ones_like(like[0, 0, 0, 0]) * size / full
    centres = (torch.arange(count, device=like.device) + 0.5 + begin) * scale
    positions = torch.arange(size, device=like.device) + 0.5
    distance = (positions[None, :] - centres[:, None]).abs() / torch.clamp(scale, min=1.0)
    weights = torch.clamp(1.0 - distance, min=0.0)
    return weights / weights.sum(dim=1, keepdim=True)


class FilterBankFrontEnd(nn.Module):
    """PCM to a normalised log-mel filter bank."""

    basis: Tensor
    filters: Tensor

    def __init__(self, format: FilterBankFormat) -> None:
        super().__init__()
        self.format = format
        self.register_buffer("basis", _frame_to_spectrum()[:, None, :].float(), persistent=False)
        self.register_buffer("filters", _mel_filters(format).float(), persistent=False)

    def forward(self, pcm: Tensor) -> Tensor:
        """Filter bank of a window.

        Args:
            pcm: float32 in [-1, 1], [S], mono at format.sample_rate_hz; any S >= 0.

        Returns:
            float32, [format.spectra, format.mel_bins]; spectra that the sound does not reach are what the
            published extractor pads with.
        """
        format = self.format
        silence = torch.zeros(format.samples, dtype=pcm.dtype, device=pcm.device)
        x = torch.cat([pcm[: format.samples], silence])[: format.samples]
        spectrum = F.conv1d(x[None, None, :], self.basis, stride=HOP)[0]
        real, imaginary = spectrum.chunk(2, dim=0)
        power = real * real + imaginary * imaginary
        bank = torch.log(torch.matmul(self.filters, power).clamp(min=_MEL_FLOOR)).transpose(0, 1)
        # Spectra that lie wholly within the sound; of the others none is computed, they are zero.
        ends = torch.arange(format.spectra, device=pcm.device) * HOP + FRAME
        reached = ends <= torch.ones_like(ends[0]) * pcm.shape[0]
        bank = torch.where(reached[:, None], bank, torch.zeros_like(bank))
        return (bank - format.mean) / (2 * format.deviation)


def _mel_filters(format: FilterBankFormat) -> Tensor:
    """Kaldi's triangular filters, float64, [mel_bins, 257]."""
    with warnings.catch_warnings():
        # The lowest bands are narrower than a bin and stay empty, in the published extractor too.
        warnings.filterwarnings("ignore", "At least one mel filter has all zero values", UserWarning)
        filters = mel_filter_bank(
            num_frequency_bins=_FFT // 2 + 1,
            num_mel_filters=format.mel_bins,
            min_frequency=_LOWEST_HZ,
            max_frequency=format.sample_rate_hz / 2,
            sampling_rate=format.sample_rate_hz,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
    return torch.from_numpy(filters).T.contiguous()


def _frame_to_spectrum() -> Tensor:
    """Real over imaginary parts of a frame's spectrum, as a map of its samples; float64, [2 x 257, 400].

    Kaldi's order: the frame's mean is taken off, then pre-emphasis (the first sample is its own
    predecessor), then a symmetric Hann window, then a Fourier transform padded to 512.
    """
    time = torch.arange(FRAME, dtype=torch.float64)
    centred = torch.eye(FRAME, dtype=torch.float64) - 1.0 / FRAME
    emphasis = torch.eye(FRAME, dtype=torch.float64)
    emphasis[time[1:].long(), time[:-1].long()] = -_PRE_EMPHASIS
    emphasis[0, 0] = 1.0 - _PRE_EMPHASIS
    window = torch.from_numpy(window_function(FRAME, "hann", periodic=False))
    bins = torch.arange(_FFT // 2 + 1, dtype=torch.float64)
    angle = 2 * torch.pi * bins[:, None] * time[None, :] / _FFT
    transform = torch.cat([torch.cos(angle), -torch.sin(angle)])
    return (transform * window) @ emphasis @ centred
