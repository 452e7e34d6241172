"""Questions about clips of one's own: a folder of media files and a JSON Lines file.

    DIR/questions.jsonl    {"media": "hall/0412.mp4", "question": "Is the door open?", "answer": "no"}
                           {"media": ["yard.jpg", "yard.ogg"], "question": "Who barks?", "answer": "the dog"}
        hall/0412.mp4 ...  whatever a device can decode

Files are read with the device's own decoder (:mod:`device_agent.media.loading`): what training sees is what a
device would take out of the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from device_agent.cotrain.questions_file import (
    FILE,
    OwnClip,
    QuestionLine,
    SplitName,
    lines_of,
)
from device_agent.errors import MediaError
from device_agent.media.clip import Clip, MediaSpec, join
from device_agent.media.limits import MediaLimits
from device_agent.media.loading import clip_from_file
from device_agent.written import written_text
from edge_server.data.annotations import QuestionRow
from edge_server.data.faults import Fault, RowReport
from edge_server.errors import DatasetError

#: First word of a question's type in reports; the second is the line's own.
OWN = "Own"


@dataclass(frozen=True)
class OwnMedia:
    """Reads clips of a folder.

    Attributes:
        folder: all files are inside.
        spec: rates and window.
        limits: what decoding one file may cost.
        seen: what each clip that was read has; a training that asks again need not decode it again.
    """

    folder: Path
    spec: MediaSpec = field(default_factory=MediaSpec)
    limits: MediaLimits = field(default_factory=MediaLimits)
    seen: dict[OwnClip, frozenset[str]] = field(default_factory=dict, compare=False, repr=False)

    def read(self, clip: OwnClip) -> Clip:
        """Frames and sound of a clip, as a device would send them.

        Raises:
            MediaError: a file is missing or cannot be read, or the two cannot go together.
        """
        parts = [
            clip_from_file(
                self.folder / name, field=name, spec=self.spec, limits=self.limits, start_s=clip.start_s
            )
            for name in clip.files
        ]
        whole = join(parts) if len(parts) > 1 else parts[0]
        self.seen[clip] = frozenset(whole.modalities)
        return whole

    def modalities(self, clip: OwnClip) -> frozenset[str]:
        """What a clip has, by its names on the wire; it is read only if it never was.

        Raises:
            MediaError: as for :meth:`read`.
        """
        if clip not in self.seen:
            self.read(clip)
        return self.seen[clip]

    def fault(self, clip: OwnClip) -> Fault | None:
        """What is wrong with a clip's files; reads all that training will read."""
        if not all((self.folder / name).is_file() for name in clip.files):
            return "missing media"
        try:
            self.read(clip)
        except MediaError:
            return "unreadable media"
        return None


OwnSurvey = Callable[[OwnMedia, Sequence[OwnClip]], Mapping[OwnClip, Fault]]
"""Says which clips cannot be used, and why."""


def survey(media: OwnMedia, clips: Sequence[OwnClip], threads: int = 1) -> dict[OwnClip, Fault]:
    """Read every file of some clips once; returns the faults of those that cannot be used."""
    with ThreadPoolExecutor(threads) as pool:
        faults = pool.map(media.fault, clips)
        return {clip: fault for clip, fault in zip(clips, faults, strict=True) if fault is not None}


@dataclass(frozen=True)
class OwnQuestions:
    """A split whose lines can all be used.

    Attributes:
        media: reads the clips.
        clips: what is asked about.
        questions: every question; ``clip`` indexes ``clips``.
        report: what was left out.
    """

    media: OwnMedia
    clips: tuple[OwnClip, ...]
    questions: tuple[QuestionRow, ...]
    report: RowReport


def load_questions(media: OwnMedia, split: SplitName, look: OwnSurvey = survey) -> OwnQuestions:
    """Read a split's questions and see to it that their clips can be read.

    Args:
        media: the folder.
        split: which questions.
        look: says which clips cannot be read.

    Raises:
        DatasetError: there is no file or no such split, a recording is in two splits, or more than 1 % of the
            lines are bad.
    """
    path = media.folder / FILE
    report = RowReport(f"{path} {split}")
    lines: list[tuple[str, QuestionLine, OwnClip]] = []
    for name, line in _lines(path, report):
        report.rows += 1
        if line is not None:
            lines.append((name, line, OwnClip(line.files, line.start_s)))
    report.stop_if_too_many()
    split_of = _splits(path, lines)
    chosen = [(name, line, clip) for name, line, clip in lines if split_of[clip.files] == split]
    if not chosen:
        counted = ", ".join(
            f"{sum(s == each for s in split_of.values())} {each}" for each in get_args(SplitName)
        )
        raise DatasetError(f"{path}: no line is of split {split!r}; clips by split: {counted}")
    report.rows = len(chosen) + report.bad_rows
    clips = list(dict.fromkeys(clip for _, _, clip in chosen))
    faults = look(media, clips)
    for name, _, clip in chosen:
        if clip in faults:
            report.add(faults[clip], name)
    report.stop_if_too_many()
    index = {clip: i for i, clip in enumerate(clip for clip in clips if clip not in faults)}
    questions = tuple(
        QuestionRow(index[clip], (OWN, line.type), line.question.casefold(), line.question, line.answer)
        for _, line, clip in chosen
        if clip in index
    )
    return OwnQuestions(media, tuple(index), questions, report)


def has_questions(folder: Path) -> bool:
    """Whether a folder holds clips of one's own."""
    return (folder / FILE).is_file()


def _lines(path: Path, report: RowReport) -> Iterator[tuple[str, QuestionLine | None]]:
    """Each line that is not blank, by its number; None where it is malformed, which the report gets."""
    try:
        text = written_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    for name, line in lines_of(text):
        if isinstance(line, str):
            report.add("malformed row", f"{name}: {line}")
        yield name, None if isinstance(line, str) else line


def _splits(
    path: Path, lines: Sequence[tuple[str, QuestionLine, OwnClip]]
) -> dict[tuple[str, ...], SplitName]:
    """Split of each recording."""
    said: dict[tuple[str, ...], tuple[str, SplitName]] = {}
    for name, line, clip in lines:
        if line.split is None:
            continue
        before, split = said.setdefault(clip.files, (name, line.split))
        if split != line.split:
            raise DatasetError(
                f"{path}: {before} puts {', '.join(clip.files)} into {split!r}, {name} into {line.split!r}; "
                "a model must not be tested on what it was trained on"
            )
    return {clip.files: said[clip.files][1] if clip.files in said else clip.drawn for _, _, clip in lines}
