"""`edge-server study inversion`: what it attacks, and where it goes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.progress import Progress

from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.study.inversion import compare as inversion
from edge_server.study.json_file import write_json
from edge_server.training.soundstage import encode_split

INVERSION = "inversion"
COMMAND = "edge-server study inversion"
MEASURES = ("edge_server/study/inversion", "deploy/models/soundstage-small")


def study_inversion(model: Path, data: Path, features: Path, out: Path, *, quick: bool) -> Path:
    """Attack the tokens of a model; JSON.

    Args:
        model: folder of the shipped model.
        data: Soundstage; the train split is the attacker's, the test split what devices sent.
        features: where clips behind the model's encoders are kept.
        out: where ``inversion.json`` goes.
        quick: small.
    """
    plan = inversion.QUICK if quick else inversion.Plan()
    link = Link.load(model)
    link.merge_lora()
    link.requires_grad_(False)
    own, sent = (
        encode_split(link, data, "train", features / "train"),
        encode_split(link, data, "test", features / "test"),
    )
    with Progress() as bar:
        task = bar.add_task("attacks", total=inversion.attacks(plan))
        found = inversion.compare(link, own, sent, plan, lambda: bar.advance(task))
    head = {"command": COMMAND, "measures": MEASURES, "commit": current_commit()}
    report = {**head, "model": link.config.name, "plan": asdict(plan), **found}
    path = out / f"{INVERSION}.json"
    write_json(path, report | {"promises": inversion.kept(report)})
    return path
