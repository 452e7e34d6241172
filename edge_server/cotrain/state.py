"""What is kept of a round on disk: enough to go on after a kill, and to say how it stands.

STATE/round.json           who it is, what it was told, of which model
      edge.safetensors     receivers and LoRA with their moments, at the step where it is
      examined.json        held-out accuracy of each device, before and after
      heads/DEVICE.safetensors   what came out of each device
      heads/_shared.safetensors  the last average, with shared heads
      status.json          how it stands, for whoever looks
      curves.jsonl         a line a step: loss of each device
      stop                 is there when the round is to stop
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_server.cotrain.plan import Plan
from edge_server.errors import ConfigurationError

ROUND, EDGE, EXAMINED, STATUS = "round.json", "edge.safetensors", "examined.json", "status.json"
CURVES, STOP, HEADS, SHARED = "curves.jsonl", "stop", "heads", "_shared"
_WEIGHTS = ("encoders.safetensors", "foundation.safetensors", "link.safetensors", "lora.safetensors")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class RoundState:
    """A round's folder.

    Attributes:
        folder: where it is.
        round_id: names it to devices.
        plan: what it was told.
        model: folder of the model that it began with.
        model_digest: of that model's weights and bundles.
    """

    folder: Path
    round_id: str
    plan: Plan
    model: Path
    model_digest: str

    def path(self, name: str) -> Path:
        """A file of it."""
        return self.folder / name

    def head(self, device: str) -> Path:
        """Where what came out of a device is kept."""
        return self.folder / HEADS / f"{file_name(device)}.safetensors"

    @property
    def stopping(self) -> bool:
        """Whether the round is to stop."""
        return self.path(STOP).exists()

    def stop(self) -> None:
        """Have the round stop after its present step."""
        self.path(STOP).touch()


def file_name(device: str) -> str:
    """A device's name as that of a file; another one for each device."""
    if _PLAIN.fullmatch(device):
        return device
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", device)[:40].lstrip("._-")
    return f"{plain or 'device'}.{hashlib.sha256(device.encode()).hexdigest()[:12]}"


def begin(folder: Path, plan: Plan, model: Path) -> RoundState:
    """Open a round, or the one that the folder holds, which goes on as it was told then.

    Raises:
        ConfigurationError: the folder cannot be written, or its round was told otherwise or is of a model
            that has changed.
    """
    digest = model_digest(model)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / HEADS).mkdir(exist_ok=True)
        (folder / STOP).unlink(missing_ok=True)
        if not (folder / ROUND).exists():
            told = {
                "round_id": secrets.token_hex(8),
                "plan": plan.to_json(),
                "model": str(model.resolve()),
                "model_digest": digest,
            }
            write_json(folder / ROUND, told)
    except OSError as error:
        raise ConfigurationError(f"state: {folder} cannot be written: {error.strerror or error}") from error
    found = load(folder)
    if found.plan.text() != plan.text():
        raise ConfigurationError(
            f"state: {folder} holds round {found.round_id}, which was told otherwise; go on with what it was "
            "told, or `edge-server cotrain discard` it"
        )
    if found.model_digest != digest:
        raise ConfigurationError(
            f"state: {folder} holds a round of another model than {model} is now; discard it first"
        )
    return found


def load(folder: Path) -> RoundState:
    """The round of a folder.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        told = json.loads((folder / ROUND).read_text(encoding="utf-8"))
        return RoundState(
            folder,
            str(told["round_id"]),
            Plan.from_json(told["plan"]),
            Path(told["model"]),
            str(told["model_digest"]),
        )
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"state: {folder} holds no round; open one with `edge-server cotrain open`"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"state: {folder / ROUND} cannot be read: {error}") from error


def model_digest(model: Path) -> str:
    """SHA-256 (hexadecimal) over a model's weights and its bundles' manifests.

    Raises:
        ConfigurationError: there is no model.
    """
    files = [model / name for name in _WEIGHTS]
    files += sorted(model.glob("bundle*/manifest.json"))
    found = hashlib.sha256()
    try:
        for path in files:
            if path.exists() or path.name == "link.safetensors":
                with path.open("rb") as file:
                    found.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise ConfigurationError(f"model: {path} cannot be read: {error.strerror or error}") from error
    return found.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """What a file of a round holds; empty where it is not there or is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, told: Mapping[str, Any]) -> None:
    """Write a file of a round, all or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
