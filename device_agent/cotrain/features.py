"""Features of frozen encoders: computed once per clip, kept on disk within a bound, read again every step.

    clip ─▶ in the cache? ─ no ─▶ decoded, encoded ─▶ HASH.npz ─▶ the longest unread go when there is no room

A file's name says what it was made of: names, sizes and times of the media, where in them, and the bundle.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device_agent.cotrain.questions_file import OwnClip
from device_agent.errors import ConfigurationError

Array = npt.NDArray[np.float32]
DEFAULT_CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class ClipFeatures:
    """What a clip became.

    Attributes:
        by_slot: of each transmitter, float32 [P, D].
        modalities: of each transmitter, what its tokens are called on the wire.
    """

    by_slot: dict[str, Array]
    modalities: dict[str, str]


class FeatureCache:
    """Features of clips in a folder.

    Args:
        folder: where they are kept; made where there is none.
        media: folder of the clips.
        bundle_hash: of whose encoders they are.
        encode: decodes and encodes a clip.
        max_bytes: of all files together; at least one is kept.
    """

    def __init__(
        self,
        folder: Path,
        media: Path,
        bundle_hash: str,
        encode: Callable[[OwnClip], ClipFeatures],
        max_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self._folder, self._media, self._bundle_hash = folder, media, bundle_hash
        self._encode = encode
        self._max_bytes = max_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"state: {folder} cannot be made: {error.strerror or error}") from error
        self._bytes = sum(path.stat().st_size for path in folder.glob("*.npz"))

    def of(self, clip: OwnClip) -> ClipFeatures:
        """A clip's features.

        Raises:
            MediaError: the clip cannot be read.
            TransmitterError: an encoder failed.
        """
        path = self._folder / f"{self._key(clip)}.npz"
        found = self._read(path)
        if found is None:
            found = self._encode(clip)
            self._write(path, found)
        return found

    def _key(self, clip: OwnClip) -> str:
        stamps = []
        for name in clip.files:
            with contextlib.suppress(OSError):
                stat = (self._media / name).stat()
                stamps.append([stat.st_size, stat.st_mtime_ns])
        made_of = [self._bundle_hash, list(clip.files), clip.start_s, stamps]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()

    def _read(self, path: Path) -> ClipFeatures | None:
        try:
            with np.load(path, allow_pickle=False) as file:
                names = [name.partition(":") for name in file.files]
                by_slot = {slot: file[f"{slot}:{modality}"] for slot, _, modality in names}
            os.utime(path)  # it was needed just now
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        return ClipFeatures(by_slot, {slot: modality for slot, _, modality in names})

    def _write(self, path: Path, found: ClipFeatures) -> None:
        partial = path.with_name(f".{path.stem}.{os.getpid()}")
        try:
            with partial.open("wb") as file:
                named: dict[str, Any] = {
                    f"{slot}:{found.modalities[slot]}": x for slot, x in found.by_slot.items()
                }
                np.savez(file, **named)
            self._bytes += partial.stat().st_size
            partial.replace(path)
            self._make_room(path)
        except OSError:  # a full disk costs time, nothing else
            partial.unlink(missing_ok=True)

    def _make_room(self, newest: Path) -> None:
        if self._bytes <= self._max_bytes:
            return
        kept = sorted(self._folder.glob("*.npz"), key=lambda each: each.stat().st_mtime_ns)
        for path in kept:
            if self._bytes <= 0.9 * self._max_bytes or path == newest:
                break
            self._bytes -= path.stat().st_size
            path.unlink(missing_ok=True)
