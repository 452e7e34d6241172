"""Raw media to encoder input, inside the graph: what the device sends through is what training saw.

Only steps that have their like among ONNX's operators, for media of any size: resizing is bilinear,
antialiased when shrinking, the spectrogram is a few sums and products with Fourier bases.
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
        picked = pick_frames(frames, format.frames).permute(0, 3, 1, 2)
        size = (format.height, format.width)
        return F.interpolate(picked, size, mode="bilinear", antialias=True).permute(0, 2, 3, 1)

    @staticmethod
    def normalise(frames: Tensor) -> Tensor:
        """[..., height, width, 3] in [0, 255] to [..., 3, height, width] in [-1, 1]."""
        return frames.float().transpose(-1, -2).transpose(-2, -3) / 127.5 - 1.0


def pick_frames(frames: Tensor, count: int) -> Tensor:
    """Evenly spaced frames, [F, ...] to float32 [count, ...]."""
    centres = torch.arange(count, device=frames.device) * 2 + 1
    return frames[(centres * frames.shape[0]) // (2 * count)].float()


class AudioFrontEnd(nn.Module):
    """PCM to a log-mel spectrogram.

    The Fourier transform is taken apart by decimation in frequency (Gentleman and Sande, "Fast Fourier
    Transforms: for Fun and Profit", 1966): the odd bins of a frame are a transform of the difference of its
    halves, the even ones of their sum. Twice, and three small products stand for one large: 3/8 of its work.
    """

    _DECIMATIONS = 2

    window: Tensor
    blocks: Tensor

    def __init__(self, format: AudioFormat) -> None:
        super().__init__()
        self.format = format
        time = torch.arange(format.fft_size, dtype=torch.float64)
        window = 0.5 - 0.5 * torch.cos(2 * math.pi * time / format.fft_size)
        self.register_buffer("window", window.float(), persistent=False)
        # Frames overlap, but all begin and end at blocks of this many samples.
        self._block = math.gcd(format.fft_size, format.hop)
        blocks = torch.arange(format.fft_size // self._block)
        starts = torch.arange(format.spectra) * (format.hop // self._block)
        self.register_buffer("blocks", starts[:, None] + blocks, persistent=False)
        filters = torch.from_numpy(mel_filters(format))
        steps = [2**n for n in range(1, self._DECIMATIONS + 1)]
        self._odd = nn.ModuleList(_Band(filters, format.fft_size, step // 2, step) for step in steps)
        self._even = _Band(filters, format.fft_size, 0, steps[-1])

    def forward(self, pcm: Tensor) -> Tensor:
        """Log-mel spectrogram, roughly in [-1, 1].

        Args:
            pcm: float32 in [-1, 1], [S], mono at format.sample_rate_hz; any S >= 0.

        Returns:
            float32, [format.spectra, format.mel_bins].
        """
        format = self.format
        reach = (format.spectra - 1) * format.hop + format.fft_size
        silence = torch.zeros(reach, dtype=pcm.dtype, device=pcm.device)
        x = torch.cat([pcm[: format.samples], silence])[:reach]
        blocks = x.reshape(reach // self._block, self._block)
        left = blocks[self.blocks].reshape(format.spectra, format.fft_size) * self.window
        mel = []
        for odd in self._odd:
            half = left.shape[1] // 2
            begins, ends = left[:, :half], left[:, half:]
            mel.append(odd(begins - ends))
            left = begins + ends
        return torch.log(sum(mel, self._even(left)) + 1e-4) / 8.0


class _Band(nn.Module):
    """What every so many bins of a spectrum give to the mel bins.

    Args:
        filters: float64, [mel_bins, fft_size // 2 + 1].
        fft_size: samples of a frame before any decimation.
        first: the first of these bins.
        step: from one of them to the next.
    """

    basis: Tensor
    filters: Tensor

    def __init__(self, filters: Tensor, fft_size: int, first: int, step: int) -> None:
        super().__init__()
        bins = torch.arange(first, fft_size // 2 + 1, step)
        # Decimated until only these bins are left of it, a frame has so many samples.
        time = torch.arange(fft_size // step, dtype=torch.float64)
        angle = 2 * math.pi * bins * time[:, None] / fft_size
        basis = torch.cat([torch.cos(angle), -torch.sin(angle)], dim=1)
        self.register_buffer("basis", basis.float(), persistent=False)
        self.register_buffer("filters", filters[:, bins].T.float().contiguous(), persistent=False)

    def forward(self, samples_TN: Tensor) -> Tensor:
        """[T, N] to [T, mel_bins]."""
        real, imaginary = torch.matmul(samples_TN, self.basis).chunk(2, dim=1)
        return torch.matmul(real * real + imaginary * imaginary, self.filters)


def mel_filters(format: AudioFormat) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Triangular filters on the HTK mel scale, [mel_bins, fft_size // 2 + 1]."""

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
