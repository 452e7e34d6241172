"""What training needs of each modality: media, words that say the same, pretraining.

By slot, as the records of :mod:`edge_server.model.modality`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from device_agent.media.clip import Clip
from edge_server.data.annotations import Caption
from edge_server.data.authors_layout import MediaFolder
from edge_server.data.soundstage.captions import (
    describe_picture,
    describe_sound,
    picture_words,
    sound_words,
)
from edge_server.data.soundstage.dataset import Split
from edge_server.data.soundstage.outsiders import training_picture, training_sound
from edge_server.data.soundstage.scene import Scene
from edge_server.model.link import Encoder
from edge_server.model.preprocess import VisualFrontEnd
from edge_server.model.transmitter import AudioEncoder, VisualEncoder
from edge_server.training.pretrain_encoders import AudioPretraining, EncoderTraining, VisualPretraining


@dataclass(frozen=True)
class ModalityTraining:
    """How a modality is trained.

    Attributes:
        media: of a Soundstage split, one row per clip.
        inputs: rows of these as a batch for an encoder that is trained here.
        recorded: media of one clip from a folder of recordings.
        decoded: media of a clip as a device decodes it; black or silent where it has none.
        caption: the part of a caption that is about it.
        dictated: what it shows, place by place, in a fixed number of words.
        describe: what it shows, worded anew; the foundation reads that in its slot before it reads tokens.
        elsewhere: media of a clip that is not of Soundstage's world, for an encoder of a link.
        pretraining: teaches its encoder; given the encoder's configuration and training, a split and a seed.
    """

    media: Callable[[Split], npt.NDArray[Any]]
    inputs: Callable[[Encoder, npt.NDArray[Any]], Tensor]
    recorded: Callable[[MediaFolder, str], npt.NDArray[Any]]
    decoded: Callable[[Clip], npt.NDArray[Any]]
    caption: Callable[[Caption], str]
    dictated: Callable[[Scene], Sequence[str]]
    describe: Callable[[Scene, np.random.Generator], str]
    elsewhere: Callable[[Encoder, np.random.Generator], npt.NDArray[Any]]
    pretraining: Callable[[Any, EncoderTraining, Split, int], VisualPretraining | AudioPretraining]


def _frames(encoder: Encoder, frames: npt.NDArray[Any]) -> Tensor:
    return VisualFrontEnd.normalise(torch.from_numpy(frames.copy()))


def _spectrograms(encoder: Encoder, pcm: npt.NDArray[Any]) -> Tensor:
    assert isinstance(encoder, AudioEncoder)  # noqa: S101 - narrows the type
    rows = torch.from_numpy(pcm.astype(np.float32) / 32768)
    return torch.stack([encoder.front_end(samples) for samples in rows])


def _pictures_elsewhere(encoder: Encoder, rng: np.random.Generator) -> npt.NDArray[Any]:
    assert isinstance(encoder, VisualEncoder)  # noqa: S101 - narrows the type
    format = encoder.config.format
    return training_picture(format.frames, format.height, format.width, rng)


def _sounds_elsewhere(encoder: Encoder, rng: np.random.Generator) -> npt.NDArray[Any]:
    assert isinstance(encoder, AudioEncoder)  # noqa: S101 - narrows the type
    format = encoder.config.format
    return training_sound(format.samples, format.sample_rate_hz, rng)


TRAINING: dict[str, ModalityTraining] = {
    "visual": ModalityTraining(
        media=lambda split: split.frames,
        inputs=_frames,
        recorded=lambda folder, video_id: folder.read_frames(video_id),
        decoded=lambda clip: (
            np.zeros((1, 8, 8, 3), np.uint8) if clip.frames_THWC is None else clip.frames_THWC
        ),
        caption=lambda caption: caption.picture,
        dictated=picture_words,
        describe=describe_picture,
        elsewhere=_pictures_elsewhere,
        pretraining=VisualPretraining,
    ),
    "audio": ModalityTraining(
        media=lambda split: split.pcm,
        inputs=_spectrograms,
        recorded=lambda folder, video_id: folder.read_sound(video_id),
        decoded=lambda clip: np.zeros(1, np.float32) if clip.pcm_S is None else clip.pcm_S,
        caption=lambda caption: caption.sound,
        dictated=sound_words,
        describe=describe_sound,
        elsewhere=_sounds_elsewhere,
        pretraining=AudioPretraining,
    ),
}
"""By slot."""
