"""A private copy of a model folder, and a digest of it: what is served, whatever becomes of the folder.

A server whose batches compute in processes starts such a process again after it was killed. It must compute
with the same weights as the others: it reads the copy that was taken when the model was loaded, and proves by
the digest that this is what it read (:func:`edge_server.runtime.start.load_runner`). Taken by
:mod:`edge_server.server.loading`. Light to import: no torch.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from edge_server.errors import ModelError

_SUFFIXES = (".json", ".safetensors")
#: The only file of a device bundle that the server's half reads.
_MANIFEST = Path("bundle") / "manifest.json"
_READ_BYTES = 2**20


@dataclass(frozen=True)
class Snapshot:
    """A model folder as it was when it was loaded.

    Attributes:
        folder: the copy.
        digest: SHA-256 over names and contents of its files, hexadecimal.
    """

    folder: Path
    digest: str


def take_snapshot(model: Path, into: Path) -> Snapshot:
    """Copy what a runner reads of a model folder.

    Args:
        model: the model folder.
        into: a folder of the caller's own; the copy is made in it.

    Raises:
        ModelError: the folder cannot be read, or there is no room for the copy.
    """
    folder = into / "model"
    if not model.is_dir():
        raise ModelError(f"{model}: there is no such folder")
    try:
        (folder / "bundle").mkdir(parents=True)
        for path in _files(model):
            target = folder / path.relative_to(model)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    except OSError as error:
        raise ModelError(f"{model}: cannot be copied to {into}: {error.strerror or error}") from error
    return Snapshot(folder, digest_of(folder))


def digest_of(model: Path) -> str:
    """SHA-256 over names and contents of the files that a runner reads, hexadecimal.

    Raises:
        ModelError: one cannot be read.
    """
    total = hashlib.sha256()
    try:
        for path in _files(model):
            total.update(f"{path.relative_to(model).as_posix()}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while chunk := file.read(_READ_BYTES):
                    total.update(chunk)
    except OSError as error:
        raise ModelError(f"{model}: cannot be read: {error.strerror or error}") from error
    return total.hexdigest()


def _files(model: Path) -> list[Path]:
    """All of a model folder but device bundles, which have hashes of their own."""
    found = [
        path
        for path in sorted(model.rglob("*"))
        if path.suffix in _SUFFIXES
        and path.is_file()
        and not path.relative_to(model).parts[0].startswith("bundle")
    ]
    manifest = model / _MANIFEST
    return [*found, *([manifest] if manifest.is_file() else [])]
