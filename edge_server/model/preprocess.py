"""Raw media to encoder input, inside the graph: what the device sends through is what training saw.

Only operators that ONNX exports with dynamic sizes: resizing is two matrix products with triangle-filter
weights computed from the input size (bilinear, antialiased when shrinking), the spectrogram is a
convolution with a windowed Fourier basis.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_server.model.config import AudioFormat, VisualFormat


class VisualFrontEnd(nn.Module):
    """Frames as a camera gives them to pixels as the encoder takes them."""

    def __init__(self, format: VisualFormat) -> None:
        super().__init__()
        self.format = format

    def forward(self, frames: Tensor) -> Tensor:
        """Pick, resize and scale frames.

        Args:
            frames: uint8, [F, H, W, 3], RGB; any F >= 1, H, W.

        Returns:
            float32 in [-1, 1], [format.frames, 3, format.height, format.width].
        """
        return self.normalise(self.resize(frames))

    def resize(self, frames: Tensor) -> Tensor:
        """Frames of the encoder's number and size, float32 in [0, 255], [frames, height, width, 3]."""
        format = self.format
        picked = pick_frames(frames, format.frames)
        rows = resize_weights(frames.shape[1], format.height, format.height, picked)
        columns = resize_weights(frames.shape[2], format.width, format.width, picked)
        x = torch.matmul(rows, picked.permute(0, 3, 1, 2))
        return torch.matmul(x, columns.transpose(0, 1)).permute(0, 2, 3, 1)

    @staticmethod
    def normalise(frames: Tensor) -> Tensor:
        """[..., height, width, 3] in [0, 255] to [..., 3, height, width] in [-1, 1]."""
        return frames.float().transpose(-1, -2).transpose(-2, -3) / 127.5 - 1.0


def pick_frames(frames: Tensor, count: int) -> Tensor:
    """Evenly spaced frames, [F, ...] to float32 [count, ...]."""
    centres = torch.arange(count, device=frames.device) * 2 + 1
    return frames[(centres * frames.shape[0]) // (2 * count)].float()


def resize_weights(
    size: int, full: int | Tensor, count: int, like: Tensor, begin: int | Tensor = 0
) -> Tensor:
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


class AudioFrontEnd(nn.Module):
    """PCM to a log-mel spectrogram."""

    basis: Tensor
    filters: Tensor

    def __init__(self, format: AudioFormat) -> None:
        super().__init__()
        self.format = format
        time = torch.arange(format.fft_size, dtype=torch.float64)
        bins = torch.arange(format.fft_size // 2 + 1, dtype=torch.float64)
        window = 0.5 - 0.5 * torch.cos(2 * math.pi * time / format.fft_size)
        angle = 2 * math.pi * bins[:, None] * time[None, :] / format.fft_size
        basis = torch.cat([torch.cos(angle) * window, -torch.sin(angle) * window])
        self.register_buffer("basis", basis[:, None, :].float(), persistent=False)
        self.register_buffer("filters", torch.from_numpy(_mel_filters(format)).float(), persistent=False)

    def forward(self, pcm: Tensor) -> Tensor:
        """Log-mel spectrogram, roughly in [-1, 1].

        Args:
            pcm: float32 in [-1, 1], [S], mono at format.sample_rate_hz; any S >= 0.

        Returns:
            float32, [format.spectra, format.mel_bins].
        """
        format = self.format
        silence = torch.zeros(format.samples + format.fft_size, dtype=pcm.dtype, device=pcm.device)
        x = torch.cat([pcm[: format.samples], silence])[: format.samples + format.fft_size - format.hop]
        spectrum = F.conv1d(x[None, None, :], self.basis, stride=format.hop)[0]
        real, imaginary = spectrum.chunk(2, dim=0)
        power = real * real + imaginary * imaginary
        mel = torch.matmul(self.filters, power)
        return (torch.log(mel + 1e-4).transpose(0, 1)) / 8.0


def _mel_filters(format: AudioFormat) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Triangular filters, [mel_bins, fft_size // 2 + 1], on the HTK mel scale."""

    def to_mel(
        hz: np.ndarray[tuple[int], np.dtype[np.float64]] | float,
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0))

    nyquist = format.sample_rate_hz / 2
    edges_mel = np.linspace(to_mel(50.0), to_mel(nyquist), format.mel_bins + 2)
    edges_hz = 700.0 * (10 ** (edges_mel / 2595.0) - 1.0)
    bins_hz = np.linspace(0.0, nyquist, format.fft_size // 2 + 1)
    rising = (bins_hz[None, :] - edges_hz[:-2, None]) / (edges_hz[1:-1] - edges_hz[:-2])[:, None]
    falling = (edges_hz[2:, None] - bins_hz[None, :]) / (edges_hz[2:] - edges_hz[1:-1])[:, None]
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)))
