"""`edge-server study radio`: what it asks, in which order, and where it goes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from edge_server.data.soundstage.dataset import load_split
from edge_server.evaluation.accuracy import Evaluator
from edge_server.evaluation.held_out import HeldOut
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.study.radio import answers, bit_errors, report
from edge_server.study.radio.tuned import RADIOS, Tuning, tune

RADIO = "radio"
_MODELS = ("tdl_a", "tdl_c", "tdl_d")
_SNRS_DB = (0.0, 5.0, 10.0, 15.0)
_BLOCKS = 10_000


def study_radio(model: Path, data: Path, scratch: Path, out: Path, *, quick: bool, steps: int | None) -> Path:
    """Beside Sionna, then the shipped model over it, then trained with it; JSON. Parts that are there stay.

    Args:
        model: folder of the shipped model.
        data: Soundstage; its test split, and for training its train split.
        scratch: where parts and checkpoints are kept, so that it can be cut and called again.
        out: where ``radio.json`` goes.
        quick: small, and nothing is trained.
        steps: of training; None: as usual.
    """
    plan = answers.QUICK if quick else answers.Plan()
    tuning = Tuning() if steps is None else replace(Tuning(), steps=steps)
    link = Link.load(model)
    asked = HeldOut.of_soundstage(load_split(data, "test"))
    with Progress() as bar:
        found = {
            "bit_errors": _part(scratch / "bit_errors.json", lambda: _bit_errors(bar, quick)),
            "answers": _part(
                scratch / "answers.json",
                lambda: _ask(bar, link, asked, plan, [*answers.tapped(plan), *answers.spoiled(plan)]),
            ),
            "peaks": answers.peaks(Evaluator(link, asked, plan.questions)),
        }
    head = {"command": report.COMMAND, "measures": report.MEASURES, "commit": current_commit()}
    told = {**head, "model": link.config.name, "token_length": answers.FULL, "plan": asdict(plan), **found}
    gained: list[dict[str, Any]] = []
    if not quick:
        tuned = {}
        for radio in RADIOS:
            path = scratch / f"tuned-{tuning.steps}-{radio.replace(' ', '-')}.json"
            if not path.exists():
                trained = tune(model, data, scratch, radio, tuning)
                with Progress() as bar:
                    rows = _ask(bar, trained, asked, plan, list(answers.tapped(plan)))
                _write(path, rows)
            tuned[radio] = json.loads(path.read_text())
        gained = report.gains(tuned)
        told |= {"tuning": asdict(tuning), "tuned": tuned, "gains": gained}
    told["promises"] = report.kept(found["bit_errors"], gained)
    _write(out / f"{RADIO}.json", told)
    return out / f"{RADIO}.json"


def _part(path: Path, make: Any) -> Any:
    """What an earlier call left, or made and left."""
    if not path.exists():
        _write(path, make())
    return json.loads(path.read_text())


def _write(path: Path, found: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def _bit_errors(bar: Progress, quick: bool) -> Any:
    models, snrs_db = (_MODELS[:1], _SNRS_DB[:1]) if quick else (_MODELS, _SNRS_DB)
    speeds_kmh, blocks = ((3.0,), 40) if quick else ((3.0, 60.0), _BLOCKS)
    total = 2 * 2 * len(models) * len(speeds_kmh) * len(snrs_db) * blocks
    task = bar.add_task("bits", total=total)
    return bit_errors.compare(models, speeds_kmh, snrs_db, blocks, 1, lambda done: bar.advance(task, done))


def _ask(
    bar: Progress, link: Link, asked: HeldOut, plan: answers.Plan, settings: list[tuple[str, Any]]
) -> list[answers.Row]:
    evaluator = Evaluator(link, asked, plan.questions)
    task = bar.add_task("questions", total=len(evaluator.questions) * len(settings))
    return answers.ask(evaluator, settings, plan.seed, lambda done: bar.advance(task, done))
