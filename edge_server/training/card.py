"""The model card: what made a model, for people (``README.md``) and for programs (``training.json``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_server.data.soundstage.scene import KINDS
from edge_server.errors import ModelError
from edge_server.model.link import Link
from edge_server.model.modality import SLOTS
from edge_server.training.loop import DONE
from edge_server.training.rewording import STAGES as REWORDING
from edge_server.training.rewording import UNSURE

#: Stages in the order of the recipe, as their folders in a run are called.
STAGES = ("induction", "foundation", *SLOTS, "alignment", "finetune", *REWORDING)


#: For programs: command, seed, commit, steps and times.
RECORD = "training.json"


@dataclass(frozen=True)
class Origin:
    """What has to be known to make a model again."""

    recipe: str
    """Name of the recipe; of the model that a `finetune` begins with."""
    seed: int
    """Seed of the run."""
    commit: str
    """Commit of the code."""
    options: str = ""
    """Further options of the command."""
    verb: str = "train"
    """Which command."""
    before: Mapping[str, Any] | None = None
    """The record of the model whose stages were gone on with, made by the same recipe; None: of none."""

    @property
    def command(self) -> str:
        """The command that makes the model."""
        return f"edge-server {self.verb} {self.recipe} --seed {self.seed} {self.options}".rstrip()


def write_card(link: Link, origin: Origin, data: Path, stages: Mapping[str, Path], model: Path) -> None:
    """Write both files into the folder of a model of Soundstage.

    Args:
        link: the trained model.
        origin: what made it.
        data: the data set that it was trained on.
        stages: folder of each finished stage.
        model: folder of the model.
    """
    sizes = write_record(link, origin, json.loads((data / "train" / "split.json").read_text()), stages, model)
    (model / "README.md").write_text(_card(link, origin, sizes, reworded=REWORDING[0] in stages))


def write_record(
    link: Link, origin: Origin, data: object, stages: Mapping[str, Path], model: Path
) -> dict[str, int]:
    """Write the record for programs into a model folder.

    Args:
        link: the trained model.
        origin: what made it.
        data: what it was trained on, as JSON.
        stages: folder of each finished stage.
        model: folder of the model.

    Returns:
        Parameters of each part.
    """
    told = dict(origin.before["stages"]) if origin.before else {}
    for stage, folder in stages.items():
        done = json.loads((folder / DONE).read_text())
        told[stage] = {"steps": done["schedule"]["steps"], "elapsed_s": done["elapsed_s"]}
        figures = folder / "val.json"
        if figures.exists():
            told[stage]["val"] = json.loads(figures.read_text())
    sizes = {
        part: sum(p.numel() for p in module.parameters())
        for part, module in (
            ("encoders", link.encoders),
            ("heads", link.heads),
            ("receivers", link.receivers),
            ("foundation with LoRA", link.foundation),
        )
    }
    record = {
        "command": origin.command,
        "recipe": origin.recipe,
        "seed": origin.seed,
        "commit": origin.commit,
        **({"begun_at": origin.before["commit"]} if origin.before else {}),
        "parameters": sizes,
        "data": data,
        "stages": told,
    }
    (model / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return sizes


def read_record(model: Path) -> dict[str, Any]:
    """The record of a model folder.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        record: dict[str, Any] = json.loads((model / RECORD).read_text())
        return {"commit": str(record["commit"]), "stages": dict(record["stages"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{model / RECORD}: cannot be read: {error!r}") from error


def commit_of(model: Path) -> str | None:
    """The commit whose code trained a model; None where its folder does not say."""
    record = model / RECORD
    if not record.exists():
        return None
    commit: str = json.loads(record.read_text())["commit"]
    return commit


def _card(link: Link, origin: Origin, sizes: dict[str, int], *, reworded: bool) -> str:
    config, before = link.config, origin.before
    begun = "" if before is None else f" (stages before `{REWORDING[0]}`: commit `{before['commit']}`)"
    abstains = (
        f'It is trained to say "{UNSURE}" then, and calibrated to hold back what is likely wrong\n'
        "(`calibration.json`); what that catches, and what it misses: `docs/results`."
        if reworded
        else "It then answers something all the same."
    )
    parameters = "\n".join(f"| {part} | {count:,} |" for part, count in sizes.items())
    return f"""# {config.name}

Answers questions about four seconds of video and sound of a stage, from tokens that came over a noisy
channel. Trained from nothing, on the generated Soundstage benchmark alone, by

    {origin.command}

at commit `{origin.commit}`, seed {origin.seed}{begun}. Steps and times of each stage: `{RECORD}`.
Accuracy: `docs/results` of the repository, made by `edge-server evaluate`.

| part | parameters |
|---|---|
{parameters}

A token on air has {config.channel_dim} reals. One set of weights serves every token length and every SNR.

**Meant for** trying the whole path: devices, channels, batching, load. **Knows** {len(KINDS)} instruments
({", ".join(KINDS)}), where they are,
whether they play, in which order and how loud, and the templates of MUSIC-AVQA's nine question types, in the
benchmark's wording and in others. **Does not know** real stages, real recordings, other instruments, other
questions or languages. {abstains}

Artwork, soundfont and voice of the training clips: Noto Color Emoji (OFL), FluidR3 GM (MIT), eSpeak NG (GPL;
only its output is used).
"""
