"""A question that was answered wrong becomes an example: its media, its words, and what was right.

outbox ─▶ entry of a watched folder ─▶ DIR/NAME (a copy of the media) + a line of DIR/questions.jsonl
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from device_agent.cotrain.questions_file import FILE, QuestionLine
from device_agent.errors import ConfigurationError
from device_agent.outbox.records import Entry

_WATCHED = "watch "
"""The source of a question about a file of a watched folder begins with this; the folder follows."""


def entry_of(entries: Sequence[Entry], request_id: str) -> Entry:
    """The question that an id, or its first characters, names.

    Raises:
        ConfigurationError: none or several.
    """
    found = [each for each in entries if each.request_id.startswith(request_id)]
    exact = [each for each in found if each.request_id == request_id]
    if len(exact or found) != 1:
        known = "no question" if not found else f"{len(found)} questions"
        raise ConfigurationError(
            f"request_id: {known} of the outbox begin with {request_id!r}; `device-agent outbox list --all`"
        )
    return (exact or found)[0]


def correct(entry: Entry, answer: str, folder: Path, question: str | None = None) -> QuestionLine:
    """Add an example to a folder.

    Args:
        entry: of the outbox.
        answer: what is right.
        folder: of examples; made where there is none.
        question: its words, where the outbox does not know them.

    Raises:
        ConfigurationError: its media or its words are not known any more, or the folder cannot be written.
    """
    if not entry.source.startswith(_WATCHED):
        raise ConfigurationError(
            f"request_id: {entry.request_id} is not about a file of a watched folder; write the line into "
            f"{folder / FILE} yourself"
        )
    media = Path(entry.source.removeprefix(_WATCHED)) / entry.label
    if not media.is_file():
        raise ConfigurationError(f"request_id: {media}, which it was about, is gone")
    asked = question or str(entry.facts.get("question", ""))
    if not asked:
        raise ConfigurationError("question: the outbox does not know its words; say them with --question")
    window = entry.facts.get("window") or {}
    start_s = float(window.get("start_s") or 0.0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name = _kept(media, folder)
        line = QuestionLine(media=name, question=asked, answer=answer, start_s=start_s)
        told = line.model_dump(exclude_defaults=True)
        with (folder / FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(told, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigurationError(
            f"examples: {folder} cannot be written: {error.strerror or error}"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"answer: {error}") from error
    return line


def _kept(media: Path, folder: Path) -> str:
    """A copy of a file in a folder, by a name of its own; one that is there already stays."""
    stat = media.stat()
    name = f"{stat.st_mtime_ns:x}-{media.name}"
    target = folder / name
    if not target.is_file() or target.stat().st_size != stat.st_size:
        partial = target.with_name(f".{name}.{os.getpid()}")
        shutil.copyfile(media, partial)
        partial.replace(target)
    return name
