"""Held-out questions about clips: of Soundstage, of MUSIC-AVQA in its authors' layout, or one's own.

DIR/SPLIT/split.json   Soundstage (:mod:`edge_server.data.soundstage.dataset`)
DIR/MUSIC-AVQA/        recorded (:mod:`edge_server.data.authors_layout`)
DIR/questions.jsonl    one's own (:mod:`edge_server.data.questions_file`)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from device_agent.cotrain.questions_file import FILE
from edge_server.data import music_avqa
from edge_server.data.annotations import Caption, QuestionRow
from edge_server.data.authors_layout import MediaFolder, Videos, has_split, survey
from edge_server.data.faults import Fault, RowReport
from edge_server.data.music_avqa import load_music_avqa
from edge_server.data.questions_file import OwnMedia, has_questions, load_questions
from edge_server.data.questions_file import survey as survey_own
from edge_server.data.soundstage.dataset import Split, SplitName, load_split
from edge_server.errors import DatasetError
from edge_server.model.link import Link
from edge_server.model.published.lite import LiteEncoder
from edge_server.model.transmitter import VisualEncoder
from edge_server.training.own_data import OwnSplit, spoken
from edge_server.training.recorded import ENCODER_BATCH, AskedSplit, media_of, media_spec
from edge_server.training.soundstage import SoundstageSplit

#: Entries of a folder that an error names.
_NAMED = 8


class Clips(Protocol):
    """Clips that encoders can look at: the part of a training split that asking needs."""

    def encode(self, link: Link, slot: str, begin: int, end: int) -> Tensor:
        """Encoder tokens of clips begin to end - 1, [B, P, D]; anything where a clip lacks the slot."""

    def has(self, clip: int, slot: str) -> bool:
        """Whether a clip has something for a slot."""


@dataclass(frozen=True)
class StageAsMedia:
    """Soundstage's clips as any others, for encoders with preprocessing of their own. Implements Clips."""

    split: Split

    def encode(self, link: Link, slot: str, begin: int, end: int) -> Tensor:
        """Encoder tokens of clips begin to end - 1, [B, P, D]."""
        encoder: Any = link.encoder(slot)
        if slot == "visual":
            media = [torch.from_numpy(frames.copy()) for frames in self.split.frames[begin:end]]
        else:
            media = [torch.from_numpy(pcm / np.float32(32768)) for pcm in self.split.pcm[begin:end]]
        return torch.as_tensor(encoder(torch.stack([encoder.front_end(each) for each in media])))

    def has(self, clip: int, slot: str) -> bool:
        """Always."""
        return True


@dataclass(frozen=True)
class HeldOut:
    """Questions that a model has not seen, and what answers to them are measured by.

    Attributes:
        clips: what the questions are about.
        questions: ``clip`` counts ``clips``.
        captions: of every clip; None where nobody wrote any: then there is no text oracle.
        encoder_batch: clips that go through an encoder at once.
    """

    clips: Clips
    questions: tuple[QuestionRow, ...]
    captions: tuple[Caption, ...] | None = None
    encoder_batch: int = 64

    @classmethod
    def of_soundstage(cls, split: Split) -> HeldOut:
        """A Soundstage split's own questions."""
        return cls(SoundstageSplit(split), split.questions, split.captions)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation asks, and what it counts the blind prior on.

    Attributes:
        asked: the questions.
        prior: questions of the split that the blind prior is counted on.
        prior_split: that split.
        reports: rows of recorded data that were left out; none of generated data.
    """

    asked: HeldOut
    prior: tuple[QuestionRow, ...]
    prior_split: SplitName
    reports: tuple[RowReport, ...] = field(default=())


def open_data(
    data: Path,
    split: SplitName,
    link: Link,
    threads: int,
    advance: Callable[[int, int], None],
    videos: Videos = "all",
) -> Evaluation:
    """Open whichever data set a folder holds.

    Args:
        data: its folder.
        split: which one to ask about.
        link: the model that will be asked; says what of recorded media is read.
        threads: recorded clips that are decoded at once.
        advance: called with how many recorded clips were looked at since the last call, and of how many.
        videos: of MUSIC-AVQA: which are asked about.

    Raises:
        DatasetError: the folder holds neither data set, both, or one that cannot be read, has too many bad
            rows, or is not for a model of this kind.
    """
    recorded = (data / music_avqa.FOLDER).is_dir()
    generated = (data / split / "split.json").is_file()
    own = has_questions(data)
    if recorded + generated + own != 1:
        raise DatasetError(
            f"{data}: holds {_contents(data)}; needed is one of {FILE}, {music_avqa.FOLDER}/ in its authors' "
            f"layout and a finished split of Soundstage in {split}/ (edge-server dataset soundstage --out "
            f"{data} --split {split})"
        )
    if own:
        return _own(data, split, link, threads)
    if recorded:
        return _recorded(data / music_avqa.FOLDER, split, link, threads, advance, videos)
    if isinstance(link.encoder("visual"), LiteEncoder):
        asked = load_split(data, split)
        held_out = HeldOut(StageAsMedia(asked), asked.questions)
        return Evaluation(held_out, load_split(data, "val").questions, "val")
    if not isinstance(link.encoder("visual"), VisualEncoder):
        raise DatasetError(
            f"{data / split}: Soundstage's frames are made for encoders that are trained here, and "
            f"{link.config.name} has published ones; a folder of {music_avqa.FOLDER}/ is needed"
        )
    return Evaluation(
        HeldOut.of_soundstage(load_split(data, split)), load_split(data, "val").questions, "val"
    )


def _recorded(
    folder: Path,
    split: SplitName,
    link: Link,
    threads: int,
    advance: Callable[[int, int], None],
    videos: Videos,
) -> Evaluation:
    media = media_of(link, folder)

    def look(media: MediaFolder, video_ids: Sequence[str]) -> Mapping[str, Fault]:
        return survey(media, video_ids, threads, lambda done: advance(done, len(video_ids)))

    prior_split = _other_split(folder, split, videos)
    # First, as it opens no clip: a wrong annotation shows at once.
    prior = load_music_avqa(media, prior_split, _words_alone, videos)
    loaded = load_music_avqa(media, split, look, videos)
    asked = HeldOut(AskedSplit.of(loaded, threads), loaded.questions, encoder_batch=ENCODER_BATCH)
    return Evaluation(asked, prior.questions, prior_split, (loaded.report, prior.report))


def _own(folder: Path, split: SplitName, link: Link, threads: int) -> Evaluation:
    media = OwnMedia(folder, media_spec(link))
    prior_split: SplitName = "val" if split == "train" else "train"
    prior = load_questions(media, prior_split, lambda media, clips: {})
    loaded = load_questions(media, split, partial(survey_own, threads=threads))
    clips = OwnSplit(loaded.media, loaded.clips, threads, loaded.questions)
    asked = HeldOut(clips, spoken(link, loaded.questions), encoder_batch=ENCODER_BATCH)
    reports = (loaded.report, prior.report)
    return Evaluation(asked, spoken(link, prior.questions), prior_split, reports)


def _words_alone(media: MediaFolder, video_ids: Sequence[str]) -> Mapping[str, Fault]:
    """A survey that opens nothing: a blind prior neither sees nor hears."""
    return {}


def _other_split(folder: Path, split: SplitName, videos: Videos) -> SplitName:
    """Val where there is one, train otherwise; never the split that is asked about."""
    if split == "train" or (split == "test" and has_split(folder, "val", videos)):
        return "val"
    return "train"


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return "nothing: there is no such folder"
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "") if names else "nothing"
