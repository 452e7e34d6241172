"""The heads of a device bundle for themselves: forward and gradient as ONNX graphs, checked against autograd.

    SLOT.head.onnx            features, token_length, weights ─▶ tokens
    SLOT.head_gradient.onnx   features, token_length, gradient by tokens, weights ─▶ gradient by each weight
    SLOT.head.safetensors     the weights that the transmitter's own graph holds

With them a device learns its head without torch (:mod:`device_agent.cotrain`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from device_agent.bundle.bundle import FEATURES, TOKENS
from edge_server.errors import ExportError
from edge_server.model.head import TransmitterHead
from edge_server.model.head_gradient import WEIGHTS, HeadForward, HeadGradient, weights_of
from edge_server.model.selection import MatrixSelection

#: Largest difference between ONNX Runtime and torch's autograd: norm of the difference over the norm.
GRADIENT_TOLERANCE = 1e-5
_OPSET = 18
_PREFIX = "gradient."


def export_head(head: nn.Module, token_lengths: Sequence[int], folder: Path, slot: str) -> Mapping[str, str]:
    """Write a head's graphs and weights into a bundle's folder, and compare them with torch.

    Args:
        head: :func:`edge_server.model.head_gradient.can_learn_on_a_device`.
        token_lengths: all that it was trained for.
        folder: of the bundle.
        slot: of the head; its files are named by it.

    Returns:
        What the manifest says of it.

    Raises:
        ExportError: tokens or gradients differ from torch's.
    """
    assert isinstance(head, TransmitterHead)  # noqa: S101 - narrows the type
    head = head.eval()
    files = {
        "forward": f"{slot}.head.onnx",
        "gradient": f"{slot}.head_gradient.onnx",
        "weights": f"{slot}.head.safetensors",
    }
    weights = weights_of(head)
    inputs = next(_samples(head, token_lengths[len(token_lengths) // 2 :]))
    gradient = inputs.pop("gradient")
    batch = {0: "batch"}
    _trace(
        HeadForward(head),
        inputs | weights,
        folder / files["forward"],
        [TOKENS],
        {FEATURES: batch, TOKENS: batch},
    )
    _trace(
        HeadGradient(head),
        inputs | {"gradient": gradient} | weights,
        folder / files["gradient"],
        [_PREFIX + name for name in WEIGHTS],
        {FEATURES: batch, "gradient": {**batch, 1: "tokens"}},
    )
    save_file({name: each.contiguous().clone() for name, each in weights.items()}, folder / files["weights"])
    worst = head_parity(head, token_lengths, folder, slot)
    if not worst <= GRADIENT_TOLERANCE:
        raise ExportError(f"{slot}: the head's gradient differs from torch's by {worst:.2e} (relative)")
    return files


def head_parity(head: TransmitterHead, token_lengths: Sequence[int], folder: Path, slot: str) -> float:
    """The largest relative difference from torch of tokens and gradients, at every token length."""
    forward, gradient = (
        onnxruntime.InferenceSession(folder / f"{slot}.{kind}.onnx", providers=["CPUExecutionProvider"])
        for kind in ("head", "head_gradient")
    )
    weights = {name: each.numpy() for name, each in weights_of(head).items()}
    worst = 0.0
    for sample in _samples(head, token_lengths):
        given = {name: each.numpy() for name, each in sample.items() if name != "gradient"} | weights
        copy = {name: each.clone().requires_grad_() for name, each in weights_of(head).items()}
        tokens: Tensor = torch.func.functional_call(
            head, copy, (sample[FEATURES], int(sample["token_length"]))
        )
        expected = torch.autograd.grad(tokens, list(copy.values()), sample["gradient"])
        (found,) = forward.run([TOKENS], given)
        worst = max(worst, _difference(found, tokens.detach()))
        by_weight = gradient.run(
            [_PREFIX + name for name in WEIGHTS], given | {"gradient": sample["gradient"].numpy()}
        )
        for each, torchs in zip(by_weight, expected, strict=True):
            worst = max(worst, _difference(each, torchs))
    return worst


def _difference(found: npt.NDArray[np.float32], expected: Tensor) -> float:
    if found.shape != tuple(expected.shape):
        return float("inf")
    exact = expected.numpy().astype(np.float64)
    return float(np.linalg.norm(found - exact) / max(float(np.linalg.norm(exact)), 1e-12))


def _samples(head: TransmitterHead, token_lengths: Sequence[int]) -> Iterator[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    assert isinstance(head.pooling, MatrixSelection)  # noqa: S101 - narrows the type
    patches = head.pooling.matrix(token_lengths[0]).shape[1]
    channel_dim = head.outer.out_features
    for length in token_lengths:
        for batch in (3, 1):
            yield {
                FEATURES: torch.randn(batch, patches, head.hidden_size, generator=generator),
                "token_length": torch.tensor([length]),
                "gradient": torch.randn(batch, length, channel_dim, generator=generator) * 1e-2,
            }


def _trace(
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    path: Path,
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
) -> None:
    with warnings.catch_warnings(), torch.inference_mode():
        # As of the transmitters' graphs: the tracing exporter keeps a token length chosen at run time.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(each) for name, each in dynamic.items()},
            opset_version=_OPSET,
            do_constant_folding=True,
            dynamo=False,
        )
    onnx.checker.check_model(str(path), full_check=True)
