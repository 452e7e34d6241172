"""A device bundle behind whose graphs a bottleneck comes: the same encoders, fewer reals on air.

    graph of before ─▶ tokens [T, E + 2] ─▶ scale off ─▶ down ─▶ scale on ─▶ [T, R + 2]

The encoders are taken from the bundle that there is: the checkpoint that it was split from is not needed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import compose
from torch import Tensor, nn

from device_agent.bundle.bundle import Bundle, write_manifest
from edge_server.errors import ExportError
from edge_server.export.split_graphs import PARITY_TOLERANCE, quietly
from edge_server.model.split.bottleneck import Bottleneck
from edge_server.model.split.scale import SCALE_REALS, add_scale, take_scale

_OPSET = 18
_PREFIX = "bottleneck_"
_MOST_TOKENS = 2**16


class _Tail(nn.Module):
    """What comes behind a graph."""

    def __init__(self, bottleneck: Bottleneck, log_rms: tuple[float, float]) -> None:
        super().__init__()
        self.down, self._log_rms = bottleneck.down, log_rms

    def forward(self, whole: Tensor) -> Tensor:
        """[T, E + 2] to [T, R + 2]."""
        return add_scale(self.down(take_scale(whole, self._log_rms, exact=False)), self._log_rms)


def write_bundle(
    before: Bundle,
    folder: Path,
    bottlenecks: Mapping[str, Bottleneck],
    log_rms: Mapping[str, tuple[float, float]],
    name: str,
    commit: str,
) -> Bundle:
    """Write the bundle.

    Args:
        before: the bundle that there is.
        folder: where the new one goes.
        bottlenecks: of each slot; what is sent has as many reals for all.
        log_rms: range of the scale of each slot.
        name: of the model.
        commit: at which it was trained.

    Raises:
        ExportError: a graph differs from torch.
    """
    folder.mkdir(parents=True)
    manifest = before.manifest.model_dump(mode="json", exclude={"files", "bundle_hash"}, exclude_none=True)
    (reals,) = {each.reals for each in bottlenecks.values()}
    for slot, bottleneck in bottlenecks.items():
        graph = manifest["transmitters"][slot]["graph"]
        _extend(before.folder / graph, folder / graph, bottleneck.cpu().eval(), log_rms[slot])
    shutil.copyfile(before.folder / manifest["tokenizer"], folder / manifest["tokenizer"])
    return write_manifest(
        folder,
        manifest | {"name": name, "channel_dim": reals + SCALE_REALS, "training_commit": commit},
    )


def _extend(source: Path, target: Path, bottleneck: Bottleneck, log_rms: tuple[float, float]) -> None:
    tail = _Tail(bottleneck, log_rms).eval()
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(5, bottleneck.width, generator=generator)
    middle = float(np.exp(sum(log_rms) / 2))
    whole = add_scale(features * middle, log_rms)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "tail.onnx")
        tokens = torch.export.Dim("tokens", min=2, max=_MOST_TOKENS)
        with quietly(), torch.inference_mode():
            torch.onnx.export(
                tail,
                (whole,),
                str(path),
                input_names=["whole"],
                output_names=["fewer"],
                dynamic_shapes=({0: tokens},),
                opset_version=_OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        _check(path, tail, whole)
        first, second = onnx.load(str(source)), onnx.load(str(path))
    second = compose.add_prefix(second, _PREFIX)
    second.ir_version = first.ir_version = max(first.ir_version, second.ir_version)
    joined = compose.merge_models(first, second, io_map=[("tokens", f"{_PREFIX}whole")])
    # Devices ask for it by this name.
    for node in joined.graph.node:
        node.input[:] = ["all_tokens" if each == "tokens" else each for each in node.input]
        node.output[:] = [
            "tokens" if each == f"{_PREFIX}fewer" else "all_tokens" if each == "tokens" else each
            for each in node.output
        ]
    joined.graph.output[0].name = "tokens"
    onnx.save(joined, str(target))
    onnx.checker.check_model(str(target))


def _check(path: Path, tail: nn.Module, whole: Tensor) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = tail(whole).numpy()
    (found,) = session.run(None, {session.get_inputs()[0].name: whole.numpy()})
    difference = float(np.abs(found - expected).max() / np.sqrt(np.mean(expected**2)))
    if not difference <= PARITY_TOLERANCE:
        raise ExportError(f"bottleneck: tokens differ from torch by {difference:.2e} (relative)")
