"""The device bundle: what a device needs to speak to one model, and the means to trust it.

    folder ─▶ manifest.json ─▶ bundle_hash ─▶ each file's size and SHA-256 ─▶ no external data ─▶ Bundle

The bundle hash covers the manifest, the manifest the checksums, these the files: two devices with the same
hash send the same tokens. Nothing is opened, by ONNX Runtime or as a tokenizer, before that chain holds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from device_agent.bundle.onnx_check import refuse_external_data_of
from device_agent.bundle.signature import SIGNATURES
from device_agent.errors import BundleError
from device_agent.media.clip import MediaSpec

MANIFEST = "manifest.json"
TOKENS, FEATURES = "tokens", "features"
"""Outputs of a transmitter's graph: what goes on air; what its encoder gives, where its head can learn."""
MAX_MANIFEST_BYTES = 2**20
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of a bundle's files: flat, no path can be spelt with them."""
NOT_LISTED = frozenset({MANIFEST, SIGNATURES})
"""What lies beside the files that a manifest lists: itself, and who signed it."""
MAX_MEDIA_BYTES = 256 * 2**20
"""The most that a bundle may have its device decode for one question, of each kind [bytes]."""

Precision: TypeAlias = Literal["fp32", "int8"]
"""What the encoders compute with."""

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class BundleFile(_Part):
    """Size and checksum of one file."""

    sha256: str = Sha256
    bytes: int = Field(ge=0)


class Head(_Part):
    """The learned end of a transmitter for itself: with it, a device can co-train.

    Its graphs take the weights as inputs: float32 features [B, P, D], int64 token_length [1] and the weights
    in, tokens [B, token_length, channel_dim] out; with the gradient by these, the gradient by each weight.
    """

    forward: str
    gradient: str
    weights: str
    """Those of the transmitter's graph, as safetensors."""


class VisualTransmitter(_Part):
    """Frames to tokens: uint8 [T, H, W, 3] and int64 [1] in, float32 [token_length, channel_dim] out."""

    graph: str
    modalities: list[Literal["image", "video"]]
    frame_rate_hz: float = Field(gt=0, le=240)
    window_s: float = Field(gt=0, le=3600)
    max_frames: int = Field(ge=1, le=10_000)
    max_side: int = Field(default=MediaSpec.max_side, ge=1, le=4096)
    head: Head | None = None


class AudioTransmitter(_Part):
    """Sound to tokens: float32 [S] and int64 [1] in, float32 [token_length, channel_dim] out."""

    graph: str
    modalities: list[Literal["audio"]]
    sample_rate_hz: int = Field(ge=1000, le=384_000)
    window_s: float = Field(gt=0, le=3600)
    head: Head | None = None


class TextTransmitter(_Part):
    """Language tokens to feature tokens: int64 [L] in, float32 [L, channel_dim] out."""

    graph: str
    modalities: list[Literal["text"]]
    max_token_length: int = Field(ge=1, le=100_000)


class Transmitters(_Part):
    """The transmitters that a bundle has."""

    visual: VisualTransmitter | None = None
    audio: AudioTransmitter | None = None
    text: TextTransmitter | None = None


