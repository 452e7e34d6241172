"""`edge-server study progressive`: what it asks, in which order, and where it goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.progress import Progress

from edge_server.cell.allocation.surface_file import FILE as SURFACE
from edge_server.cell.allocation.surface_file import read_tables
from edge_server.data.soundstage.dataset import load_split
from edge_server.engine.calibration import FILE as CALIBRATION
from edge_server.engine.calibration import Calibration, read_calibration
from edge_server.evaluation.accuracy import Evaluator
from edge_server.evaluation.held_out import HeldOut, open_data
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.study.progressive import compare, nested, whom

PROGRESSIVE = "progressive"


def study_progressive(
    model: Path, data: Path, others: Mapping[str, Path], runs: Path, out: Path, *, quick: bool
) -> Path:
    """Ask in rounds and at once, ask by either rule, train with nested tokens and without; JSON.

    Parts that an earlier call left stay, so that it can be cut and called again.

    Args:
        model: folder of the shipped model.
        data: Soundstage, all splits.
        others: more test splits by name, for the calibration.
        runs: where parts and runs are kept.
        out: where ``progressive.json`` goes.
        quick: small, and nothing is trained.
    """
    calibration = read_calibration(model / CALIBRATION)
    if calibration is None:
        raise typer.BadParameter(
            f"{model}: not calibrated; `edge-server evaluate MODEL --calibrate` does it", param_hint="--model"
        )
    scratch = runs / PROGRESSIVE
    link = Link.load(model)
    with Progress() as bar:
        found = _part(scratch / "rounds.json", lambda: _rounds(bar, link, data, others, calibration, quick))
        found["asking"] = _part(
            scratch / "asking.json", lambda: _asking(bar, link, model, data, calibration, quick)
        )
    if not quick:
        found["nested"] = _part(
            scratch / "nested.json", lambda: nested.compare(model, data, runs, nested.Plan(), typer.echo)
        )
    head = {"command": compare.COMMAND, "measures": compare.MEASURES, "commit": current_commit()}
    report = {**head, "model": link.config.name, **found, "promises": compare.kept(found)}
    path = out / f"{PROGRESSIVE}.json"
    _write(path, report)
    return path


def _rounds(
    bar: Progress, link: Link, data: Path, others: Mapping[str, Path], calibration: Calibration, quick: bool
) -> dict[str, Any]:
    plan = compare.QUICK if quick else compare.Plan()
    validation, test = _splits(link, data, plan.questions)
    more = {
        name: Evaluator(link, HeldOut.of_soundstage(load_split(folder, "test")), plan.questions)
        for name, folder in others.items()
    }
    total = sum(compare.questions_asked(each, plan) for each in (validation, test, *more.values()))
    return compare.compare(validation, test, calibration, plan, _advances(bar, "rounds", total), more)


def _asking(
    bar: Progress, link: Link, model: Path, data: Path, calibration: Calibration, quick: bool
) -> dict[str, Any]:
    plan = whom.QUICK if quick else whom.Plan()
    validation, test = _splits(link, data, plan.questions)
    total = sum(whom.questions_asked(each, plan) for each in (validation, test))
    advance = _advances(bar, "whom to ask", total)
    rows = whom.compare(validation, test, calibration, read_tables(model / SURFACE) or {}, plan, advance)
    return {"ladder": list(whom.RUNGS), "plan": asdict(plan), "rows": rows}


def _splits(link: Link, data: Path, questions: int) -> tuple[Evaluator, Evaluator]:
    validation, test = (
        Evaluator(link, open_data(data, split, link, 1, lambda done, total: None).asked, questions)
        for split in ("val", "test")
    )
    return validation, test


def _advances(bar: Progress, what: str, total: int) -> Callable[[int], None]:
    task = bar.add_task(what, total=total)
    return lambda done: bar.advance(task, done)


def _part(path: Path, make: Callable[[], Any]) -> Any:
    """What an earlier call left, or made and left."""
    if not path.exists():
        _write(path, make())
    return json.loads(path.read_text())


def _write(path: Path, found: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
