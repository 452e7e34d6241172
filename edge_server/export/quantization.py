"""A device bundle in int8: the encoders' convolutions and matrix products on 8 bits, the rest as it was.

    bundle (fp32) ─▶ ranges of activations, over clips ─▶ weights and ranges as integers ─▶ bundle (int8)
                                                                 tokens of further clips beside fp32's ◀─┘

Front end, attention scores, pooling, head and power normalisation stay in fp32, of which the weights are kept
in 16 bits. Why, and why in this scheme: docs/decisions/0012-int8-bundles.md. An encoder whose activations
integers are too coarse for has integers for weights only (:mod:`edge_server.export.narrow`).
"""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from device_agent.bundle.bundle import MANIFEST, Bundle, write_manifest
from device_agent.media.clip import Clip
from device_agent.transmitter import Transmitter
from edge_server.errors import ExportError
from edge_server.export.halves import store_halves, widened
from edge_server.export.narrow import Bits, narrow

#: How far the error of int8 tokens has to lie below the tokens: below the noise of most channels.
MIN_FIDELITY_DB = 20.0
#: Clips that ranges are taken from.
CALIBRATION_CLIPS = 64
#: Clips that the check is made on.
CHECK_CLIPS = 16
#: Names of the encoders' nodes begin so: what the exporter makes of
#: :class:`edge_server.export.graphs.VisualGraph`.
_ENCODER = "/encoder/"
#: A tokenizer of fewer bytes is left as it is.
_LARGE_TOKENIZER = 256 * 1024
#: A sum of fewer products is dearer in integers: it does not pay for gathering and converting them.
_MIN_TERMS = 64


@dataclass(frozen=True)
class Quantised:
    """An int8 bundle that has passed its check.

    Attributes:
        bundle: as a device reads it.
        fidelity_db: per modality, power of the fp32 bundle's tokens over that of int8's error [dB].
    """

    bundle: Bundle
    fidelity_db: Mapping[str, float]


