"""A study: which systems are compared, with which seeds, and where each is evaluated.

:mod:`edge_server.study.run` trains and asks. What is found goes into a record of each system and
seed, a small folder beside the results: the figures read records alone, and a study goes on from them on a
machine that has none of the trained weights.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from device_agent.channel import ChannelConfig
from edge_server.evaluation.accuracy import Setting
from edge_server.model.config import TOKEN_LENGTHS
from edge_server.model.modality import SLOTS
from edge_server.study.digital.coding import Effort
from edge_server.training.recipes import Recipe
from edge_server.training.registry import BASES
from edge_server.training.run import Run
from edge_server.training.systems import (
    CHANNEL_DIMS,
    FIXED_LENGTHS,
    LADDER,
    TEMPERATURES,
    Budget,
    compared_systems,
    fixed_length,
    of_temperature,
    of_width,
)
from protos.names import ChannelName, FadingName

#: What figure A compares among trained systems.
MAIN = ("two-stage", "no-alignment", "authors", "two-stage-long", "no-alignment-long")
#: What promises are measured by.
PROMISED = (*MAIN[:3], fixed_length(4), fixed_length(16), *MAIN[3:])
#: Figure B: how fast systems learn.
CONVERGENCE = (*MAIN, *map(of_temperature, TEMPERATURES), *map(fixed_length, FIXED_LENGTHS))
#: Channels of figure A: model and fading.
CHANNELS: tuple[tuple[ChannelName, FadingName], ...] = (
    ("awgn", "block"),
    ("rayleigh", "block"),
    ("rayleigh", "fast"),
)
#: SNRs of figure A [dB].
SNRS_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
#: The digital baselines: media over a real code, media over an ideal one, quantised tokens over the real one.
DIGITAL, DIGITAL_CAPACITY, QUANTISED = BASELINES = ("digital", "digital-capacity", "quantised")
#: Where a setting's answers are kept, in a record.
ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class Study:
    """What is trained and how closely it is evaluated."""

    name: str
    """Name of the study."""
    base: str
    """Recipe whose pretraining all systems share."""
    budget: Budget = field(default_factory=Budget)
    """What each system may spend."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Training seeds."""
    test_clips: int = 300
    """Clips of the test split that are asked about."""
    val_clips: int = 100
    """Clips of the validation split that are asked about between rounds."""
    examined_rounds: tuple[int, ...] = (
        *range(0, 50, 10),
        *range(60, 100, 20),
        *range(100, 300, 50),
        *range(300, 600, 100),
        *range(600, 1200, 200),
        *range(1200, 3001, 300),
    )
    """After which rounds systems of figure B are evaluated; the last always is."""

    code_effort: Effort = field(default_factory=Effort)
    """How long block error rates of the digital baselines' codes are simulated."""
    movies: int = 60
    """Test clips that figure E sends as MP4 files."""

    @property
    def systems(self) -> dict[str, Recipe]:
        """The compared systems by name."""
        return compared_systems(BASES[self.base](), self.budget)

    def tasks(self) -> list[Task]:
        """What is to be trained and evaluated.

        First what promises are measured by, system by system; then the others, seed by seed, so that a study
        that is cut has something of everything.
        """
        others = [system for system in self.systems if system not in PROMISED]
        first = [Task(self.name, system, seed) for system in PROMISED for seed in self.seeds]
        return first + [Task(self.name, system, seed) for seed in self.seeds for system in others]


STUDIES = {
    "full": Study("full", "soundstage-small"),
    "quick": Study(
        "quick",
        "smoke",
        Budget(alignment_steps=2, rounds=3, long_rounds=4, clips=3, questions=2, token_length=4),
        seeds=(1,),
        test_clips=6,
        val_clips=4,
        examined_rounds=(0, 2),
        code_effort=Effort(blocks=4, errors=2, batch=4, iterations=4, step_db=4.0),
        movies=2,
    ),
}


@dataclass(frozen=True)
class Task:
    """A system with a seed."""

    study: str
    """Name of the study."""
    system: str
    """Name of the system."""
    seed: int
    """Training seed."""

    def run(self, runs: Path, data: Path) -> Run:
        """Its training run."""
        recipe = STUDIES[self.study].systems[self.system]
        return Run.among(runs, recipe, self.seed, data, jobs=1)

    def record(self, records: Path) -> Path:
        """Folder of what was found."""
        return records / f"{self.system}-seed-{self.seed}"


def settings_of(system: str, budget: Budget) -> list[Setting]:
    """Where a trained system is evaluated."""
    usual = budget.token_length
    found: dict[Setting, None] = {}

    def add(lengths: Sequence[int], snrs_db: Sequence[float], channels: Any = CHANNELS[:1]) -> None:
        for token_length in lengths:
            for model, fading in channels:
                for snr_db in snrs_db:
                    config = ChannelConfig(model=model, fading=fading, snr_db=snr_db)
                    found[Setting(config, token_length)] = None

    if system in MAIN:
        add([usual], SNRS_DB, CHANNELS)
        add([usual], [10.0], [("none", "block")])
    elif system in LADDER or system in {*map(of_temperature, TEMPERATURES), "captioning"}:
        add([usual], SNRS_DB)
    if system in {*map(of_width, CHANNEL_DIMS), "two-stage-linspace", "two-stage-queries"}:
        add(TOKEN_LENGTHS, [10.0, 0.0])
    if system in ("two-stage", "no-alignment"):
        add([4], SNRS_DB)
    for token_length in FIXED_LENGTHS:
        if system == fixed_length(token_length):
            add([token_length], [10.0])
    return list(found)


def key_of(setting: Setting) -> dict[str, Any]:
    """A setting as JSON, to be found again by."""
    channel = setting.channel
    return {
        "channel": channel.model,
        "fading": channel.fading,
        "snr_db": channel.snr_db,
        "token_length": setting.token_length,
        "seed": setting.seed,
    }


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a JSON-lines file; none where it is missing. A last line that was cut is left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def answered(record: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What a system has answered: the setting, as :func:`key_of` has it, and the score of each line."""
    lines = read_lines(record / ANSWERS)
    return [({k: v for k, v in line.items() if k != "score"}, line["score"]) for line in lines]


def missing_settings(task: Task, records: Path) -> list[Setting]:
    """Where a task's system has yet to be evaluated."""
    known = [key for key, _ in answered(task.record(records))]
    budget = STUDIES[task.study].budget
    return [setting for setting in settings_of(task.system, budget) if key_of(setting) not in known]


def channel_uses(token_length: int, channel_dim: int) -> int:
    """Complex symbols of a question: a codeword of each slot."""
    return len(SLOTS) * token_length * channel_dim // 2


def results(study: Study, records: Path) -> Iterator[dict[str, Any]]:
    """Everything that was answered: a line per system, seed and setting."""
    for task in study.tasks():
        wanted = [key_of(s) for s in settings_of(task.system, study.budget)]
        for key, score in answered(task.record(records)):
            if key in wanted:
                yield {"system": task.system, "training_seed": task.seed, **key, "score": score}


def coverage(study: Study, records: Path) -> dict[str, Any]:
    """How far a study is: per system, the training seeds that have answered everything."""
    complete: dict[str, list[int]] = {system: [] for system in study.systems}
    for task in study.tasks():
        if not missing_settings(task, records):
            complete[task.system].append(task.seed)
    return {"seeds": list(study.seeds), "complete": complete}


def budget_json(study: Study) -> dict[str, Any]:
    """What a study's systems could spend, for the head of a result."""
    return {
        "study": study.name,
        "seeds": list(study.seeds),
        "test_clips": study.test_clips,
        **asdict(study.budget),
    }
