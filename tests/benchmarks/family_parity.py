"""Every family that can be split, beside its own class: 20 questions and three conversations, token by token.

    python -m tests.benchmarks.family_parity --out docs/results/family_parity.json

What tests/unit/edge_server/export/test_split.py asks of random checkpoints, counted. A family whose tower
needs a package that is not installed is left out, and named.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
import typer
from rich.console import Console
from rich.table import Table

from edge_server.export.split import SplitOptions, prepare_split
from edge_server.model.provenance import current_commit
from edge_server.runtime.split_runner import serve_split
from tests.tiny_families import TINY
from tests.unit.edge_server.export.test_split import (
    PROMPTS,
    TOKENS,
    asked,
    conversations,
    prompt_of,
    prompt_of_turns,
    said,
)

PROMISE = "Parity with generate() of every family, 20 prompts each, pictures and text mixed"


def compare(family: str, folder: Path) -> dict[str, Any]:
    """How many questions and conversations of a family are answered as its own class answers them."""
    torch.manual_seed(0)
    tiny = TINY[family](folder)
    prepared = prepare_split(tiny.folder, SplitOptions(picture=tiny.picture))
    model = serve_split(
        prepared.config, prepared.checkpoint.tokenizer.backend_tokenizer, prepared.language, "ab" * 32
    )
    questions = asked(tiny)
    prompts = [prompt_of(prepared, question, media) for question, media in questions]
    expected = [tiny.answer(question, media, TOKENS) for question, media in questions]
    same = sum(a == b for a, b in zip(said(model, prompts), expected, strict=True))
    turned = conversations(tiny)
    answers = said(model, [prompt_of_turns(prepared, turns) for turns in turned])
    of_turns = sum(a == tiny.conversation(turns, TOKENS) for a, turns in zip(answers, turned, strict=True))
    return {
        "family": family,
        "runner": prepared.config.runner,
        "same": same,
        "questions": PROMPTS,
        "same_conversations": of_turns,
        "conversations": len(turned),
    }


def main(out: Annotated[Path, typer.Option(help="Where the JSON goes.")]) -> None:
    """Ask all of them."""
    rows, left_out = [], []
    for family in sorted(TINY):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                rows.append(compare(family, Path(scratch)))
            except pytest.skip.Exception as missing:
                left_out.append(f"{family}: {missing.msg}")
    table = Table("family", "computed by", "same answers", "same in conversations")
    for row in rows:
        turned = f"{row['same_conversations']}/{row['conversations']}"
        table.add_row(row["family"], row["runner"], f"{row['same']}/{row['questions']}", turned)
    Console().print(table)
    met = all(row["same"] == row["questions"] for row in rows) and not left_out
    alike = sum(row["same"] for row in rows)
    measured = (
        f"{alike} of {sum(row['questions'] for row in rows)} answers, {len(rows)} of {len(TINY)} families"
    )
    result = {
        "command": "python -m tests.benchmarks.family_parity",
        "commit": current_commit(),
        "measures": ["edge_server/model/split", "edge_server/runtime/split_runner.py"],
        "rows": rows,
        "left_out": left_out,
        "promises": [{"what": PROMISE, "measured": measured, "met": met}],
    }
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
