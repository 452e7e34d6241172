"""`edge-server study alignment`: what it trains, and where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from edge_server.model.description import read_description
from edge_server.model.provenance import current_commit
from edge_server.study.alignment import gather
from edge_server.study.alignment.arms import ARMS
from edge_server.study.alignment.compare import Say, compare
from edge_server.study.alignment.plan import QUICK, Plan
from edge_server.study.alignment.world import World
from edge_server.study.json_file import write_json

ALIGNMENT = "alignment"


@dataclass(frozen=True)
class Folders:
    """Where everything is.

    Attributes:
        model: the shipped model, whose encoders and foundation are taken.
        data: Soundstage with its three splits.
        scratch: checkpoints.
        features: clips behind the model's encoders.
        records: a record of each system and seed.
        out: gets ``alignment.json``.
    """

    model: Path
    data: Path
    scratch: Path
    features: Path
    records: Path
    out: Path


def study_alignment(
    folders: Folders, plan: Plan, only: Sequence[str], say: Say, *, only_kept: bool = False
) -> Path:
    """Train what is not kept yet, then gather; JSON.

    Args:
        folders: where everything is.
        plan: how much.
        only: train these systems; all where empty.
        say: told what was done.
        only_kept: train nothing; neither data nor weights are read.
    """
    scratch, records, out = folders.scratch, folders.records, folders.out
    if not only_kept:
        world = World.open(folders.model, folders.data, scratch, folders.features, plan)
        compare(world, plan, scratch, records, only, say)
    config, _ = read_description(folders.model)
    head = {"command": gather.COMMAND, "measures": gather.MEASURES, "commit": current_commit()}
    report = gather.gather(plan, records)
    told = {**head, "model": config.name, **report, "promises": gather.kept_promises(report)}
    path = out / f"{ALIGNMENT}.json"
    write_json(path, told)
    return path


def plan_of(*, quick: bool, seeds: int | None, only: Sequence[str]) -> Plan:
    """The plan that options describe.

    Raises:
        typer.BadParameter: a system that is not there.
    """
    unknown = sorted(set(only) - set(ARMS))
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r}; allowed: {', '.join(ARMS)}", param_hint="--only")
    plan = QUICK if quick else Plan()
    return plan if seeds is None else replace(plan, seeds=tuple(range(1, seeds + 1)))
