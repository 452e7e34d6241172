"""The encoders of a transmitter, frozen after pretraining.

raw media ─▶ front end ─▶ encoder ─▶ [B, P, D] ─▶ head (edge_server.model.head) ─▶ channel
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTModel, VivitConfig, VivitModel

from edge_server.model.config import AudioConfig, VisualConfig
from edge_server.model.preprocess import AudioFrontEnd, VisualFrontEnd


class ResidualBlock(nn.Module):
    """x plus what a dilated convolution makes of it."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation),
            nn.GroupNorm(4, channels),
            nn.GELU(),
        )

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """[N, C, H, W], same shape out."""
        return maps_NCHW + torch.as_tensor(self.layers(maps_NCHW))


class ConvStem(nn.Module):
    """Convolutions that look at one frame at a time, each halving its size; then residual blocks."""

    def __init__(self, channels: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *channels), channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.GELU()]
        layers += [ResidualBlock(channels[-1], 2**i) for i in range(blocks)]
        self.layers = nn.Sequential(*layers)

    def forward(self, pixels_BFCHW: Tensor) -> Tensor:
        """[B, F, 3, H, W] to [B, F, channels, H / 2^n, W / 2^n]."""
        batch, frames = pixels_BFCHW.shape[:2]
        maps: Tensor = self.layers(pixels_BFCHW.flatten(0, 1))
        return maps.reshape(batch, frames, *maps.shape[1:])


class VisualEncoder(nn.Module):
    """ViViT over picked and resized frames, or over what a convolutional stem makes of them."""

    def __init__(self, config: VisualConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = VisualFrontEnd(config.format)
        self.stem = ConvStem(config.stem, config.stem_blocks) if config.stem else nn.Identity()
        size = config.encoder
        shrunk = 2 ** len(config.stem)
        volume = (config.format.frames, config.format.height // shrunk, config.format.width // shrunk)
        self.encoder = VivitModel(
            VivitConfig(
                image_size=volume[1:],
                num_channels=config.stem[-1] if config.stem else 3,
                num_frames=config.format.frames,
                tubelet_size=list(config.tubelet),
                hidden_size=size.hidden_size,
                num_hidden_layers=size.layers,
                num_attention_heads=size.heads,
                intermediate_size=size.intermediate_size,
            ),
            add_pooling_layer=False,
        )
        self.grid = tuple(n // p for n, p in zip(volume, config.tubelet, strict=True))

    @property
    def patches(self) -> int:
        """Encoder tokens P of a clip."""
        return int(np.prod(self.grid))

    @property
    def hidden_size(self) -> int:
        """Width D of an encoder token."""
        return self.config.encoder.hidden_size

    def forward(self, pixels_BFCHW: Tensor) -> Tensor:
        """Encoder tokens in pooling order.

        Args:
            pixels_BFCHW: float32, [B, frames, 3, height, width], as VisualFrontEnd gives.

        Returns:
            [B, P, D].
        """
        return self.attend(self.maps(pixels_BFCHW))

    def maps(self, pixels_BFCHW: Tensor) -> Tensor:
        """What the stem makes of each frame, [B, frames, channels, rows, columns]; without a stem, pixels."""
        maps: Tensor = self.stem(pixels_BFCHW)
        return maps

    def attend(self, maps_BFCHW: Tensor) -> Tensor:
        """ViViT over what :meth:`maps` gives: encoder tokens in pooling order, [B, P, D]."""
        hidden: Tensor = self.encoder(pixel_values=maps_BFCHW).last_hidden_state[:, 1:]
        if self.config.order == "columns":
            batch, patches, width = hidden.shape
            hidden = hidden.reshape(batch, *self.grid, width).permute(0, 3, 1, 2, 4)
            hidden = hidden.reshape(batch, patches, width)
        return hidden


class SpectrumStem(nn.Module):
    """Convolutions over a spectrogram; all that one time has left becomes one square patch of AST's.

    A timbre sounds alike at every pitch and every time, which convolutions know and a patch embedding has
    to learn.
    """

    _STRIDES = ((2, 2), (2, 2), (1, 4))

    def __init__(self, channels: tuple[int, ...], blocks: int, mel_bins: int, patch: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        steps = zip((1, *channels), channels, self._STRIDES, strict=False)
        for index, (before, after, stride) in enumerate(steps):
            if index == len(channels) - 1:
                layers += [ResidualBlock(before, 2**i) for i in range(blocks)]
            kernel = (max(3, stride[0] + 1), max(3, stride[1] + 1))
            padding = (kernel[0] // 2, kernel[1] // 2)
            layers += [
                nn.Conv2d(before, after, kernel, stride=stride, padding=padding),
                nn.GroupNorm(8, after),
                nn.GELU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.patch = patch
        values = channels[-1] * mel_bins // math.prod(frequency for _, frequency in self._STRIDES)
        if values != patch * patch:
            raise ValueError(f"audio.stem: {values} values a time, a patch takes {patch * patch}")

    def times(self, spectra: int) -> int:
        """Times that are left of so many spectra."""
        return spectra // math.prod(time for time, _ in self._STRIDES)

    def forward(self, mel_BTM: Tensor) -> Tensor:
        """[B, spectra, mel_bins] to [B, times x patch, patch]."""
        maps: Tensor = self.layers(mel_BTM[:, None])
        batch, _, times, _ = maps.shape
        return maps.transpose(1, 2).reshape(batch, times * self.patch, self.patch)


class AudioEncoder(nn.Module):
    """AST over a log-mel spectrogram, or over what a convolutional stem makes of it."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = AudioFrontEnd(config.format)
        size, format = config.encoder, config.format
        self.stem: nn.Module = nn.Identity()
        spectra, rows = format.spectra, format.mel_bins
        if config.stem:
            self.stem = SpectrumStem(config.stem, config.stem_blocks, format.mel_bins, config.patch)
            spectra, rows = self.stem.times(spectra) * config.patch, config.patch
        self.encoder = ASTModel(
            ASTConfig(
                max_length=spectra,
                num_mel_bins=rows,
                patch_size=config.patch,
                frequency_stride=config.frequency_stride,
                time_stride=config.time_stride,
                hidden_size=size.hidden_size,
                num_hidden_layers=size.layers,
                num_attention_heads=size.heads,
                intermediate_size=size.intermediate_size,
            )
        )
        self.grid = (
            (rows - config.patch) // config.frequency_stride + 1,
            (spectra - config.patch) // config.time_stride + 1,
        )

    @property
    def patches(self) -> int:
        """Encoder tokens P of a clip."""
        return self.grid[0] * self.grid[1]

    @property
    def hidden_size(self) -> int:
        """Width D of an encoder token."""
        return self.config.encoder.hidden_size

    def forward(self, mel_BTM: Tensor) -> Tensor:
        """Encoder tokens in order of time.

        Args:
            mel_BTM: float32, [B, spectra, mel_bins], as AudioFrontEnd gives.

        Returns:
            [B, P, D].
        """
        return self.attend(self.maps(mel_BTM))

    def maps(self, mel_BTM: Tensor) -> Tensor:
        """What the stem makes of a spectrogram, [B, times x patch, patch]; without a stem, itself."""
        maps: Tensor = self.stem(mel_BTM)
        return maps

    def attend(self, maps_BTM: Tensor) -> Tensor:
        """AST over what :meth:`maps` gives: encoder tokens in order of time, [B, P, D]."""
        hidden: Tensor = self.encoder(input_values=maps_BTM).last_hidden_state[:, 2:]
        batch, patches, width = hidden.shape
        return hidden.reshape(batch, *self.grid, width).transpose(1, 2).reshape(batch, patches, width)
