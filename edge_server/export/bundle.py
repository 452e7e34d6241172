"""The device's half, from torch to a device bundle: ONNX graphs from raw media to power-normalised tokens.

Resizing, spectrogram, normalisation, pooling and power normalisation all lie inside the graphs. An export
ends with a parity check: ONNX Runtime and torch give the same tokens for every modality and token length.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.onnx.utils import register_custom_op_symbolic

from device_agent.bundle.bundle import TOKENS, Bundle, write_manifest
from edge_server.errors import ExportError
from edge_server.export.graphs import GRAPHS
from edge_server.export.halves import store_halves
from edge_server.export.heads import export_head
from edge_server.model.config import TOKEN_LENGTHS
from edge_server.model.head_gradient import can_learn_on_a_device
from edge_server.model.link import Link
from edge_server.model.modality import TEXT
from edge_server.model.provenance import current_commit
from edge_server.model.tokenizer import save_compact

#: Largest difference between ONNX Runtime and torch, relative to the tokens' root mean square.
PARITY_TOLERANCE = 1e-3
_OPSET = 18


@dataclass(frozen=True)
class _Sample:
    """Inputs that a graph is tried on."""

    graph: str
    inputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class Exported:
    """A device bundle that has passed its check.

    Attributes:
        bundle: as a device reads it.
        parity: per graph, the largest difference from torch, relative to the tokens' root mean square.
    """

    bundle: Bundle
    parity: Mapping[str, float]


def export_bundle(link: Link, folder: Path, commit: str | None = None) -> Exported:
    """Write a device bundle and check it against torch.

    Args:
        link: the trained model.
        folder: where the bundle goes.
        commit: of the code that trained the model; found with git where None.

    Raises:
        ExportError: a graph's tokens differ from torch's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    link = link.eval()
    config = link.config
    transmitters = (*link.slots, *([TEXT] if config.analog_text else []))
    graphs = {name: GRAPHS[name].build(link).eval() for name in transmitters}
    length = torch.tensor([config.token_lengths[len(config.token_lengths) // 2]])
    for name, graph in graphs.items():
        record = GRAPHS[name]
        example = record.example() | ({"token_length": length} if record.takes_length else {})
        _export(graph, example, record.dynamic, folder / f"{name}.onnx")
        store_halves(folder / f"{name}.onnx")
    save_compact(link.tokenizer, folder / "tokenizer.json")
    parity = check_parity(graphs, folder, config.token_lengths)
    heads = {
        name: export_head(link.heads[name], config.token_lengths, folder, name)
        for name in link.slots
        if can_learn_on_a_device(link.heads[name])
    }
    bundle = write_manifest(
        folder,
        {
            "format": 1,
            "name": config.name,
            "channel_dim": config.channel_dim,
            "token_lengths": list(config.token_lengths),
            "transmitters": {
                name: {"graph": f"{name}.onnx", **GRAPHS[name].described(config), **_head(heads.get(name))}
                for name in transmitters
            },
            # Said only of those that are: other bundles keep the hash that they were given before.
            **({"nested": True} if config.nested else {}),
            "tokenizer": "tokenizer.json",
            "precision": "fp32",
            "training_commit": commit if commit is not None else current_commit(),
        },
    )
    return Exported(bundle, parity)


def _head(files: Mapping[str, str] | None) -> dict[str, Any]:
    return {} if files is None else {"head": dict(files)}


def check_parity(
    graphs: Mapping[str, nn.Module], folder: Path, token_lengths: Sequence[int] = TOKEN_LENGTHS
) -> dict[str, float]:
    """Compare ONNX Runtime with torch on media of several sizes, at every token length.

    Returns:
        Per graph, the largest difference relative to the tokens' root mean square.

    Raises:
        ExportError: a difference exceeds PARITY_TOLERANCE, or is not a number.
    """
    worst: dict[str, float] = {}
    sessions = {
        name: onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in graphs
    }
    for sample in _samples(graphs, token_lengths):
        with torch.inference_mode():
            made = graphs[sample.graph](*sample.inputs.values())
            expected = (made[0] if isinstance(made, tuple) else made).numpy()
        (found,) = sessions[sample.graph].run([TOKENS], {k: v.numpy() for k, v in sample.inputs.items()})
        if found.shape != expected.shape:
            raise ExportError(f"{sample.graph}: tokens of shape {found.shape}, torch gives {expected.shape}")
        scale = float(np.sqrt(np.mean(expected**2)))
        difference = float(np.abs(found - expected).max()) / scale
        worst[sample.graph] = max(worst.get(sample.graph, 0.0), difference)
        if not difference <= PARITY_TOLERANCE:
            described = {k: tuple(v.shape) for k, v in sample.inputs.items()}
            raise ExportError(
                f"{sample.graph}: tokens differ from torch by {difference:.2e} (relative) for {described}"
            )
    return worst


def _samples(names: Iterable[str], token_lengths: Sequence[int]) -> Iterator[_Sample]:
    generator = torch.Generator().manual_seed(0)
    for name in names:
        for media in GRAPHS[name].samples(generator):
            if not GRAPHS[name].takes_length:
                yield _Sample(name, media)
                continue
            for length in token_lengths:
                yield _Sample(name, media | {"token_length": torch.tensor([length])})


def _export(
    graph: nn.Module, inputs: Mapping[str, Tensor], dynamic: Mapping[str, Mapping[int, str]], path: Path
) -> None:
    register_custom_op_symbolic("aten::_upsample_bilinear2d_aa", _resize, _OPSET)
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracing exporter is the one that keeps a token length chosen at run time; it warns of its age,
        # and of shapes that are constants here on purpose. The parity check is what vouches for the result.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(getattr(graph, "outputs", (TOKENS,))),
            dynamic_axes={**{k: dict(v) for k, v in dynamic.items()}, TOKENS: {0: "tokens"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(str(path), full_check=True)


def _resize(graph: Any, maps: Any, size: Any, align_corners: Any, scales: Any) -> Any:
    """Antialiased resizing as ONNX's operator: the one step that the tracing exporter does not know."""
    unused = graph.op("Constant", value_t=torch.tensor([], dtype=torch.float32))
    return graph.op(
        "Resize",
        maps,
        unused,  # region of interest
        unused,  # scales
        size,
        axes_i=[2, 3],
        mode_s="linear",
        coordinate_transformation_mode_s="half_pixel",
        antialias_i=1,
        exclude_outside_i=1,
    )
