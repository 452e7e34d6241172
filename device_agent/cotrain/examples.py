"""Examples to learn from: clips of a folder with questions and right answers, as language token ids.

    DIR/questions.jsonl ─▶ lines that can be used ─▶ to learn from (train), held out (val, test)

What cannot be read is left out and said; held-out clips are never learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from device_agent.cotrain.questions_file import FILE, OwnClip, QuestionLine, lines_of
from device_agent.errors import ConfigurationError
from device_agent.written import written_text

MAX_ANSWER_TOKENS = 64
"""Language tokens of an answer that is learned."""


@dataclass(frozen=True)
class Asked:
    """A question with its answer, as language token ids."""

    question: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class LabelledClip:
    """A clip with questions about it; they do not see one another."""

    clip: OwnClip
    asked: tuple[Asked, ...]


@dataclass(frozen=True)
class Examples:
    """What a device brings.

    Attributes:
        train: to learn from.
        held_out: to examine with.
        left_out: lines that cannot be used, with the reason.
    """

    train: tuple[LabelledClip, ...]
    held_out: tuple[LabelledClip, ...]
    left_out: tuple[str, ...] = ()


def read_examples(folder: Path, tokenize: Callable[[str], list[int]]) -> Examples:
    """Read a folder's questions.

    Args:
        folder: of media files and a ``questions.jsonl``.
        tokenize: of the bundle.

    Raises:
        ConfigurationError: there is no such file, or nothing in it to learn from or to hold out.
    """
    path = folder / FILE
    try:
        text = written_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"examples: {path} cannot be read: {error}") from error
    left_out: list[str] = []
    of_clip: dict[OwnClip, list[Asked]] = {}
    held: dict[tuple[str, ...], bool] = {}
    for name, line in lines_of(text):
        wrong = line if isinstance(line, str) else _unusable(folder, line, tokenize)
        if wrong or isinstance(line, str):
            left_out.append(f"{name}: {wrong}")
            continue
        clip = OwnClip(line.files, line.start_s)
        kept = (line.split or clip.drawn) != "train"
        if held.setdefault(clip.files, kept) != kept:
            raise ConfigurationError(
                f"examples: {path}: {name} holds {', '.join(clip.files)} out, a line before learns from it"
            )
        asked = Asked(tuple(tokenize(line.question)), tuple(tokenize(line.answer)))
        of_clip.setdefault(clip, []).append(asked)
    clips = [LabelledClip(clip, tuple(asked)) for clip, asked in of_clip.items()]
    examples = Examples(
        tuple(each for each in clips if not held[each.clip.files]),
        tuple(each for each in clips if held[each.clip.files]),
        tuple(left_out),
    )
    for part, found in (("to learn from", examples.train), ("held out", examples.held_out)):
        if not found:
            hint = f"; {left_out[0]}" if left_out else ""
            raise ConfigurationError(
                f"examples: {path} has no clip {part} (split train learns, val and test are held out){hint}"
            )
    return examples


def _unusable(folder: Path, line: QuestionLine, tokenize: Callable[[str], Sequence[int]]) -> str:
    """Why a line cannot be used; empty where it can."""
    missing = [name for name in line.files if not (folder / name).is_file()]
    if missing:
        return f"media: {missing[0]} is not there"
    if not 1 <= len(tokenize(line.answer)) <= MAX_ANSWER_TOKENS:
        return f"answer: is not 1 to {MAX_ANSWER_TOKENS} language tokens"
    if not tokenize(line.question):
        return "question: has no language tokens"
    return ""
