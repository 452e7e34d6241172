"""Encoders that others have trained: ViViT and AST, from local Hugging Face folders.

    raw media ─▶ published preprocessing, as operators ─▶ encoder ─▶ [B, patches, D] ─▶ windows ─▶ [B, P, D]

A published encoder gives thousands of tokens a clip, and a transmitter sends at most a hundred of them. The
encoder ends by averaging them over as many windows as the longest token length: shorter ones are averages of
these again, so that nothing is lost to the head, and a clip's features fit on disk.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    PreTrainedModel,
    VivitConfig,
    VivitImageProcessor,
    VivitModel,
)

from edge_server.errors import ModelError
from edge_server.model.published.config import (
    CheckpointAudio,
    CheckpointVisual,
    FilterBankFormat,
    PictureFormat,
)
from edge_server.model.published.front_ends import FilterBankFrontEnd, PictureFrontEnd
from edge_server.model.selection import pooling_matrix

ModelT = TypeVar("ModelT", bound=PreTrainedModel)

_CONFIG = "config.json"


class CheckpointVisualEncoder(nn.Module):
    """ViViT with its own preprocessing."""

    def __init__(self, config: CheckpointVisual, encoder: VivitModel | None = None) -> None:
        super().__init__()
        self.config = config
        self.front_end = PictureFrontEnd(config.format)
        self.encoder = encoder or VivitModel(
            VivitConfig.from_dict(config.architecture), add_pooling_layer=False
        )
        size = self.encoder.config
        tubelet = size.tubelet_size
        volume = (size.num_frames, *config.format.crop)
        self.grid = tuple(n // p for n, p in zip(volume, tubelet, strict=True))
        self.hidden_size = int(size.hidden_size)
        self.pool = _Windows(math.prod(self.grid), config.windows)

    @property
    def patches(self) -> int:
        """Encoder tokens P of a clip."""
        return self.pool.windows

    def forward(self, pixels_BFCHW: Tensor) -> Tensor:
        """What the front end gives of each clip, [B, F, 3, rows, columns], to encoder tokens [B, P, D]."""
        hidden: Tensor = self.encoder(pixel_values=pixels_BFCHW).last_hidden_state[:, 1:]
        if self.config.order == "columns":
            batch, patches, width = hidden.shape
            hidden = hidden.reshape(batch, *self.grid, width).permute(0, 3, 1, 2, 4)
            hidden = hidden.reshape(batch, patches, width)
        return torch.as_tensor(self.pool(hidden))


class CheckpointAudioEncoder(nn.Module):
    """AST with its own preprocessing."""

    def __init__(self, config: CheckpointAudio, encoder: ASTModel | None = None) -> None:
        super().__init__()
        self.config = config
        self.front_end = FilterBankFrontEnd(config.format)
        self.encoder = encoder or ASTModel(ASTConfig.from_dict(config.architecture))
        size = self.encoder.config
        self.grid = (
            (size.num_mel_bins - size.patch_size) // size.frequency_stride + 1,
            (size.max_length - size.patch_size) // size.time_stride + 1,
        )
        self.hidden_size = int(size.hidden_size)
        self.pool = _Windows(math.prod(self.grid), config.windows)

    @property
    def patches(self) -> int:
        """Encoder tokens P of a clip."""
        return self.pool.windows

    def forward(self, bank_BTM: Tensor) -> Tensor:
        """What the front end gives of each clip, [B, spectra, mel_bins], to encoder tokens [B, P, D]."""
        hidden: Tensor = self.encoder(input_values=bank_BTM).last_hidden_state[:, 2:]
        batch, patches, width = hidden.shape
        hidden = hidden.reshape(batch, *self.grid, width).transpose(1, 2).reshape(batch, patches, width)
        return torch.as_tensor(self.pool(hidden))


class _Windows(nn.Module):
    """Averages over windows of encoder tokens, or all of these."""

    matrix: Tensor | None

    def __init__(self, patches: int, windows: int | None) -> None:
        super().__init__()
        if windows is not None and not 1 <= windows <= patches:
            raise ValueError(f"windows: {windows}; 1 to {patches}, the encoder's tokens")
        self.windows = patches if windows is None else windows
        matrix = None if windows is None else pooling_matrix(patches, windows)
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, x_BPD: Tensor) -> Tensor:
        return x_BPD if self.matrix is None else torch.matmul(self.matrix, x_BPD)


def visual_from(folder: Path, windows: int | None) -> CheckpointVisualEncoder:
    """A ViViT checkpoint with its image processor.

    Raises:
        ModelError: it is no such checkpoint, or its preprocessing is of another kind.
    """
    model = read_checkpoint(folder, "vivit", VivitModel, add_pooling_layer=False)
    processor = _read(folder, VivitImageProcessor)
    crop = (int(processor.crop_size["height"]), int(processor.crop_size["width"]))
    edge = processor.size.get("shortest_edge")
    resize = int(edge) if edge else (int(processor.size["height"]), int(processor.size["width"]))
    if not (processor.do_resize and processor.do_center_crop and processor.do_rescale):
        raise ModelError(f"{folder}: its image processor does not resize, crop and rescale; ViViT's does")
    smallest = resize if isinstance(resize, int) else min(resize)
    image_size = model.config.image_size
    if (image_size, image_size) != crop and tuple(_pair(image_size)) != crop:
        raise ModelError(f"{folder}: the image processor crops to {crop}, the model takes {image_size}")
    if smallest < max(crop):
        raise ModelError(f"{folder}: the image processor resizes to {resize} and crops to {crop}")
    mean, deviation = (
        (processor.image_mean, processor.image_std) if processor.do_normalize else ([0.0] * 3, [1.0] * 3)
    )
    offset = 1.0 if processor.offset else 0.0
    scale = tuple(processor.rescale_factor / d for d in deviation)
    shift = tuple((-offset - m) / d for m, d in zip(mean, deviation, strict=True))
    format = PictureFormat(
        frames=int(model.config.num_frames),
        crop=crop,
        resize=resize,
        scale=(scale[0], scale[1], scale[2]),
        shift=(shift[0], shift[1], shift[2]),
    )
    return CheckpointVisualEncoder(CheckpointVisual(model.config.to_dict(), format, windows), model)


def audio_from(folder: Path, windows: int | None) -> CheckpointAudioEncoder:
    """An AST checkpoint with its feature extractor.

    Raises:
        ModelError: it is no such checkpoint.
    """
    model = read_checkpoint(folder, "audio-spectrogram-transformer", ASTModel)
    extractor = _read(folder, ASTFeatureExtractor)
    size = model.config
    if (extractor.max_length, extractor.num_mel_bins) != (size.max_length, size.num_mel_bins):
        raise ModelError(
            f"{folder}: the feature extractor gives {extractor.max_length} spectra of "
            f"{extractor.num_mel_bins} bands, the model takes {size.max_length} of {size.num_mel_bins}"
        )
    format = FilterBankFormat(
        sample_rate_hz=int(extractor.sampling_rate),
        spectra=int(extractor.max_length),
        mel_bins=int(extractor.num_mel_bins),
        mean=float(extractor.mean) if extractor.do_normalize else 0.0,
        deviation=float(extractor.std) if extractor.do_normalize else 0.5,
    )
    return CheckpointAudioEncoder(CheckpointAudio(model.config.to_dict(), format, windows), model)


def read_checkpoint(folder: Path, model_type: str, kind: type[ModelT], **settings: Any) -> ModelT:
    """A model from a local Hugging Face folder; nothing is ever fetched.

    Args:
        folder: holds ``config.json`` and the weights.
        model_type: what its configuration must say it is.
        kind: class of the model.
        settings: for ``from_pretrained``.

    Raises:
        ModelError: there is no such checkpoint, or it lacks weights.
    """
    found = model_type_of(folder)
    if found != model_type:
        raise ModelError(f"{folder / _CONFIG}: model_type is {found!r}; {model_type!r} is needed")
    try:
        model, report = kind.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, **settings
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder}: {kind.__name__} cannot be read: {error}") from error
    # The library draws what is missing at random, with a warning: not what anybody wants of a checkpoint.
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(f"{folder}: {kind.__name__} lacks {len(missing)} weights, {missing[0]} first")
    assert isinstance(model, kind)  # noqa: S101 - narrows the type
    return model


def model_type_of(folder: Path) -> object:
    """What a checkpoint says it is, which should be a text.

    Raises:
        ModelError: there is no such checkpoint.
    """
    config = folder / _CONFIG
    try:
        return json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{config}: no Hugging Face checkpoint: {error}") from error


def _read(folder: Path, kind: type[Any]) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: {kind.__name__} cannot be read: {error}") from error


def _pair(size: int | list[int] | tuple[int, ...]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