class Manifest(_Part):
    """``manifest.json``, format 1. Keys that are not known here are kept out of the way, but hashed."""

    format: Literal[1]
    name: str
    channel_dim: int = Field(ge=2, le=65_536, multiple_of=2)
    token_lengths: list[int] = Field(min_length=1)
    token_length: int | None = None
    """The one that the model works best with, whatever the link; None: the worse the link, the longer."""
    nested: bool = False
    """Whether the first tokens of a block are, to the bit, the block of that length: in rounds, only what is
    new has to be sent."""
    transmitters: Transmitters
    tokenizer: str
    files: dict[str, BundleFile]
    training_commit: str
    precision: Precision = "fp32"
    quantised_from: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Hash of the fp32 bundle whose tokens these are, to within the quantisation's error."""
    personal_to: str | None = Field(default=None, min_length=1, max_length=128)
    """The device whose co-trained heads these are; None: everybody's."""
    personalised_from: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Hash of the bundle that everybody else runs with the same receivers."""
    bundle_hash: str = Sha256

    @model_validator(mode="after")
    def _files_are_listed(self) -> Manifest:
        if any(length < 1 for length in self.token_lengths):
            raise ValueError("token_lengths must be at least 1")
        if self.token_length is not None and self.token_length not in self.token_lengths:
            raise ValueError("token_length must be one of token_lengths")
        for name in self.files:
            if not FILE_NAME.fullmatch(name) or name in NOT_LISTED:
                raise ValueError(f"files: {name!r} is no name for a bundle's file")
        for name in [self.tokenizer, *self.graphs, *(head.weights for head in self.heads.values())]:
            if name not in self.files:
                raise ValueError(f"files: {name!r} is used but not listed")
        visual, audio = self.transmitters.visual, self.transmitters.audio
        if visual and visual.max_frames * visual.max_side**2 * 3 > MAX_MEDIA_BYTES:
            raise ValueError(f"visual: max_frames of max_side take more than {MAX_MEDIA_BYTES} bytes")
        if audio and audio.window_s * audio.sample_rate_hz * 4 > MAX_MEDIA_BYTES:
            raise ValueError(f"audio: window_s takes more than {MAX_MEDIA_BYTES} bytes")
        if (self.precision == "fp32") != (self.quantised_from is None):
            raise ValueError("quantised_from is needed with a precision other than fp32, and only then")
        if (self.personal_to is None) != (self.personalised_from is None):
            raise ValueError("personal_to and personalised_from go together")
        return self

    @property
    def graphs(self) -> list[str]:
        """File names of the ONNX graphs."""
        parts = self.transmitters
        graphs = [part.graph for part in (parts.visual, parts.audio, parts.text) if part is not None]
        return graphs + [graph for head in self.heads.values() for graph in (head.forward, head.gradient)]

    @property
    def heads(self) -> dict[str, Head]:
        """Heads that a device can learn, by transmitter."""
        parts = {"visual": self.transmitters.visual, "audio": self.transmitters.audio}
        return {name: part.head for name, part in parts.items() if part is not None and part.head is not None}


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        folder: where its files lie.
        manifest: what it says about itself.
    """

    folder: Path
    manifest: Manifest

    @property
    def hash(self) -> str:
        """SHA-256, lower-case hexadecimal, that names this bundle to a server."""
        return self.manifest.bundle_hash

    def media_spec(self) -> MediaSpec:
        """Rates and window at which media is decoded for this bundle's transmitters."""
        spec = MediaSpec()
        visual, audio = self.manifest.transmitters.visual, self.manifest.transmitters.audio
        return MediaSpec(
            frame_rate_hz=visual.frame_rate_hz if visual else spec.frame_rate_hz,
            max_frames=visual.max_frames if visual else spec.max_frames,
            max_side=visual.max_side if visual else spec.max_side,
            sample_rate_hz=audio.sample_rate_hz if audio else spec.sample_rate_hz,
            window_s=max([part.window_s for part in (visual, audio) if part], default=spec.window_s),
        )


def bundle_hash(manifest: Mapping[str, Any]) -> str:
    """SHA-256 (hexadecimal) of a manifest's canonical JSON, ``bundle_hash`` itself left out."""
    covered = {key: value for key, value in manifest.items() if key != "bundle_hash"}
    canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, fields: Mapping[str, Any]) -> Bundle:
    """Complete a manifest from the files in a folder, and write it there.

    Args:
        folder: holds the graphs and the tokenizer, and nothing that does not belong to the bundle.
        fields: the manifest without ``files`` and ``bundle_hash``, which are computed.

    Returns:
        The bundle, verified as a device would.

    Raises:
        BundleError: as :func:`load_bundle`.
    """
    files = sorted(path for path in folder.iterdir() if path.name not in NOT_LISTED)
    manifest = dict(fields) | {
        "files": {path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in files}
    }
    manifest["bundle_hash"] = bundle_hash(manifest)
    (folder / SIGNATURES).unlink(missing_ok=True)  # of another bundle
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return load_bundle(folder)


_FETCH_AGAIN = "fetch it again with `device-agent pull`"


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle's manifest and verify every file that it lists.

    Raises:
        BundleError: says what is missing, altered or not understood, and what to do about it.
    """
    try:
        manifest = read_manifest(folder)
        _verify_files(folder, manifest)
    except OSError as error:  # also where another bundle takes its place between two looks
        name = Path(error.filename).name if error.filename else "a file"
        why = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise BundleError(f"bundle {folder}: {name} {why}", advice=_FETCH_AGAIN) from error
    return Bundle(folder, manifest)


def _verify_files(folder: Path, manifest: Manifest) -> None:
    for name, listed in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"bundle {folder}: {name} is missing", advice=_FETCH_AGAIN)
        if path.stat().st_size != listed.bytes:
            raise BundleError(
                f"bundle {folder}: {name} has {path.stat().st_size} bytes, not its manifest's {listed.bytes}",
                advice=_FETCH_AGAIN,
            )
        if sha256_of(path) != listed.sha256:
            raise BundleError(
                f"bundle {folder}: the checksum of {name} is not that of its manifest", advice=_FETCH_AGAIN
            )
    for name in manifest.graphs:
        refuse_external_data_of(folder / name)


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest and verify its hash; its files are not looked at.

    Raises:
        BundleError: there is none, or it was altered, or it is not understood.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"no device bundle at {folder}", advice="fetch one with `device-agent pull`")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"bundle {folder}: {MANIFEST} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise ValueError("is no JSON object")
        manifest = Manifest.model_validate(raw)
        computed = bundle_hash(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "manifest"
        raise BundleError(f"bundle {folder}: {MANIFEST}: {field}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"bundle {folder}: {MANIFEST} cannot be read: {error}") from error
    if computed != manifest.bundle_hash:
        raise BundleError(
            f"bundle {folder}: {MANIFEST} was altered: its hash is {computed}, it says {manifest.bundle_hash}"
        )
    return manifest