def quantise_bundle(
    source: Bundle,
    clips: Sequence[Clip],
    folder: Path,
    *,
    least_db: float | None = None,
    weights: Bits | None = None,
) -> Quantised:
    """Write the int8 bundle of an fp32 bundle.

    Args:
        source: the fp32 bundle; a server that answers for it answers for the int8 bundle too.
        clips: CALIBRATION_CLIPS or fewer to take ranges from, then at least one to check on, from training.
        folder: where the bundle goes; what it holds is replaced only once the check has passed.
        least_db: how far the error has to lie below the tokens; None: MIN_FIDELITY_DB.
        weights: integers for weights only, of so many bits; None: for activations too.

    Raises:
        ExportError: too few clips, nothing that can be quantised, or tokens too far from the fp32 bundle's.
    """
    if source.manifest.precision != "fp32":
        raise ExportError(f"{source.folder} is a bundle in {source.manifest.precision}; fp32 is needed")
    if len(clips) < 2:
        raise ExportError(f"{len(clips)} clips to quantise with; at least 2 are needed")
    # Weights alone depend on nothing that is shown.
    known = clips[: min(CALIBRATION_CLIPS if weights is None else 1, len(clips) - 1)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        fresh = Path(scratch, "new")
        fresh.mkdir()
        for name in source.manifest.files:
            shutil.copyfile(source.folder / name, fresh / name)
        parts = source.manifest.transmitters
        if weights is not None:
            for part in (parts.visual, parts.audio):
                if part is not None:
                    narrow(source.folder / part.graph, fresh / part.graph, weights)
        if weights is None and parts.visual is not None:
            frames = [{"frames": clip.frames_THWC} for clip in known if clip.frames_THWC is not None]
            _quantise(source.folder / parts.visual.graph, fresh / parts.visual.graph, frames)
        if weights is None and parts.audio is not None:
            sound = [{"pcm": clip.pcm_S} for clip in known if clip.pcm_S is not None]
            _quantise(source.folder / parts.audio.graph, fresh / parts.audio.graph, sound)
        bundle = write_manifest(fresh, _manifest(source) | {"tokenizer": _packed_tokenizer(source, fresh)})
        least_db = MIN_FIDELITY_DB if least_db is None else least_db
        fidelity_db = check_fidelity(source, bundle, clips[len(known) :], least_db)
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        fresh.rename(folder)
    return Quantised(Bundle(folder, bundle.manifest), fidelity_db)


def check_fidelity(
    source: Bundle, quantised: Bundle, clips: Sequence[Clip], least_db: float = MIN_FIDELITY_DB
) -> dict[str, float]:
    """Compare the tokens of two bundles, at every token length.

    Returns:
        Per modality, power of the first one's tokens over that of the difference, at the worst length [dB].

    Raises:
        ExportError: a modality falls short of ``least_db``.
    """
    exact, rounded = Transmitter(source), Transmitter(quantised)
    worst: dict[str, float] = {}
    for length in source.manifest.token_lengths:
        errors: dict[str, list[float]] = {}
        for clip in clips:
            found = rounded.encode(clip, length).tokens
            for modality, x_TC in exact.encode(clip, length).tokens.items():
                error = float(np.mean(np.square(found[modality] - x_TC)) / np.mean(np.square(x_TC)))
                errors.setdefault(modality, []).append(error)
        for modality, values in errors.items():
            fidelity_db = float(-10.0 * np.log10(max(float(np.mean(values)), 1e-12)))
            worst[modality] = min(worst.get(modality, fidelity_db), fidelity_db)
    for modality, fidelity_db in worst.items():
        if not fidelity_db >= least_db:
            raise ExportError(
                f"{modality}: int8 tokens are {fidelity_db:.1f} dB above their error; "
                f"at least {least_db:g} dB are needed"
            )
    return worst


class _Media(CalibrationDataReader):  # type: ignore[misc]
    """Gives a graph its media, one after the other."""

    def __init__(self, media: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        self._left: Iterator[Mapping[str, npt.NDArray[Any]]] = iter(media)

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        # The encoders know no token length: any will do.
        media = next(self._left, None)
        return None if media is None else {**media, "token_length": np.array([1], np.int64)}


def _quantise(source: Path, target: Path, media: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
    model = widened(source)
    nodes = _worth_quantising(model.graph)
    if not nodes or not media:
        raise ExportError(
            f"{source.name}: {len(nodes)} nodes to quantise, on {len(media)} clips; none to spare"
        )
    with _quietly():
        quantize_static(
            model,
            str(target),
            _Media(media),
            # Operators on integers, as they are run: nothing is left to what a session makes of the graph.
            quant_format=QuantFormat.QOperator,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
        )
    store_halves(target, exact=False)
    onnx.checker.check_model(str(target))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """It recommends a step of its own that changes nothing here; the check vouches for the result."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _worth_quantising(graph: onnx.GraphProto) -> list[str]:
    """Names of the encoder's convolutions and matrix products with constant weights and enough terms."""
    shapes = {weights.name: tuple(weights.dims) for weights in graph.initializer}
    names = []
    for node in graph.node:
        if not node.name.startswith(_ENCODER) or node.op_type not in ("Conv", "MatMul", "Gemm"):
            continue
        shape = shapes.get(node.input[1])
        if shape is None:
            continue
        terms = int(np.prod(shape[1:])) if node.op_type == "Conv" else shape[0]
        if terms >= _MIN_TERMS:
            names.append(node.name)
    return names


def _packed_tokenizer(source: Bundle, fresh: Path) -> str:
    """Compress a tokenizer that is large beside integers; returns its name."""
    name = source.manifest.tokenizer
    path = fresh / name
    if path.stat().st_size < _LARGE_TOKENIZER:
        return name
    packed = fresh / f"{name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()
    return packed.name


def _manifest(source: Bundle) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((source.folder / MANIFEST).read_text(encoding="utf-8"))
    for computed in ("files", "bundle_hash"):
        del fields[computed]
    return fields | {"precision": "int8", "quantised_from": source.hash}
