"""AdamW in numpy, as torch computes it: decoupled weight decay, on matrices only.

Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2; compared with torch.optim.AdamW in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
BETAS = (0.9, 0.98)
"""Of the moving means of gradient and squared gradient: those of :mod:`edge_server.training.loop`."""
EPSILON = 1e-8


class AdamW:
    """Moves weights in place.

    Args:
        weights: float32, by name.
        weight_decay: of matrices.
    """

    def __init__(self, weights: dict[str, Array], weight_decay: float) -> None:
        self.weights = weights
        self.weight_decay = weight_decay
        self.steps = 0
        self._means = {name: np.zeros_like(each) for name, each in weights.items()}
        self._squares = {name: np.zeros_like(each) for name, each in weights.items()}

    def step(self, gradients: Mapping[str, Array], learning_rate: float) -> None:
        """One step down.

        Args:
            gradients: by name; as many as there are weights.
            learning_rate: of this step.
        """
        self.steps += 1
        first, second = BETAS
        rate = learning_rate / (1.0 - first**self.steps)
        root = math.sqrt(1.0 - second**self.steps)
        for name, weight in self.weights.items():
            gradient, mean, square = gradients[name], self._means[name], self._squares[name]
            if weight.ndim >= 2:
                weight *= np.float32(1.0 - learning_rate * self.weight_decay)
            mean += np.float32(1.0 - first) * (gradient - mean)
            square *= np.float32(second)
            square += np.float32(1.0 - second) * gradient * gradient
            weight -= np.float32(rate) * (mean / (np.sqrt(square) / np.float32(root) + np.float32(EPSILON)))

    def state(self) -> Iterator[tuple[str, Array]]:
        """What has to be kept of it, by name."""
        for name, mean in self._means.items():
            yield f"mean.{name}", mean
            yield f"square.{name}", self._squares[name]

    def restore(self, state: Mapping[str, Array], steps: int) -> None:
        """Go on from what :meth:`state` gave after so many steps.

        Raises:
            KeyError: something is missing.
            ValueError: a shape differs.
        """
        for name in self.weights:
            np.copyto(self._means[name], state[f"mean.{name}"])
            np.copyto(self._squares[name], state[f"square.{name}"])
        self.steps = steps


def clip(gradients: dict[str, Array], most: float) -> float:
    """Scale gradients in place so that their norm, all together, is at most this; returns what it was."""
    norm = math.sqrt(sum(float(np.vdot(each, each)) for each in gradients.values()))
    if norm > most:
        for each in gradients.values():
            each *= np.float32(most / (norm + 1e-6))
    return norm
