"""``open-small`` as a model folder: published weights, what was trained here, and the device bundle of both.

CACHE/downloads/            files as they were fetched
CACHE/models/open-small/    the model folder that is served
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from device_agent.bundle.bundle import sha256_of
from device_agent.places import downloads, shipped_model
from edge_server.errors import ModelError
from edge_server.export.bundle import export_bundle
from edge_server.export.canary import write_canaries
from edge_server.model.link import Link
from edge_server.runtime.model_runner import ServedLink
from edge_server.weights.catalogue import OPEN_SMALL
from edge_server.weights.fetch import fetch
from edge_server.weights.names import read_class_names
from edge_server.weights.open_small import NAME, base_link

LORA, CARD = "lora.safetensors", "training.json"
#: Where what was trained is committed.
TRAINED = shipped_model(NAME) or Path("deploy/models") / NAME
_MADE_OF = "made_of.json"


def get_open_small(trained: Path, folder: Path) -> Path:
    """Fetch what is missing and make the model folder; one that is there and made of the same is left.

    Args:
        trained: folder of what was trained.
        folder: the model's.

    Returns:
        ``folder``.

    Raises:
        WeightsError: something is not reached, or is not what it should be.
        ModelError: what was trained does not fit.
    """
    foundation, encoder, *_ = fetch(OPEN_SMALL, downloads())
    if not (trained / LORA).is_file():
        raise ModelError(f"{trained / LORA}: is missing; `edge-server train {NAME}` makes it")
    made_of = {member.name: member.sha256 for member in OPEN_SMALL} | {LORA: sha256_of(trained / LORA)}
    if (folder / _MADE_OF).is_file() and json.loads((folder / _MADE_OF).read_text()) == made_of:
        return folder
    link = base_link(foundation, encoder, read_class_names(downloads()))
    load_trained(link, trained)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        fresh = Path(scratch, "model")
        link.save(fresh)
        for name in (CARD, "README.md"):
            if (trained / name).exists():
                shutil.copyfile(trained / name, fresh / name)
        card = json.loads((trained / CARD).read_text()) if (trained / CARD).exists() else {}
        bundle = export_bundle(link, fresh / "bundle", card.get("commit")).bundle
        write_canaries(ServedLink(Link.load(fresh), bundle.hash), fresh)
        (fresh / _MADE_OF).write_text(json.dumps(made_of, indent=2) + "\n")
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        fresh.rename(folder)
    return folder


def load_trained(link: Link, trained: Path) -> None:
    """Give a link's foundation the LoRA that was trained.

    Raises:
        ModelError: it is missing, or of another foundation.
    """
    try:
        adapters = {name: weight.float() for name, weight in load_file(trained / LORA).items()}
        link.add_lora()
        found = set_peft_model_state_dict(link.foundation, adapters)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{trained / LORA}: cannot be read: {error}") from error
    left = [name for name in found.missing_keys if "lora_" in name]
    if left or found.unexpected_keys:
        wrong = ", ".join([*left, *found.unexpected_keys][:3])
        raise ModelError(f"{trained / LORA}: does not fit {link.config.name}: {wrong}")


def save_trained(link: Link, trained: Path) -> None:
    """Write what :func:`load_trained` reads, in float16."""
    assert isinstance(link.foundation, PeftModel)  # noqa: S101 - it was trained
    trained.mkdir(parents=True, exist_ok=True)
    adapters = get_peft_model_state_dict(link.foundation)
    save_file({name: each.detach().half().contiguous() for name, each in adapters.items()}, trained / LORA)
