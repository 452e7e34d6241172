"""Which run a folder belongs to: recipe, seed, and a digest of every number of the recipe.

A run's identity is a SHA-256 of canonical, versioned JSON of what the run was told: field names and values,
never names of classes or modules. A class may be renamed or moved without touching an identity; a field that
is renamed keeps its old name for the digest with ``metadata={"identity": "old_name"}``; one that came later
counts only where it is not None with ``metadata={"identity_if_set": True}``.

Called by :mod:`edge_server.training.run`, :mod:`edge_server.training.cli` and :mod:`edge_server.study.run`
before they write into a folder. Digests of before version 1 depended on class names; `edge-server study
migrate` writes records that have one again (:func:`migrate`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from edge_server.errors import ModelError

#: What a run is, in its folder.
RECORD = "run.json"
#: Of the canonical form; part of what is hashed.
VERSION = 1
#: Stands for a vocabulary size where a recipe has a function of it.
_ANY_VOCABULARY = 1024
_DIGEST_LENGTH = 16


class Identified(Protocol):
    """A run, whatever its recipe is made of."""

    @property
    def recipe(self) -> Any:
        """A dataclass with a name."""

    @property
    def seed(self) -> int:
        """Everything random follows from it."""

    @property
    def directory(self) -> Path:
        """Where it goes."""


def ensure_identity(run: Identified) -> None:
    """Write the run's identity into its folder, or see that what is there is this run's.

    Raises:
        ModelError: the folder holds another run.
    """
    path = run.directory / RECORD
    mine = {"recipe": run.recipe.name, "seed": run.seed, "settings": settings_digest(run.recipe)}
    if path.exists():
        found = json.loads(path.read_text())
        current = found | _migrated(found)
        # Folders from before settings were noted count as what their name says.
        if mine | current != mine:
            raise ModelError(
                f"{run.directory} holds a run of {found}, this is {mine}; choose another folder or delete it"
            )
        if found == mine:
            return
    run.directory.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(mine) + "\n")


def settings_digest(recipe: Any) -> str:
    """Digest of every number of a recipe, but its name: 16 hexadecimal digits.

    Raises:
        TypeError: the recipe holds something that has no canonical form.
    """
    told = canonical(recipe)
    del told["name"]
    text = json.dumps({"version": VERSION, "settings": told}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]


def canonical(value: Any) -> Any:
    """A value as JSON types: dataclasses by their fields' identity names, sequences as lists.

    Raises:
        TypeError: it has no canonical form.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.metadata.get("identity", field.name): canonical(getattr(value, field.name))
            for field in fields(value)
            if not (field.metadata.get("identity_if_set") and getattr(value, field.name) is None)
        }
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if callable(value):
        return canonical(value(_ANY_VOCABULARY))
    raise TypeError(f"a run's identity cannot hold a {type(value).__name__}")


def migrate(folder: Path) -> int:
    """Write every record below a folder that has a digest of before version 1 again; returns how many.

    Raises:
        ModelError: a record is not one.
    """
    changed = 0
    for path in sorted(folder.rglob(RECORD)):
        try:
            found = json.loads(path.read_text())
            current = found | _migrated(found)
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{path}: is no record of a run: {error}") from error
        if current != found:
            path.write_text(json.dumps(current) + "\n")
            changed += 1
    return changed


def _migrated(found: Mapping[str, Any]) -> dict[str, str]:
    """The present digest in place of one of before version 1; nothing where it is not one of those."""
    known = json.loads(files(__package__).joinpath("identities_before_1.json").read_text(encoding="utf-8"))
    digest = known.get(found.get("settings"))
    return {} if digest is None else {"settings": digest}
