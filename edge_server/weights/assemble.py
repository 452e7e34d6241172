"""``open-small`` as a model folder: published weights, what was trained here, and the device bundle of both.

CACHE/downloads/            files as they were fetched
CACHE/models/open-small/    the model folder that is served
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from device_agent.bundle.bundle import Bundle, sha256_of
from device_agent.places import downloads, shipped_model
from edge_server.engine.calibration import Calibration
from edge_server.errors import ModelError
from edge_server.export.bundle import export_bundle
from edge_server.export.canary import write_canaries
from edge_server.export.made_media import made_clips
from edge_server.export.narrow import AS_HALVES
from edge_server.export.quantization import quantise_bundle
from edge_server.model.config import AudioFormat
from edge_server.model.description import LinkConfig
from edge_server.model.link import Link
from edge_server.model.listener import ListenerEncoder
from edge_server.runtime.model_runner import ServedLink
from edge_server.weights.captions import NOT_SURE
from edge_server.weights.catalogue import OPEN_SMALL
from edge_server.weights.fetch import fetch
from edge_server.weights.names import read_class_names
from edge_server.weights.open_small import NAME, base_link, new_listener

LORA, LISTENER, CARD = "lora.safetensors", "listener.safetensors", "training.json"
#: Where what was trained is committed.
TRAINED = shipped_model(NAME) or Path("deploy/models") / NAME
_MADE_OF = "made_of.json"
# Counts up when a folder is made in another way of the same files.
_MAKING = "3"
# All but one are of no use to weights; these are to check on.
_CLIPS = 8
# Elements of a tensor below which it stays in halves, and from which on it gets fewer bits. First layers and
# depthwise convolutions are small, and what rounding does to them is seen in the answer. The classifier and
# the layer before it hold a third of the weights, and tell far things apart.
_SMALL, _LARGE = 12_000, 400_000
# Made-up pictures show nothing: which class is likeliest of all is a matter of chance, and so are its tokens.
# What counts, whether both bundles name the same thing in real ones, is measured: docs/open-small.md.
_LEAST_DB = 3.0


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
    made_of = {member.name: member.sha256 for member in OPEN_SMALL}
    made_of |= {name: sha256_of(trained / name) for name in (LORA, LISTENER) if (trained / name).is_file()}
    made_of["making"] = _MAKING
    if (folder / _MADE_OF).is_file() and json.loads((folder / _MADE_OF).read_text()) == made_of:
        return folder
    link = base_link(foundation, encoder, read_class_names(downloads()), load_listener(trained))
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
        _quantise(bundle, fresh / "bundle-int8", link.config)
        # How often its answers are right, nobody knows without pictures of which that is known.
        Calibration(1.0, 0.0, 0.0, longest=0, unsure=NOT_SURE, media_only=True).write(fresh)
        write_canaries(ServedLink(Link.load(fresh), bundle.hash), fresh)
        (fresh / _MADE_OF).write_text(json.dumps(made_of, indent=2) + "\n")
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        fresh.rename(folder)
    return folder


def _quantise(bundle: Bundle, folder: Path, config: LinkConfig) -> None:
    """The bundle with integers for weights; what it is checked on is made up: nothing has to be fetched."""
    sound = config.audio.format if config.audio is not None else AudioFormat()
    clips = made_clips(_CLIPS, sound.sample_rate_hz, sound.samples)
    if config.audio is None:
        clips = [replace(clip, pcm_S=None) for clip in clips]
    quantise_bundle(bundle, clips, folder, least_db=_LEAST_DB, weights=_bits)


def _bits(size: int) -> int:
    if size < _SMALL:
        return AS_HALVES
    return 6 if size >= _LARGE else 8


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


def load_listener(trained: Path) -> ListenerEncoder | None:
    """The listener that was trained; None: there is none.

    Raises:
        ModelError: it has other classes, or is damaged.
    """
    if not (trained / LISTENER).is_file():
        return None
    listener = ListenerEncoder(new_listener())
    try:
        weights = {name: weight.float() for name, weight in load_file(trained / LISTENER).items()}
        listener.load_state_dict(weights, strict=False)
        left = set(listener.state_dict()) - set(weights)
        if any("num_batches" not in name for name in left):
            raise ModelError(f"{trained / LISTENER}: {min(left)} is missing")
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{trained / LISTENER}: cannot be read: {error}") from error
    return listener.eval().requires_grad_(False)


def save_lora(link: Link, trained: Path) -> None:
    """Write what :func:`load_trained` reads, in float16."""
    assert isinstance(link.foundation, PeftModel)  # noqa: S101 - it was trained
    trained.mkdir(parents=True, exist_ok=True)
    adapters = get_peft_model_state_dict(link.foundation)
    save_file({name: each.detach().half().contiguous() for name, each in adapters.items()}, trained / LORA)


def save_listener(listener: ListenerEncoder, trained: Path) -> None:
    """Write what :func:`load_listener` reads, in float16."""
    trained.mkdir(parents=True, exist_ok=True)
    weights = {name: each for name, each in listener.state_dict().items() if each.is_floating_point()}
    save_file({name: each.detach().half().contiguous() for name, each in weights.items()}, trained / LISTENER)
