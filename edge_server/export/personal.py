"""A device's own bundle: another one with the heads that the device has co-trained in place of its own.

    bundle ─▶ same encoders, same sizes; weights of heads found in the graphs by their values, and replaced
           ─▶ checked: the graph's tokens are those that head.onnx makes of its features with the new weights

Nothing is traced again, so it takes a moment, and neither torch nor an exporter.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from device_agent.bundle.bundle import FEATURES, MANIFEST, TOKENS, Bundle, write_manifest
from device_agent.cotrain.weights import read_weights, write_weights
from edge_server.errors import ExportError

Array = npt.NDArray[np.float32]
#: Largest difference of the new graph's tokens from the head's, relative to their root mean square.
_TOLERANCE = 1e-4


def with_heads(
    source: Bundle, heads: Mapping[str, Mapping[str, Array]], folder: Path, device: str | None
) -> Bundle:
    """Write a bundle with other heads.

    Args:
        source: whose encoders stay.
        heads: weights by transmitter and name; those that are not there stay.
        folder: where the bundle goes; must not exist.
        device: whose they are; None: everybody's.

    Raises:
        ExportError: the source's weights are not found in its graphs, or the result computes something else.
    """
    folder.mkdir(parents=True)
    for name in source.manifest.files:
        shutil.copyfile(source.folder / name, folder / name)
    for slot, weights in heads.items():
        head = source.manifest.heads.get(slot)
        if head is None:
            raise ExportError(f"{slot}: the bundle's head cannot be learned on a device")
        former, _ = read_weights(source.folder / head.weights)
        graph = getattr(source.manifest.transmitters, slot).graph
        _replace(folder / graph, slot, former, weights)
        write_weights(folder / head.weights, dict(weights), {})
        _check(folder / graph, folder / head.forward, slot, weights, source.manifest.token_lengths[-1])
    raw: dict[str, Any] = json.loads((source.folder / MANIFEST).read_text(encoding="utf-8"))
    for key in ("files", "bundle_hash", "personal_to", "personalised_from"):
        raw.pop(key, None)
    if device is not None:
        raw |= {
            "personal_to": device,
            "personalised_from": source.manifest.personalised_from or source.hash,
        }
    return write_manifest(folder, raw)


def _replace(path: Path, slot: str, former: Mapping[str, Array], weights: Mapping[str, Array]) -> None:
    """A graph holds weights as raw values, matrices as they are or turned: these bytes, once each."""
    graph = path.read_bytes()
    for name, before in former.items():
        after = np.asarray(weights[name], np.float32)
        if after.shape != before.shape:
            raise ExportError(f"{slot}.{name}: shape {after.shape}; {before.shape} is needed")
        found = 0
        for turned in (False, True) if before.ndim == 2 else (False,):
            wanted, given = (_bytes(each.T if turned else each) for each in (before, after))
            count = graph.count(wanted)
            if count == 1 and not found:
                graph = graph.replace(wanted, given)
            found += count
        if found != 1:
            raise ExportError(f"{slot}.{name}: is {found} times in {path.name}; once is needed")
    path.write_bytes(graph)


def _bytes(weight: Array) -> bytes:
    return np.ascontiguousarray(weight, "<f4").tobytes()


def _check(graph: Path, forward: Path, slot: str, weights: Mapping[str, Array], length: int) -> None:
    """Compare the graph with the head's own, on made-up media."""
    whole, head = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for path in (graph, forward)
    )
    rng = np.random.default_rng(0)
    media = next(each for each in whole.get_inputs() if each.name != "token_length")
    shape = tuple(size if isinstance(size, int) else 48 for size in media.shape)
    made: npt.NDArray[Any] = (
        rng.integers(0, 256, shape, dtype=np.uint8)
        if media.type == "tensor(uint8)"
        else (rng.standard_normal(tuple(16_000 if size == 48 else size for size in shape)) * 0.1)
    )
    asked = np.array([length], np.int64)
    if made.dtype != np.uint8:
        made = made.astype(np.float32)
    tokens, features = whole.run([TOKENS, FEATURES], {media.name: made, "token_length": asked})
    given = {FEATURES: features[None], "token_length": asked, **weights}
    (expected,) = head.run([TOKENS], given)
    difference = float(np.abs(tokens - expected[0]).max() / np.sqrt(np.mean(np.square(expected[0]))))
    if not difference <= _TOLERANCE:
        raise ExportError(f"{slot}: the personal graph's tokens differ from its head's by {difference:.2e}")
