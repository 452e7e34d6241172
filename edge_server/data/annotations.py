"""What is said and asked about clips, in the annotation formats of VALOR and MUSIC-AVQA.

Generated and recorded data sets share these; the generated ones are written with the real ones' keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class QuestionRow:
    """A question about a clip of a split.

    Attributes:
        clip: index of the clip.
        type: MUSIC-AVQA's type.
        template: the question before its placeholders are filled.
        text: the question as asked.
        answer: the truth.
    """

    clip: int
    type: tuple[str, str]
    template: str
    text: str
    answer: str


@dataclass(frozen=True)
class Caption:
    """A clip in words: all of it, what can be seen, what can be heard."""

    full: str
    picture: str
    sound: str


def questions_by_clip(questions: Sequence[QuestionRow], clips: int) -> tuple[tuple[QuestionRow, ...], ...]:
    """The questions of each of the first so many clips."""
    grouped: list[list[QuestionRow]] = [[] for _ in range(clips)]
    for question in questions:
        if question.clip < clips:
            grouped[question.clip].append(question)
    return tuple(map(tuple, grouped))


def fill(template: str, values: Sequence[str]) -> str:
    """Replace each ``<placeholder>``, in order, by its value.

    Raises:
        ValueError: there are not as many values as placeholders, or one has no end.
    """
    parts = template.split("<")
    if len(parts) - 1 != len(values):
        raise ValueError(
            f"templ_values: {len(values)} values for {len(parts) - 1} placeholders in {template!r}"
        )
    text = parts[0]
    for part, value in zip(parts[1:], values, strict=True):
        _, end, rest = part.partition(">")
        if not end:
            raise ValueError(f"question_content: a placeholder without an end in {template!r}")
        text += value + rest
    return text
