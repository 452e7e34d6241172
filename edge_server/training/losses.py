"""Losses that more than one stage uses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Label that counts for nothing.
IGNORE = -100
#: Word of a place of which nothing is known: it counts for nothing.
UNKNOWN = ""

#: Of :func:`dictation`: how much nearer its own word should be than others, in mean square norms of words.
DICTATION_TEMPERATURE = 0.1


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


def dictation(said_BSE: Tensor, words_BS: Tensor, vocabulary_VE: Tensor) -> tuple[Tensor, float]:
    """How far embeddings are from words that they should be, and how surely no other word is nearer.

    Squared distances, in units of the mean square norm of a word: the mean to the right word, plus the
    cross-entropy of picking it when nearer words are likelier (Gaussian classes of one variance).

    Args:
        said_BSE: [B, S, E].
        words_BS: the right words, indices into the vocabulary, int64, [B, S]; IGNORE where none is known.
        vocabulary_VE: [V, E].

    Returns:
        Scalar loss; share of embeddings whose nearest word is the right one.
    """
    known = words_BS.flatten() != IGNORE
    words = words_BS.flatten()[known]
    if not len(words):
        return said_BSE.sum() * 0.0, 0.0
    power = vocabulary_VE.square().sum(dim=-1).mean()
    distances = torch.cdist(said_BSE.flatten(0, 1)[known], vocabulary_VE).square() / power
    loss = (
        F.cross_entropy(-distances / DICTATION_TEMPERATURE, words)
        + distances.gather(1, words[:, None]).mean()
    )
    return loss, (distances.argmin(dim=-1) == words).float().mean().item()
