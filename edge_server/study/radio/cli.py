"""`edge-server study radio`: what it asks, in which order, and where it goes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import Progress

from device_agent.channel import ChannelConfig, SnrPer
from edge_server.data.soundstage.dataset import load_split
from edge_server.evaluation.accuracy import Evaluator
from edge_server.evaluation.held_out import HeldOut
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.study.json_file import write_json
from edge_server.study.radio import answers, bit_errors, report, told
from edge_server.study.radio.tuned import RADIOS, Tuning, tune

RADIO = "radio"
_MODELS = ("tdl_a", "tdl_c", "tdl_d")
_SNRS_DB = (0.0, 5.0, 10.0, 15.0)
_BLOCKS = 10_000


PARTS = ("bit_errors", "answers", "told", "tuned")
"""Of the study, in order: beside Sionna, what spoils a link, what the receiver is told, trained with it."""


def study_radio(
    model: Path,
    data: Path,
    scratch: Path,
    out: Path,
    *,
    parts: Sequence[str] = PARTS,
    quick: bool = False,
    steps: int | None = None,
) -> Path:
    """Make some parts; the others stay as an earlier call left them. Writes JSON, each part with its commit.

    Args:
        model: folder of the shipped model.
        data: Soundstage; its test split, and for training its train and val split.
        scratch: where answers and checkpoints are kept, so that it can be cut and called again.
        out: where ``radio.json`` is.
        parts: of :data:`PARTS`.
        quick: small, and nothing is trained.
        steps: of training; None: as usual.
    """
    path = out / f"{RADIO}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    # What was measured before parts had commits of their own is of the commit that the file tells.
    commits = found.get("commits") or {part: found["commit"] for part in PARTS if part in found}
    plan = answers.QUICK if quick else answers.Plan()
    asks = _Asks(Link.load(model), model, data, scratch, plan, quick)
    for part in parts:
        match part:
            case "bit_errors":
                with Progress() as bar:
                    found[part] = _part(scratch / "bit_errors.json", lambda: _bit_errors(bar, quick))
            case "answers":
                found |= asks.over_channels()
            case "told":
                found[part] = asks.told(_tuned(told.Tuning(), steps))
            case "tuned" if not quick:
                found |= asks.tuned(_tuned(Tuning(), steps))
        commits[part] = current_commit()
    head = {"command": report.COMMAND, "measures": report.MEASURES, "commit": current_commit()}
    about = {"commits": commits, "model": asks.link.config.name, "token_length": answers.FULL}
    made = {**found, **head, **about, "plan": asdict(plan)}
    write_json(path, {**made, "promises": report.kept(made)})
    return path


_Steps = TypeVar("_Steps", Tuning, told.Tuning)


def _tuned(tuning: _Steps, steps: int | None) -> _Steps:
    return tuning if steps is None else replace(tuning, steps=steps)


@dataclass(frozen=True)
class _Asks:
    """The parts that ask a model."""

    link: Link
    model: Path
    data: Path
    scratch: Path
    plan: answers.Plan
    quick: bool

    def over_channels(self) -> dict[str, Any]:
        """The shipped model over what spoils a link."""
        settings = [*answers.tapped(self.plan), *answers.spoiled(self.plan)]
        rows = _part(self.scratch / "answers.json", lambda: self._ask(self.link, settings))
        return {"answers": rows, "peaks": answers.peaks(self._evaluator(self.link, self.plan.questions))}

    def told(self, tuning: told.Tuning) -> dict[str, Any]:
        """The shipped model told in both ways, and receivers that learned to be."""
        shipped = {way: self._told(f"told-shipped-{way}", way, self.link) for way in told.WAYS}
        gained, spread_db = told.gained(*shipped.values()), told.spread_db(self.plan)
        found: dict[str, Any] = {"shipped": shipped, "gained": gained, "spread_db": spread_db}
        if not self.quick:
            tried, best = told.train(self.model, self.data, self.scratch, self.plan, tuning, print)
            learned = {way: self._told(f"told-{tuning.steps}-{way}", way, best[way]) for way in told.WAYS}
            found |= {**tried, "learned": learned, "learned_gained": told.gained(*learned.values())}
        return found

    def tuned(self, tuning: Tuning) -> dict[str, Any]:
        """Stage 2 once more, with delay lines and without."""
        found = {}
        for radio in RADIOS:
            path = self.scratch / f"tuned-{tuning.steps}-{radio.replace(' ', '-')}.json"
            if not path.exists():
                trained = tune(self.model, self.data, self.scratch, radio, tuning)
                write_json(path, self._ask(trained, list(answers.tapped(self.plan))))
            found[radio] = json.loads(path.read_text())
        return {"tuning": asdict(tuning), "tuned": found, "gains": report.gains(found)}

    def _told(self, name: str, way: SnrPer, link: Link) -> Any:
        evaluator = self._evaluator(link, self.plan.told_questions)
        # Each setting is kept by itself: there are many, and a call may be cut.
        found = []
        for number, setting in enumerate(answers.told(self.plan, way)):
            ask = partial(self._asked, evaluator, [setting])
            found += _part(self.scratch / f"{name}-{number}.json", ask)
        return found

    def _evaluator(self, link: Link, questions: int) -> Evaluator:
        return Evaluator(link, HeldOut.of_soundstage(load_split(self.data, "test")), questions)

    def _ask(self, link: Link, settings: Sequence[tuple[str, ChannelConfig]]) -> list[answers.Row]:
        return self._asked(self._evaluator(link, self.plan.questions), settings)

    def _asked(
        self, evaluator: Evaluator, settings: Sequence[tuple[str, ChannelConfig]]
    ) -> list[answers.Row]:
        with Progress() as bar:
            task = bar.add_task("questions", total=len(evaluator.questions) * len(settings))
            return answers.ask(evaluator, settings, self.plan.seed, lambda done: bar.advance(task, done))


def _part(path: Path, make: Any) -> Any:
    """What an earlier call left, or made and left."""
    if not path.exists():
        write_json(path, make())
    return json.loads(path.read_text())


def _bit_errors(bar: Progress, quick: bool) -> Any:
    models, snrs_db = (_MODELS[:1], _SNRS_DB[:1]) if quick else (_MODELS, _SNRS_DB)
    speeds_kmh, blocks = ((3.0,), 40) if quick else ((3.0, 60.0), _BLOCKS)
    total = 2 * 2 * len(models) * len(speeds_kmh) * len(snrs_db) * blocks
    task = bar.add_task("bits", total=total)
    return bit_errors.compare(models, speeds_kmh, snrs_db, blocks, 1, lambda done: bar.advance(task, done))
