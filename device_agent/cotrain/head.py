"""A transmitter's head that learns: forward and gradient with ONNX Runtime, weights and optimiser in numpy.

features [B, P, D] ─▶ head.onnx(weights) ─▶ tokens ─▶ channel ─▶ ... ─▶ gradient by tokens
                            weights ◀─ AdamW ◀─ clipped, checked ◀─ head_gradient.onnx
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from device_agent.bundle.bundle import FEATURES, TOKENS, Bundle, Head
from device_agent.cotrain.weights import read_weights
from device_agent.errors import BundleError, TransmitterError

Array = npt.NDArray[np.float32]
_PREFIX = "gradient."


class LearningHead:
    """The head of one transmitter.

    Args:
        bundle: verified.
        slot: the transmitter's name.
        head: what the manifest says of it.
        threads: within one operator.

    Raises:
        BundleError: its files do not belong together.
    """

    def __init__(self, bundle: Bundle, slot: str, head: Head, threads: int = 1) -> None:
        self.slot = slot
        self._forward = _open(bundle, head.forward, threads)
        self._gradient = _open(bundle, head.gradient, threads)
        self.weights, _ = read_weights(bundle.folder / head.weights)
        taken = {each.name for each in self._forward.get_inputs()} - {FEATURES, "token_length"}
        if taken != set(self.weights):
            raise BundleError(
                f"{head.forward} takes {sorted(taken)}, {head.weights} holds {sorted(self.weights)}"
            )
        self._names = [_PREFIX + name for name in self.weights]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each weight."""
        return {name: each.shape for name, each in self.weights.items()}

    @property
    def features_shape(self) -> tuple[int, int]:
        """Encoder tokens and their width, as the graph takes them."""
        (taken,) = (each for each in self._gradient.get_inputs() if each.name == FEATURES)
        _, patches, width = taken.shape
        return int(patches), int(width)

    def forward(self, features_BPD: Array, token_length: int) -> Array:
        """Power-normalised tokens, float32 [B, token_length, channel_dim].

        Raises:
            TransmitterError: the graph failed, or returned what is not finite.
        """
        (x_BTC,) = self._run(self._forward, [TOKENS], features_BPD, token_length, {})
        return x_BTC

    def gradient(self, features_BPD: Array, token_length: int, gradient_BTC: Array) -> dict[str, Array]:
        """The gradient by each weight; raises as :meth:`forward`."""
        found = self._run(self._gradient, self._names, features_BPD, token_length, {"gradient": gradient_BTC})
        return dict(zip(self.weights, found, strict=True))

    def load(self, weights: Mapping[str, Array]) -> None:
        """Take these weights' values, of the same shapes."""
        for name, each in self.weights.items():
            np.copyto(each, weights[name])

    def _run(
        self, session: Any, outputs: list[str], features_BPD: Array, token_length: int, more: dict[str, Array]
    ) -> list[Array]:
        inputs = {
            FEATURES: np.ascontiguousarray(features_BPD),
            "token_length": np.array([token_length], np.int64),
            **{name: np.ascontiguousarray(each) for name, each in more.items()},
            **self.weights,
        }
        try:
            found: list[Array] = session.run(outputs, inputs)
        except Exception as error:  # ONNX Runtime's errors share no public base class
            first = (str(error).strip() or repr(error)).splitlines()[0]
            raise TransmitterError(f"{self.slot}: its head failed: {first}") from error
        if not all(np.isfinite(each).all() for each in found):
            raise TransmitterError(f"{self.slot}: its head returned what is not finite")
        return found


def learning_heads(bundle: Bundle, threads: int = 1) -> dict[str, LearningHead]:
    """The heads of a bundle, by transmitter.

    Raises:
        BundleError: it has none that can be learned on a device.
    """
    heads = bundle.manifest.heads
    if not heads:
        raise BundleError(
            f"bundle {bundle.hash[:12]} has no head that can be learned on a device",
            advice="write it again with this release: `edge-server export`",
        )
    return {slot: LearningHead(bundle, slot, head, threads) for slot, head in heads.items()}


def _open(bundle: Bundle, graph: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            str(bundle.folder / graph), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # as above
        raise TransmitterError(f"{graph} cannot be opened: {str(error).splitlines()[0]}") from error
