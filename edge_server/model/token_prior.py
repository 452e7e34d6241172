"""What tokens are like before anything is received: a mixture of Gaussians for each slot and token length.

    token_prior.safetensors    means, weights, axes and variances; which bundle's tokens they are of

Blocks of a slot are drawn from ``weights_K`` clusters with means of their own and one covariance, which has
full variance along ``axes_DR`` and ``rest`` along all others (mixture of probabilistic PCA with shared axes;
Tipping and Bishop 1999). D is token_length * channel_dim: a block is one vector here. Fitted by
:mod:`edge_server.training.token_prior`; what it is good for is :mod:`edge_server.model.gain_refinement`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from edge_server.errors import ModelError

FILE = "token_prior.safetensors"
_BUNDLE = "bundle_hash"
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TokenPrior:
    """Of one slot and token length.

    Attributes:
        means_KD: of the clusters.
        weights_K: of them, sum 1.
        axes_DR: orthonormal; what varies within a cluster varies mostly along them.
        variances_R: along the axes.
        rest: along any other direction, [1].
    """

    means_KD: Array
    weights_K: Array
    axes_DR: Array
    variances_R: Array
    rest: Array


@dataclass(frozen=True)
class TokenPriors:
    """Of a model.

    Attributes:
        bundle_hash: of the device bundle whose tokens are meant; another's are other tokens.
        of: by slot and token length.
    """

    bundle_hash: str
    of: Mapping[tuple[str, int], TokenPrior]

    def save(self, model: Path) -> None:
        """Write them into a model folder, in half precision."""
        tensors = {
            f"{slot}.{length}.{field.name}": np.ascontiguousarray(getattr(prior, field.name), np.float16)
            for (slot, length), prior in self.of.items()
            for field in fields(prior)
        }
        save_file(tensors, model / FILE, metadata={_BUNDLE: json.dumps(self.bundle_hash)})

    @classmethod
    def load(cls, model: Path) -> TokenPriors:
        """Read them from a model folder.

        Raises:
            ModelError: they cannot be read.
        """
        try:
            with safe_open(model / FILE, "numpy") as file:
                bundle_hash = json.loads(file.metadata()[_BUNDLE])
                tensors = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118 - no mapping
            names = {tuple(name.split(".")[:2]) for name in tensors}
            found = {
                (slot, int(length)): TokenPrior(
                    **{field.name: tensors[f"{slot}.{length}.{field.name}"] for field in fields(TokenPrior)}
                )
                for slot, length in names
            }
            for place, prior in found.items():
                _check(place, prior)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{model / FILE}: cannot be read: {error}") from error
        return cls(str(bundle_hash), found)


def _check(place: tuple[str, int], prior: TokenPrior) -> None:
    clusters, size = prior.means_KD.shape
    shapes = {
        "weights_K": (clusters,),
        "axes_DR": (size, len(prior.variances_R)),
        "variances_R": (len(prior.variances_R),),
        "rest": (1,),
    }
    for name, shape in shapes.items():
        if getattr(prior, name).shape != shape:
            raise ValueError(f"{place}: {name} has shape {getattr(prior, name).shape}, not {shape}")
    if not all(np.isfinite(getattr(prior, field.name)).all() for field in fields(prior)):
        raise ValueError(f"{place}: holds numbers that are not finite")
    if not (prior.weights_K.min() > 0.0 and prior.variances_R.min() > 0.0 and prior.rest.min() > 0.0):
        raise ValueError(f"{place}: a weight or a variance is not above 0")
