"""Plain questions, which the foundation is to answer as it did before: its own answers are its lessons."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from edge_server.engine.ports import Prompt
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.runtime.model_runner import ServedLink

_LONGEST = 28


def plain_questions() -> list[str]:
    """Questions without a picture, of many subjects."""
    text = files(__package__).joinpath("plain_questions.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line]


def own_answers(link: Link, path: Path) -> list[tuple[str, list[int]]]:
    """What the foundation says to each, as language tokens, or what an earlier run kept of it."""
    if not path.exists():
        questions = plain_questions()
        said = _answers(ServedLink(link, bundle_hash=""), questions)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(list(zip(questions, said, strict=True))) + "\n")
    return [(question, ids) for question, ids in json.loads(path.read_text())]


def _answers(served: ServedLink, questions: list[str]) -> list[list[int]]:
    """Greedy answers of at most so many language tokens; what ended has its last one."""
    tokenizer = served.link.tokenizer
    state, steps = served.prefill([Prompt((), tuple(tk.encode(tokenizer, each))) for each in questions])
    said = [[step.token_id] for step in steps]
    for _ in range(_LONGEST - 1):
        state, steps = served.decode(state)
        for ids, step in zip(said, steps, strict=True):
            if ids[-1] != served.eos_id:
                ids.append(step.token_id)
    return said
