"""The library's own doors to what a model sees and hears, as modules that can be exported."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ImageFeatures(nn.Module):
    """``get_image_features`` of one picture.

    Args:
        model: that has it.
        extra: what else it is told, the same for every picture.
    """

    def __init__(self, model: Any, **extra: Any) -> None:
        super().__init__()
        self.model, self._extra = model, extra

    def forward(self, pixels_1CHW: Tensor) -> Tensor:
        """[1, 3, h, w] to [T, E]."""
        out = self.model.get_image_features(pixel_values=pixels_1CHW, return_dict=True, **self._extra)
        return torch.as_tensor(out.pooler_output[0])


class AudioFeatures(nn.Module):
    """``get_audio_features`` of one window of sound."""

    def __init__(self, model: Any, **extra: Any) -> None:
        super().__init__()
        self.model, self._extra = model, extra

    def forward(self, bands_1MT: Tensor) -> Tensor:
        """[1, bands, spectra] to [T, E]."""
        out = self.model.get_audio_features(input_features=bands_1MT, return_dict=True, **self._extra)
        features = out.pooler_output
        return torch.as_tensor(
            features if isinstance(features, Tensor) and features.ndim == 2 else features[0]
        )


def pair(size: Any) -> tuple[int, int]:
    """A size that may be said once for both axes."""
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
