"""``edge-server study cotrain``: all rows or some, into docs/results/cotrain.json, with plot and page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edge_server.errors import ConfigurationError
from edge_server.model.provenance import current_commit
from edge_server.study.cotrain.compare import CHANNEL, QUICK, ROWS, TOKEN_LENGTH, Comparison, Scale
from edge_server.study.plots import cotrain as cotrain_plot
from edge_server.study.plots.style import save
from edge_server.study.report.cotrain_kept import kept
from edge_server.study.report.page import write_page

NAME = "cotrain"
COMMAND = "edge-server study cotrain"
MEASURES = ("edge_server/cotrain", "device_agent/cotrain", "edge_server/study/cotrain")
"""Code whose change makes results old."""


def scale_of(*, quick: bool, seeds: int | None, steps: int | None, clips: int | None) -> Scale:
    """How large a study is; what is None is as usual."""
    scale = QUICK if quick else Scale()
    if seeds is not None:
        scale = replace(scale, seeds=tuple(range(1, seeds + 1)))
    if steps is not None:
        scale = replace(scale, rounds=steps)
    if clips is not None:
        scale = replace(scale, clips=clips, test_clips=clips)
    return scale


def study_cotrain(
    model: Path,
    data: Path,
    scratch: Path,
    out: Path,
    scale: Scale,
    *,
    rows: Sequence[str],
    told: Callable[[str], None],
    only_kept: bool = False,
) -> Path:
    """Run rows and write what came out; rows of an earlier call stay, unless they are asked for again.

    All rows are made with one seed, then with two, and so on: one that is cut has something of every row.
    Those that are named come one after the other, with all seeds.

    Raises:
        ConfigurationError: there is no such row.
        DatasetError: the data set has too few clips.
    """
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise ConfigurationError(f"row: {unknown[0]!r}; allowed: {', '.join(ROWS)}")
    path = out / f"{NAME}.json"
    report: dict[str, Any] = json.loads(path.read_text()) if path.exists() and rows else {}
    out.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(model, data, scratch, scale, told, only_kept=only_kept)
    report |= {
        "command": COMMAND,
        "measures": list(MEASURES),
        "commit": current_commit(),
        "model": model.name,
        "channel": asdict(CHANNEL),
        "token_length": TOKEN_LENGTH,
    }
    most = len(scale.seeds)
    for seeds in range(most if rows and not only_kept else 1, most + 1):
        smaller = replace(scale, seeds=scale.seeds[:seeds])
        for row in rows or ROWS:
            told(f"row {row}, {seeds} of {len(scale.seeds)} seeds")
            try:
                found = comparison.row(row, smaller.seeds)
            except LookupError as missing:
                told(f"row {row} left out, there is no record: {missing.args[0]}")
                continue
            # A row is as old as what it was made of.
            commit = next(commits_in(found), current_commit())
            made = {"commit": commit, "scale": _scale(smaller), **found}
            report.setdefault("rows", {})[row] = made
            path.write_text(json.dumps({**report, "promises": kept(report["rows"])}, indent=1) + "\n")
    save(cotrain_plot.draw(report), out / f"{NAME}.png")
    write_page(out)
    return path


def commits_in(found: Any) -> Iterator[str]:
    """Commits of the co-trainings in a row."""
    if isinstance(found, dict):
        if isinstance(found.get("commit"), str):
            yield found["commit"]
        for each in found.values():
            yield from commits_in(each)
    elif isinstance(found, list):
        for each in found:
            yield from commits_in(each)


def _scale(scale: Scale) -> dict[str, Any]:
    return {**asdict(scale), "seeds": list(scale.seeds)}
