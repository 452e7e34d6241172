"""Qwen2-Audio: Whisper's encoder, every two of its steps averaged, Qwen2. A whole window is listened to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_server.model.split.family import Checkpoint, Family, MediaHalf, register_family
from edge_server.model.split.sounds import WHISPER, WhisperFrontEnd


class _Encoder(nn.Module):
    """Tower and connector over a full window: nothing of it is masked."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower, self.connector = model.audio_tower, model.multi_modal_projector

    def forward(self, bands_1MT: Tensor) -> Tensor:
        return torch.as_tensor(self.connector(self.tower(bands_1MT).last_hidden_state)[0])


def _sound(checkpoint: Checkpoint) -> MediaHalf:
    front_end = WhisperFrontEnd(checkpoint.settings("feature_extractor", WHISPER))
    model = checkpoint.model
    return MediaHalf(
        front_end,
        _Encoder(getattr(model, "model", model)),
        (1, model.config.audio_config.max_source_positions // 2),
        written="<|AUDIO|>",
        placeholder="<|AUDIO|>",
        window_s=front_end.window_s,
        sample_rate_hz=front_end.rate,
    )


register_family(
    Family(
        "qwen2_audio",
        "Qwen2AudioForConditionalGeneration",
        {"audio": _sound},
        resolution="a window of `chunk_length`; shorter sound is followed by silence, which is listened to",
    )
)
