"""Losses that more than one stage uses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Label that counts for nothing.
IGNORE = -100


def info_nce(a_BE: Tensor, b_BE: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018; symmetric as in CLIP) between paired embeddings.

    Args:
        a_BE: [B, E], one modality; row i belongs to row i of ``b_BE``.
        b_BE: [B, E], the other.
        temperature: tau; cosine similarities are divided by it.

    Returns:
        Scalar, nats; log(B) for embeddings that tell nothing.
    """
    logits = F.normalize(a_BE, dim=-1) @ F.normalize(b_BE, dim=-1).T / temperature
    truth = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth))
