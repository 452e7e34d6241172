"""Gains told better than by their pilots: what a served model's tokens are like, for who takes them in."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_server.model.gain_refinement import GainRefiner
from edge_server.model.modality import place_of
from edge_server.model.token_prior import FILE, TokenPriors

logger = logging.getLogger(__name__)
Array = npt.NDArray[np.float32]


class Refinement:
    """Implements :class:`edge_server.frontdoor.ports.GainRefinement` with the priors of a model folder.

    Args:
        priors: of the served model.
    """

    def __init__(self, priors: TokenPriors) -> None:
        self._refiners = {place: GainRefiner(prior) for place, prior in priors.of.items()}
        self._sizes = {place: prior.means_KD.shape[1] for place, prior in priors.of.items()}

    def __call__(self, modality: str, x_TC: Array, snr_db: float, pilots: int) -> tuple[Array, float]:
        """A codeword as it would be with the better gain, and its SNR; see the port."""
        place = str(place_of(modality)), len(x_TC)
        if self._sizes.get(place) != x_TC.size:
            return x_TC, snr_db
        return self._refiners[place].refine(x_TC, snr_db, pilots)


def read_refinement(folder: Path, bundle_hash: str) -> Refinement | None:
    """The refinement of a model folder; None: it has none, or one for another bundle's tokens.

    Args:
        folder: of the model.
        bundle_hash: of its device bundle.

    Raises:
        ModelError: what it holds cannot be read.
    """
    if not (folder / FILE).is_file():
        return None
    priors = TokenPriors.load(folder)
    if priors.bundle_hash != bundle_hash:
        logger.warning(
            "%s is of another bundle's tokens, and is not used; `edge-server token-prior` makes it anew", FILE
        )
        return None
    return Refinement(priors)
