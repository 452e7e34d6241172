"""`edge-server study semantic`: what it compares, and where it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from edge_server.data.soundstage.dataset import SplitName
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.study.json_file import write_json
from edge_server.study.semantic.asked import Asked
from edge_server.study.semantic.compare import QUICK, Plan, compare
from edge_server.study.semantic.kept import kept
from edge_server.training.soundstage import encode_split

SEMANTIC = "semantic"
FILE = "semantic_digital"
COMMAND = "edge-server study semantic"
MEASURES = (
    "edge_server/study/semantic",
    "edge_server/study/teacher_forced.py",
    "edge_server/model/split/compression.py",
)


def study_semantic(
    model: Path, data: Path, features: Path, out: Path, say: Callable[[str], None], *, quick: bool
) -> Path:
    """Compare analog and semantic digital links of a model; JSON.

    Args:
        model: folder of the shipped model.
        data: Soundstage with all splits; of the train split no question is looked at.
        features: where clips behind the model's encoders are kept.
        out: where the JSON goes.
        say: told what was done.
        quick: small.
    """
    plan = QUICK if quick else Plan()
    link = Link.load(model)
    link.merge_lora()
    link.requires_grad_(False)
    validated = encode_split(link, data, "val", features / "val")
    prior_of = validated.split.split.questions

    def asked(split: SplitName, count: int) -> Asked:
        return Asked(link, encode_split(link, data, split, features / split), count, prior_of)

    found = compare(
        asked("train", plan.fitted), asked("val", plan.validated), asked("test", plan.tested), plan, say
    )
    head = {"command": COMMAND, "measures": MEASURES, "commit": current_commit()}
    report = {**head, "model": link.config.name, "plan": asdict(plan), **found}
    path = out / f"{FILE}.json"
    write_json(path, report | {"promises": kept(report)})
    return path
