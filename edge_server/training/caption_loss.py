"""What a loss of stage 1 is that knows clips and their captions, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from edge_server.training.forward import Draw


class CaptionLoss(Protocol):
    """Brings what was received of some clips near their captions."""

    def __call__(
        self, received: Mapping[str, Tensor], captions: Sequence[str], draw: Draw
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss, a scalar, and figures for the log.

        Args:
            received: embeddings of each slot, [B, slots, E].
            captions: of each clip.
            draw: source of all randomness.
        """
