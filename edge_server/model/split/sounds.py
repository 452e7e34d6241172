"""Sound to what published audio towers take: Whisper's log-mel bands, as operators of the graph.

A spectrum is one strided convolution with the window's Fourier basis. Source: Radford et al., "Robust Speech
Recognition via Large-Scale Weak Supervision" (2022); its authors' feature extractor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

WHISPER: Mapping[str, Any] = {
    "feature_size": 128,
    "sampling_rate": 16_000,
    "hop_length": 160,
    "n_fft": 400,
    "chunk_length": 30,
}
"""Settings where a checkpoint says nothing."""


class WhisperFrontEnd(nn.Module):
    """PCM to Whisper's bands of one window; shorter sound is followed by silence, longer is cut.

    Args:
        settings: of the checkpoint's feature extractor.
    """

    basis: Tensor
    filters: Tensor

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.rate, size = int(settings["sampling_rate"]), int(settings["n_fft"])
        self.hop, self.pad = int(settings["hop_length"]), size // 2
        self.samples = int(settings["chunk_length"]) * self.rate
        time = torch.arange(size, dtype=torch.float64)
        window = 0.5 - 0.5 * torch.cos(2 * math.pi * time / size)
        angle = 2 * math.pi * torch.arange(size // 2 + 1, dtype=torch.float64)[:, None] * time / size
        basis = torch.cat([torch.cos(angle), -torch.sin(angle)]) * window
        self.register_buffer("basis", basis[:, None].float(), persistent=False)
        filters = mel_filter_bank(
            num_frequency_bins=size // 2 + 1,
            num_mel_filters=int(settings["feature_size"]),
            min_frequency=0.0,
            max_frequency=8000.0,
            sampling_rate=self.rate,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("filters", torch.from_numpy(filters).T.float().contiguous(), persistent=False)

    @property
    def window_s(self) -> float:
        """Length of the window [s]."""
        return self.samples / self.rate

    def forward(self, pcm: Tensor) -> Tensor:
        """float32 [S] to [1, bands, spectra]."""
        silence = torch.zeros(self.samples, dtype=pcm.dtype, device=pcm.device)
        window = torch.cat([pcm, silence])[: self.samples]
        # Mirrored at both ends, as frames are centred.
        before = window[1 : self.pad + 1].flip(0)
        after = window[-self.pad - 1 : -1].flip(0)
        mirrored = torch.cat([before, window, after])[None, None]
        real, imaginary = F.conv1d(mirrored, self.basis, stride=self.hop)[0].chunk(2)
        power = (real * real + imaginary * imaginary)[:, :-1]
        bands = torch.log10(torch.matmul(self.filters, power).clamp(min=1e-10))
        return ((torch.maximum(bands, bands.max() - 8.0) + 4.0) / 4.0)[None]
