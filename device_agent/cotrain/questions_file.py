"""Questions with their right answers: media files and a JSON Lines file, on a device or at the edge.

DIR/questions.jsonl    {"media": "hall/0412.mp4", "question": "Is the door open?", "answer": "no"}
                       {"media": ["yard.jpg", "yard.ogg"], "question": "Who barks?", "answer": "the dog"}
    hall/0412.mp4 ...  whatever a device can decode
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

SplitName: TypeAlias = Literal["train", "val", "test"]

#: In the folder of clips.
FILE = "questions.jsonl"
#: Of ten clips that say no split, so many are for training, validation and test.
SHARES: Mapping[SplitName, int] = {"train": 8, "val": 1, "test": 1}

Name = Annotated[str, Field(min_length=1, max_length=400)]


class QuestionLine(BaseModel):
    """A line of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    media: Name | Annotated[list[Name], Field(min_length=1, max_length=2)]
    """A file, relative to the folder; or two of them, for eyes and ears."""
    question: str = Field(min_length=1, max_length=2000)
    """What is asked."""
    answer: str = Field(min_length=1, max_length=200)
    """What is right."""
    split: SplitName | None = None
    """What the clip is for; where no line says it, eight of ten clips train, drawn by their names."""
    start_s: float = Field(default=0.0, ge=0, le=1e7)
    """How far into the media the question looks [s]."""
    type: str = Field(default="question", min_length=1, max_length=40)
    """Kind of question, for accuracy by type."""

    @field_validator("media")
    @classmethod
    def _inside(cls, media: str | list[str]) -> str | list[str]:
        for name in [media] if isinstance(media, str) else media:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"{name!r}; a path inside the folder is needed")
        return media

    @property
    def files(self) -> tuple[str, ...]:
        """All media of the line."""
        return (self.media,) if isinstance(self.media, str) else tuple(self.media)


@dataclass(frozen=True)
class OwnClip:
    """What a question looks at.

    Attributes:
        files: relative to the folder.
        start_s: where in them [s].
    """

    files: tuple[str, ...]
    start_s: float

    @property
    def drawn(self) -> SplitName:
        """The split of a clip that says none: the same whatever other clips there are.

        The files alone draw it: windows of one recording look too much alike to test what others trained.
        """
        place = int.from_bytes(hashlib.sha256("\n".join(self.files).encode()).digest()[:8]) % 10
        for split, share in SHARES.items():
            place -= share
            if place < 0:
                return split
        raise AssertionError(SHARES)


def lines_of(text: str) -> Iterator[tuple[str, QuestionLine | str]]:
    """Each line that is not blank, by its number; where it is malformed, what is wrong with it."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name = f"line {number}"
        try:
            yield name, QuestionLine.model_validate(json.loads(line))
        except ValidationError as error:
            wrong = "; ".join(f"{''.join(map(str, e['loc'][:1]))}: {e['msg']}" for e in error.errors())
            yield name, wrong
        except (ValueError, RecursionError) as error:
            yield name, str(error)
