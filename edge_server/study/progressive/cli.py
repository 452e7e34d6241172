"""`edge-server study progressive`: what it asks, in which order, and where it goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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
from edge_server.study.json_file import write_json
from edge_server.study.progressive import compare, nested, sure, whom

PROGRESSIVE = "progressive"


PARTS = ("rounds", "calibration", "asking", "nested")
"""Of the study, in order: what rounds save, how sure is sure, whom to ask for more, what nesting is worth."""


def study_progressive(
    model: Path,
    data: Path,
    others: Mapping[str, Path],
    runs: Path,
    out: Path,
    *,
    parts: Sequence[str] = PARTS,
    quick: bool = False,
) -> Path:
    """Make some parts; the others stay as an earlier call left them. Writes JSON, each part with its commit.

    Args:
        model: folder of the shipped model.
        data: Soundstage: its val and test split, and for training its train split.
        others: more test splits by name, for the calibration.
        runs: folder of runs, for training.
        out: where ``progressive.json`` is.
        parts: of :data:`PARTS`; none: what is there is priced and judged anew.
        quick: small.
    """
    calibration = read_calibration(model / CALIBRATION)
    if calibration is None:
        raise typer.BadParameter(
            f"{model}: not calibrated; `edge-server evaluate MODEL --calibrate` does it", param_hint="--model"
        )
    path = out / f"{PROGRESSIVE}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    link = Link.load(model)
    for part in parts:
        with Progress() as bar:
            asks = _Asks(bar, link, model, data, calibration, quick)
            commit = current_commit()
            match part:
                case "rounds":
                    found |= {"rounds_commit": commit, **asks.rounds()}
                case "calibration":
                    found["calibration"] = {"commit": commit, **asks.sure(others)}
                case "asking":
                    found["asking"] = {"commit": commit, **asks.asking()}
                case "nested":
                    plan = nested.QUICK if quick else nested.Plan()
                    made = nested.compare(model, data, runs, plan, bar.console.print)
                    found["nested"] = {"commit": commit, **made}
    if "points" not in found:
        raise typer.BadParameter(f"{path}: rounds were never asked", param_hint="--part")
    head = {"command": compare.COMMAND, "measures": compare.MEASURES, "commit": current_commit()}
    # What was asked before parts had commits of their own is of the commit that the file tells.
    found = {"rounds_commit": found.get("commit"), **found, **head, "model": link.config.name}
    found = compare.priced(found, compare.costs_of(link))
    write_json(path, {**found, "promises": compare.kept(found)})
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
