"""`edge-server study progressive`: what it asks, in which order, and where it goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer
from rich.progress import Progress

from edge_server.cell.allocation.surface_file import FILE as SURFACE
from edge_server.cell.allocation.surface_file import read_tables
from edge_server.data.soundstage.dataset import SplitName, load_split
from edge_server.engine.calibration import FILE as CALIBRATION
from edge_server.engine.calibration import Calibration, read_calibration
from edge_server.evaluation.accuracy import Evaluator
from edge_server.evaluation.held_out import HeldOut, open_data
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.study.progressive import compare, nested, sure, whom

PROGRESSIVE = "progressive"


def study_progressive(
    model: Path,
    data: Path,
    others: Mapping[str, Path],
    runs: Path,
    out: Path,
    *,
    quick: bool,
    keep_rounds: bool = False,
) -> Path:
    """Ask in rounds and at once; how sure is sure; ask by either rule; train nested tokens and others; JSON.

    Parts that an earlier call left stay, so that it can be cut and called again; of each the commit is told.

    Args:
        model: folder of the shipped model.
        data: Soundstage: its val and test split, and for training its train split.
        others: more test splits by name, for the calibration.
        runs: where parts and runs are kept.
        out: where ``progressive.json`` goes.
        quick: small, and nothing is trained.
        keep_rounds: the first part is what ``progressive.json`` has already, priced anew.
    """
    calibration = read_calibration(model / CALIBRATION)
    if calibration is None:
        raise typer.BadParameter(
            f"{model}: not calibrated; `edge-server evaluate MODEL --calibrate` does it", param_hint="--model"
        )
    scratch, path = runs / PROGRESSIVE, out / f"{PROGRESSIVE}.json"
    link = Link.load(model)
    with Progress() as bar:
        asks = _Asks(bar, link, model, data, calibration, quick)
        rounds = _before(path, link) if keep_rounds else _part(scratch / "rounds.json", asks.rounds)
        parts = {
            "calibration": _part(scratch / "calibration.json", lambda: asks.sure(others)),
            "asking": _part(scratch / "asking.json", asks.asking),
        }
    if not quick and (data / "train" / "split.json").exists():
        parts["nested"] = _part(
            scratch / "nested.json", lambda: nested.compare(model, data, runs, nested.Plan(), typer.echo)
        )
    commit = rounds.pop("commit")
    head = {"command": compare.COMMAND, "measures": compare.MEASURES, "commit": current_commit()}
    report = {**head, "model": link.config.name, "rounds_commit": commit, **rounds, **parts}
    _write(path, {**report, "promises": compare.kept(report)})
    return path


@dataclass(frozen=True)
class _Asks:
    """The parts that ask the shipped model."""

    bar: Progress
    link: Link
    model: Path
    data: Path
    calibration: Calibration
    quick: bool

    def rounds(self) -> dict[str, Any]:
        plan = compare.QUICK if self.quick else compare.Plan()
        validation, test = self._split("val", plan.questions), self._split("test", plan.questions)
        total = sum(compare.questions_asked(each, plan) for each in (validation, test))
        return compare.compare(validation, test, self.calibration, plan, self._advances("rounds", total))

    def sure(self, others: Mapping[str, Path]) -> dict[str, Any]:
        plan = sure.QUICK if self.quick else sure.Plan()
        splits = {
            sure.TEST: self._split("test", plan.questions),
            **{
                name: Evaluator(self.link, HeldOut.of_soundstage(load_split(folder, "test")), plan.questions)
                for name, folder in others.items()
            },
        }
        total = sum(sure.questions_asked(each, plan) for each in splits.values())
        return sure.compare(splits, self.calibration, plan, self._advances("how sure", total))

    def asking(self) -> dict[str, Any]:
        plan = whom.QUICK if self.quick else whom.Plan()
        validation, test = self._split("val", plan.questions), self._split("test", plan.questions)
        advance = self._advances(
            "whom to ask", sum(whom.questions_asked(each, plan) for each in (validation, test))
        )
        loss = read_tables(self.model / SURFACE) or {}
        rows = whom.compare(validation, test, self.calibration, loss, plan, advance)
        return {"ladder": list(whom.RUNGS), "plan": asdict(plan), "rows": rows}

    def _split(self, split: SplitName, questions: int) -> Evaluator:
        asked = open_data(self.data, split, self.link, 1, lambda done, total: None).asked
        return Evaluator(self.link, asked, questions)

    def _advances(self, what: str, total: int) -> Callable[[int], None]:
        task = self.bar.add_task(what, total=total)
        return lambda done: self.bar.advance(task, done)


def _before(path: Path, link: Link) -> dict[str, Any]:
    """The rounds of an earlier call, priced as they are now."""
    if not path.exists():
        raise typer.BadParameter(f"{path}: there are no rounds to keep", param_hint="--kept")
    found = json.loads(path.read_text())
    rounds = {key: found[key] for key in ("full", "may_lose", "lengths", "seeds", "questions", "points")}
    return {
        "commit": found.get("rounds_commit", found["commit"]),
        **compare.priced(rounds, compare.costs_of(link)),
    }


def _part(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What an earlier call left, or made and left."""
    if not path.exists():
        commit = current_commit()
        _write(path, {"commit": commit, **make()})
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _write(path: Path, found: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
