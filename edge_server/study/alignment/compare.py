"""The comparison: cost of a step, rates, then every system and seed at the same processor time.

    costs.json           of a step of each stage of each system, measured first: steps follow from the budget
    tuning.json          every trial of a rate
    reading.json         what the foundation learned to read, and how well it does
    ARM-seed-N.json      a trained system: what it was given, what it cost, what it answered

All of it is kept: a comparison goes on where it was cut, on a machine that has none of the weights too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.study.alignment.arms import ARMS, Arm
from edge_server.study.alignment.plan import Plan
from edge_server.study.alignment.trial import Asked, Told, Trained, Trials
from edge_server.study.alignment.tuning import Tuned, tune
from edge_server.study.alignment.world import World, reading_told
from edge_server.study.json_file import write_json
from edge_server.study.study import read_lines
from edge_server.training.loop import EXAMINED, Examine

COSTS, TUNING, READING = "costs.json", "tuning.json", "reading.json"
Say = Callable[[str], None]


def compare(world: World, plan: Plan, scratch: Path, records: Path, only: Sequence[str], say: Say) -> None:
    """Everything that is not kept yet.

    Args:
        world: what all systems share.
        plan: how much.
        scratch: checkpoints.
        records: folder of what was found.
        only: these systems; all where empty.
        say: told what was done.
    """
    records.mkdir(parents=True, exist_ok=True)
    trials, asked = Trials(world, plan, scratch), Asked(world, plan)
    if not (records / READING).exists():
        write_json(records / READING, reading_told(world, plan))
    arms = [arm for arm in ARMS.values() if not only or arm.name in only]
    steps = {arm.name: _steps(arm, trials, records) for arm in arms}
    tuned: dict[str, Tuned] = {}
    for arm in arms:
        first, second = (max(2, round(plan.tuning_share * n)) if n else 0 for n in steps[arm.name])
        told = Told(first, None, second, 0.0, plan.tuning_seed)
        tuned[arm.name], rows = tune(arm, told, trials, asked, records / TUNING)
        best = max(row["val_accuracy"] for row in rows if "val_accuracy" in row)
        say(f"{arm.name}: {tuned[arm.name]}, validation {best:.3f}")
    for seed in plan.seeds:
        for arm in sorted(arms, key=lambda arm: arm.alignment is None):
            path = record_of(records, arm.name, seed)
            if not path.exists():
                paid = _topped_up(arm, steps[arm.name], plan, records)
                found = _trained(arm, seed, paid, tuned[arm.name], trials, asked)
                write_json(path, found)
                say(f"{arm.name}, seed {seed}: test {found['mean_accuracy']:.3f}, {found['cpu_s']}")


def record_of(records: Path, arm: str, seed: int) -> Path:
    """Where a system's answers with a seed are kept."""
    return records / f"{arm}-seed-{seed}.json"


def _steps(arm: Arm, trials: Trials, records: Path) -> tuple[int, int]:
    """Steps of stage 1 and rounds of stage 2 that the budget pays."""
    plan = trials.plan
    path = records / COSTS
    costs = json.loads(path.read_text()) if path.exists() else {}
    if arm.name not in costs:
        step_s, round_s = trials.step_cost_s(arm)
        costs[arm.name] = {"step_s": step_s, "round_s": round_s, "notes_s": trials.notes_cpu_s(arm)}
        write_json(path, costs)
    cost = costs[arm.name]
    if arm.alignment is None:
        return 0, max(2, round(plan.budget_s / cost["round_s"]))
    first_s = plan.stage_1_share * plan.budget_s
    steps = max(2, round((first_s - cost["notes_s"]) / cost["step_s"]))
    return steps, max(2, round((plan.budget_s - first_s) / cost["round_s"]))


def _topped_up(arm: Arm, steps: tuple[int, int], plan: Plan, records: Path) -> tuple[int, int]:
    """Steps of a system; of one without a stage 1, as many rounds as cost what any other has spent.

    Costs of a few steps, measured before, miss what a long run costs by a tenth and more. Whom the others are
    compared with is not to have less.
    """
    tried = [row for row in json.loads((records / TUNING).read_text()) if row["arm"] == arm.name]
    if arm.alignment is not None or not tried:
        return steps
    kept = [json.loads(path.read_text()) for path in sorted(records.glob("*-seed-*.json"))]
    spent_s = max([plan.budget_s, *(each["cpu_s"] for each in kept if each["stage_1"]["steps"])])
    round_s = sum(row["cpu_s"] for row in tried) / sum(row["rounds"] for row in tried)
    return 0, max(2, round(spent_s / round_s))


def _trained(
    arm: Arm, seed: int, steps: tuple[int, int], tuned: Tuned, trials: Trials, asked: Asked
) -> dict[str, Any]:
    """A record: what a system was given, what it cost and what it answers."""
    plan = trials.plan
    rate = None if tuned.alignment is None else tuned.alignment.rate
    told = Told(steps[0], rate, steps[1], tuned.finetune.rate, seed)
    due = looks_due(told.rounds, plan.looks)

    def examine(link: Link) -> Examine:
        return lambda done: {"val_accuracy": asked.validation(link)} if done in due else None

    trained = trials.train(arm, told, examine)
    answers = asked.test(trained.link)
    return {
        "arm": arm.name,
        "commit": current_commit(),
        "told": asdict(told),
        "tuned": asdict(tuned),
        "clips": len(trials.world.clips),
        "stage_1": {
            "steps": told.alignment_steps,
            "clips": told.alignment_steps * (arm.alignment.batch_size if arm.alignment else 0),
            "cpu_s": round(trained.alignment_cpu_s, 1),
            "notes_cpu_s": round(trials.notes_cpu_s(arm), 1),
        },
        "stage_2": {
            "rounds": told.rounds,
            "clips": told.rounds * plan.clips,
            "questions_at_most": told.rounds * plan.clips * plan.questions,
            "cpu_s": round(trained.finetune_cpu_s, 1),
        },
        "cpu_s": round(trained.alignment_cpu_s + trained.finetune_cpu_s, 1),
        "on_the_way": _looks(trained, due),
        "answers": answers,
        "mean_accuracy": sum(float(str(a["accuracy"])) for a in answers.values()) / len(answers),
    }


def looks_due(rounds: int, looks: int) -> tuple[int, ...]:
    """After which rounds a system is looked at: the same shares of the way whatever its rounds are.

    Args:
        rounds: of the system.
        looks: beside an early one and the last.
    """
    return (0, rounds // 20, *(round(i * rounds / looks) for i in range(1, looks)), rounds)


def _looks(trained: Trained, due: Sequence[int]) -> list[dict[str, float]]:
    """What was seen on the way through stage 2, from its own log, at the processor time of both stages."""
    # A stage that was cut says again what came after its checkpoint.
    after = {line["steps"]: line for line in read_lines(trained.finetuned / EXAMINED)}
    return [
        {
            "rounds": rounds,
            "cpu_s": round(trained.alignment_cpu_s + after[rounds]["cpu_s"], 1),
            "val_accuracy": after[rounds]["val_accuracy"],
        }
        for rounds in due
    ]
