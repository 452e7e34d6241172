"""A bundle as one .tar archive, and back.

The same bundle always makes the same bytes. Taking an archive in trusts nothing: only plain files with flat
names, within limits, into an empty folder; a bundle in use is replaced only after the new one is verified.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from device_agent.bundle.acceptance import Acceptance
from device_agent.bundle.bundle import FILE_NAME, MANIFEST, NOT_LISTED, Bundle, Precision, load_bundle
from device_agent.bundle.proving import prove
from device_agent.bundle.signature import SIGNATURES, check_signed
from device_agent.errors import BundleError
from device_agent.stopping import Stop


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold."""

    max_bytes: int = 2 * 2**30
    """Of all files together, and of the archive."""
    max_files: int = 64


def pack(folder: Path, archive: Path) -> None:
    """Write a verified bundle as one uncompressed .tar archive.

    Raises:
        BundleError: the folder holds no sound bundle.
    """
    bundle = load_bundle(folder)
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        signed = [SIGNATURES] if (folder / SIGNATURES).is_file() else []
        for name in [MANIFEST, *signed, *sorted(bundle.manifest.files)]:
            path = folder / name
            entry = tarfile.TarInfo(name)
            entry.size = path.stat().st_size
            entry.mode = 0o644
            with path.open("rb") as file:
                tar.addfile(entry, file)


def pack_bytes(folder: Path) -> bytes:
    """The archive of a bundle, in memory; see :func:`pack`."""
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch, "bundle.tar")
        pack(folder, archive)
        return archive.read_bytes()


def unpack(archive: Path | bytes, folder: Path, limits: ArchiveLimits | None = None) -> Bundle:
    """Unpack an archive into a folder, which must be empty or not exist, and verify what came out.

    Raises:
        BundleError: the archive is broken, over its limits, holds anything but plain files with flat
            names, files that its manifest does not list, or no sound bundle. Nothing is left in the folder
            then.
    """
    limits = limits or ArchiveLimits()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BundleError(f"{folder} is not empty; a bundle is unpacked into an empty folder")
    try:
        names = _extract(archive, folder, limits)
        bundle = load_bundle(folder)
        if unlisted := names - bundle.manifest.files.keys() - NOT_LISTED:
            raise BundleError(f"the archive holds {min(unlisted)!r}, which its manifest does not list")
        return bundle
    except BaseException:
        for path in folder.iterdir():
            path.unlink()
        raise


def install(
    archive: Path | bytes,
    folder: Path,
    *,
    expected_hash: str | None = None,
    expected_precision: Precision | None = None,
    acceptance: Acceptance | None = None,
    stop: Stop | None = None,
) -> Bundle:
    """Put a bundle in place of the one in a folder, if it is sound and works; else the old one stays.

    Args:
        archive: the .tar file, or its bytes.
        folder: becomes the bundle; may hold one already, or not exist.
        expected_hash: the bundle that it has to be.
        expected_precision: what its encoders have to compute with.
        acceptance: what it has to meet; None: the defaults, signed or not.
        stop: ends it early, from another thread.

    Raises:
        BundleError: as :func:`unpack`, or it is another bundle, is not signed as it has to be, does not work,
            or the folder is something else.
    """
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder} is a file; a bundle is a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise BundleError(f"{folder} holds something that is no bundle; it is left alone, name another place")
    acceptance = acceptance or Acceptance()
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        fresh, old = Path(scratch, "new"), Path(scratch, "old")
        bundle = unpack(archive, fresh, ArchiveLimits(max_bytes=acceptance.max_bytes))
        if expected_hash is not None and bundle.hash != expected_hash:
            raise BundleError(f"the archive holds bundle {bundle.hash}, not {expected_hash}")
        if expected_precision not in (None, bundle.manifest.precision):
            # What a server does that knows of one bundle only.
            raise BundleError(
                f"the archive holds a bundle in {bundle.manifest.precision}, not {expected_precision}"
            )
        check_signed(fresh, bundle.hash, acceptance.keys)
        prove(fresh, acceptance.proof, stop)
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    return Bundle(folder, bundle.manifest)


def _extract(archive: Path | bytes, folder: Path, limits: ArchiveLimits) -> set[str]:
    """Write the files of an archive; their names."""
    size = len(archive) if isinstance(archive, bytes) else archive.stat().st_size
    if size > limits.max_bytes:
        raise BundleError(f"the archive has {size} bytes; at most {limits.max_bytes} are allowed")
    source = io.BytesIO(archive) if isinstance(archive, bytes) else archive.open("rb")
    total = 0
    seen: set[str] = set()
    try:
        with source, tarfile.open(fileobj=source, mode="r:") as tar:
            for entry in tar:
                total += entry.size
                if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.issparse():
                    raise BundleError(f"the archive holds {entry.name!r}, which is no plain file")
                if not FILE_NAME.fullmatch(entry.name):
                    raise BundleError(f"the archive holds {entry.name!r}; only flat names are allowed")
                if entry.name in seen:
                    raise BundleError(f"the archive holds {entry.name!r} twice")
                seen.add(entry.name)
                if len(seen) > limits.max_files or total > limits.max_bytes:
                    raise BundleError(
                        f"the archive holds more than {limits.max_files} files or {limits.max_bytes} bytes"
                    )
                content = tar.extractfile(entry)
                if content is None:
                    raise BundleError(f"the archive's {entry.name!r} cannot be read")
                with content, (folder / entry.name).open("xb") as file:
                    shutil.copyfileobj(content, file)
                if (folder / entry.name).stat().st_size != entry.size:
                    raise BundleError(f"the archive's {entry.name!r} is cut short")
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        # Headers that each announce another one are read one within the other.
        raise BundleError(f"the archive is broken: {error}") from error
    return seen
