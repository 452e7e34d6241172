"""Voxtral: Whisper's encoder, every four of its steps as one, Mistral (a Llama)."""

from __future__ import annotations

from edge_server.model.split.family import Checkpoint, Family, MediaHalf, register_family
from edge_server.model.split.features import AudioFeatures
from edge_server.model.split.sounds import WHISPER, WhisperFrontEnd


def _sound(checkpoint: Checkpoint) -> MediaHalf:
    front_end = WhisperFrontEnd(checkpoint.settings("feature_extractor", WHISPER))
    model = checkpoint.model
    tower = model.config.audio_config
    reals = tower.max_source_positions * tower.hidden_size
    return MediaHalf(
        front_end,
        AudioFeatures(getattr(model, "model", model)),
        (1, reals // tower.intermediate_size),
        written="[AUDIO]",
        placeholder="[AUDIO]",
        window_s=front_end.window_s,
        sample_rate_hz=front_end.rate,
    )


register_family(
    Family(
        "voxtral",
        "VoxtralForConditionalGeneration",
        {"audio": _sound},
        resolution="a window of `chunk_length`; shorter sound is followed by silence, as its processor does",
    )
)
