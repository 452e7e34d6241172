"""Taking the pretrained parts of a model folder in place of pretraining them again.

Encoders and foundation stay as they were pretrained through alignment and fine-tuning, which train heads,
receivers and LoRA alone: a model folder still has them, and a study on top of them needs nothing else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edge_server.errors import ModelError
from edge_server.training.loop import DONE
from edge_server.training.run import IMPORTED, PRETRAININGS, Run


def import_pretrained(model: Path, run: Run) -> None:
    """Put a model folder's encoders, foundation and tokenizer where a run looks for its pretraining.

    Args:
        model: the folder.
        run: whose pretraining, or the one that it shares, they become. What is there already stays.

    Raises:
        ModelError: the folder cannot be read, or holds a part that the run's recipe does not describe.
    """
    tokenizer = run.stage("tokenizer.json")
    tokenizer.parent.mkdir(parents=True, exist_ok=True)
    try:
        foundation = load_file(model / "foundation.safetensors")
        encoders = load_file(model / "encoders.safetensors")
        if not tokenizer.exists():
            shutil.copyfile(model / "tokenizer.json", tokenizer)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{model}: not a model folder that can be read: {error}") from error
    weights = {
        "foundation": {f"weight.{name}": tensor for name, tensor in foundation.items()},
        **{slot: _of_slot(encoders, slot) for slot in PRETRAININGS if slot != "foundation"},
    }
    for part in PRETRAININGS:
        folder = run.stage(part)
        if (folder / DONE).exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights[part], folder / "checkpoint.safetensors")
        told = {"stage": part, IMPORTED: model.name, "schedule": {"steps": 0}, "elapsed_s": 0.0}
        (folder / DONE).write_text(json.dumps(told, indent=2) + "\n")
    try:
        run.pretrained_link()
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"{model}: its parts are not those of recipe {run.recipe.name}: {error}") from error


def _of_slot(encoders: Mapping[str, torch.Tensor], slot: str) -> dict[str, torch.Tensor]:
    prefix = f"{slot}."
    return {
        f"weight.encoder.{name.removeprefix(prefix)}": tensor
        for name, tensor in encoders.items()
        if name.startswith(prefix)
    }
