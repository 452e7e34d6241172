"""Recorded clips to train on: VALOR's captions for stage 1, MUSIC-AVQA's questions for stage 2."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from device_agent.media.clip import MediaSpec
from edge_server.data.annotations import Caption, QuestionRow, questions_by_clip
from edge_server.data.authors_layout import MediaFolder, Survey, survey
from edge_server.data.faults import Fault
from edge_server.data.music_avqa import MusicAvqa
from edge_server.data.valor import Valor
from edge_server.errors import DatasetError
from edge_server.model.link import Link
from edge_server.training.modality import TRAINING

#: Recorded clips that go through an encoder at once: a published one gives thousands of tokens each.
ENCODER_BATCH = 8


@dataclass(frozen=True)
class _Recorded:
    """What all recorded splits share.

    Attributes:
        media: frames and sound.
        video_ids: of each clip.
        threads: clips that are decoded at once.
    """

    media: MediaFolder
    video_ids: tuple[str, ...]
    threads: int

    def __len__(self) -> int:
        return len(self.video_ids)

    @torch.inference_mode()
    def encode(self, link: Link, slot: str, begin: int, end: int) -> Tensor:
        """Encoder tokens of clips begin to end - 1, [B, P, D], float32.

        Raises:
            DatasetError: a file can no longer be read.
        """
        encoder = link.encoder(slot).eval()
        read = partial(TRAINING[slot].recorded, self.media)
        with ThreadPoolExecutor(self.threads) as pool, link.precision():
            try:
                media = list(pool.map(read, self.video_ids[begin:end]))
            except Exception as error:  # whatever a decoder raises: the survey could read it
                raise DatasetError(f"{self.media.folder}: changed while it was read: {error}") from error
            inputs = torch.stack([encoder.front_end(torch.from_numpy(m).to(link.device)) for m in media])
            return torch.as_tensor(encoder(inputs)).float()

    def has(self, clip: int, slot: str) -> bool:
        """Always: clips without frames or sound were left out."""
        return True

    def caption(self, clip: int) -> Caption:
        """A clip in words."""
        raise DatasetError(f"{self.media.folder} has no captions: stage 1 cannot learn from it")

    def dictated(self, clip: int, slot: str) -> Sequence[str]:
        """The word for each place of a slot."""
        raise DatasetError(f"{self.media.folder} has no word for each place: dictation_weight must be 0")

    def questions(self, clip: int, most: int, rng: np.random.Generator) -> list[tuple[str, str]]:
        """Questions about a clip."""
        raise DatasetError(f"{self.media.folder} has no questions: stage 2 cannot learn from it")

    def description(self, clip: int, rng: np.random.Generator) -> str:
        """A clip in words, as an answer."""
        raise DatasetError(f"{self.media.folder} has no descriptions: describe_odds must be 0")


@dataclass(frozen=True)
class CaptionedSplit(_Recorded):
    """Implements :class:`edge_server.training.split.TrainingSplit` with captions."""

    captions: tuple[Caption, ...] = ()

    @classmethod
    def of(cls, loaded: Valor, threads: int) -> CaptionedSplit:
        """VALOR's clips."""
        return cls(loaded.media, loaded.video_ids, threads, loaded.captions)

    def caption(self, clip: int) -> Caption:
        """What somebody wrote about a clip."""
        return self.captions[clip]

    def description(self, clip: int, rng: np.random.Generator) -> str:
        """The caption."""
        return self.captions[clip].full


@dataclass(frozen=True)
class AskedSplit(_Recorded):
    """Implements :class:`edge_server.training.split.TrainingSplit` with questions."""

    asked: tuple[QuestionRow, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, loaded: MusicAvqa, threads: int) -> AskedSplit:
        """MUSIC-AVQA's clips."""
        return cls(loaded.media, loaded.video_ids, threads, loaded.questions)

    @cached_property
    def by_clip(self) -> tuple[tuple[QuestionRow, ...], ...]:
        """The questions of each clip."""
        return questions_by_clip(self.asked, len(self))

    def questions(self, clip: int, most: int, rng: np.random.Generator) -> list[tuple[str, str]]:
        """Some of a clip's own questions, each at most once."""
        of_clip = self.by_clip[clip]
        picked = rng.permutation(len(of_clip))[:most]
        return [(of_clip[i].text, of_clip[i].answer) for i in picked]


def media_spec(link: Link) -> MediaSpec:
    """How many frames, how large, and how much sound the encoders of a link take."""
    if link.config.audio is None:
        raise DatasetError(f"{link.config.name} hears nothing; recorded clips are seen and heard")
    visual, sound = link.config.visual, link.config.audio.format
    return MediaSpec(
        frame_rate_hz=visual.frame_rate_hz,
        sample_rate_hz=sound.sample_rate_hz,
        window_s=sound.samples / sound.sample_rate_hz,
        max_frames=visual.format.frames,
        max_side=visual.max_side,
    )


def media_of(link: Link, folder: Path) -> MediaFolder:
    """A recorded data set's media, read as the encoders of a link take them.

    Args:
        link: says how many frames, how large, and how much sound.
        folder: the data set's.
    """
    return MediaFolder(folder, link.config.visual.format.frames, media_spec(link))


def remembered_survey(path: Path, threads: int) -> Survey:
    """Looks through all files once, and remembers in ``path`` what it found."""

    def look(media: MediaFolder, video_ids: Sequence[str]) -> Mapping[str, Fault]:
        if path.exists():
            found = json.loads(path.read_text())
            if found["clips"] == list(video_ids):
                faults: dict[str, Fault] = found["faults"]
                return faults
        with Progress() as bar:
            task = bar.add_task(f"look through {media.folder.name}", total=len(video_ids))
            faults = survey(media, video_ids, threads, lambda done: bar.advance(task, done))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"clips": list(video_ids), "faults": faults}) + "\n")
        return faults

    return look
