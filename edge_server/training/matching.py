"""Set matching: slots are to be the words of the caption, in whichever order, by optimal transport.

Means say which words there are, and lose which belong together. Here slots and caption go through the first
blocks of the frozen foundation, which write into each position what stands near it: "violin" on the left is
another point than "violin" on the right. The two sets are then matched by entropic optimal transport (Cuturi
2013): rare words weigh more, since they are what differs between captions.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.prompt import Piece, context_pieces, embed_pieces
from edge_server.training.forward import Draw


@dataclass(frozen=True)
class MatchingTraining:
    """How sets are matched."""

    block: int = 2
    """After so many blocks of the foundation."""
    entropy: float = 0.05
    """Of the plan: how soft the matching is, in units of the cost (1 - cosine)."""
    iterations: int = 15
    """Of Sinkhorn's algorithm."""


class Matching:
    """Implements :class:`edge_server.training.caption_loss.CaptionLoss`.

    Args:
        link: its foundation reads both.
        corpus: captions, from which words get their weights.
        training: how.
    """

    def __init__(self, link: Link, corpus: Sequence[str], training: MatchingTraining) -> None:
        self.link, self.training = link, training
        seen = Counter(i for text in corpus for i in set(tk.encode(link.tokenizer, text)))
        weights = torch.full((len(link.embedding.weight),), float(len(corpus))).log()
        for token_id, count in seen.items():
            weights[token_id] = torch.tensor(len(corpus) / count).log()
        self.weights_V = weights
        self._blocks = first_blocks(link.causal.get_decoder(), training.block)

    def __call__(
        self, received: Mapping[str, Tensor], captions: Sequence[str], draw: Draw
    ) -> tuple[Tensor, dict[str, float]]:
        """Mean cost of moving the words' weight to the slots."""
        special = self.link.special
        ids = [tk.encode(self.link.tokenizer, caption) for caption in captions]
        with torch.no_grad():
            words_BLE = self._states([[special.opening, *context_pieces({}, i, special)] for i in ids])
            middle_E = torch.cat([words_BLE[b, 2 : 2 + len(i)] for b, i in enumerate(ids)]).mean(dim=0)
        shown: list[list[Piece]] = [
            [special.opening, *context_pieces({s: e[clip] for s, e in received.items()}, (), special)]
            for clip in range(len(captions))
        ]
        slots_BLE = self._states(shown)
        where = [i for begin, e in _begins(received) for i in range(begin, begin + e)]
        costs = []
        for clip, of_clip in enumerate(ids):
            words_LE = words_BLE[clip, 2 : 2 + len(of_clip)] - middle_E
            slots_SE = slots_BLE[clip, where] - middle_E
            cost_SL = 1.0 - F.normalize(slots_SE, dim=-1) @ F.normalize(words_LE, dim=-1).T
            weights_L = self.weights_V[of_clip]
            costs.append(transport(cost_SL, weights_L / weights_L.sum(), self.training))
        loss = torch.stack(costs).mean()
        return loss, {"moved": loss.item()}

    def _states(self, rows: Sequence[Sequence[Piece]]) -> Tensor:
        """States of contexts after some blocks, padded at their ends, [B, L, E]."""
        embedded = [embed_pieces(self.link.embedding, pieces) for pieces in rows]
        longest = max(len(e) for e in embedded)
        x_BLE = torch.stack([F.pad(e, (0, 0, 0, longest - len(e))) for e in embedded])
        out = self._blocks(inputs_embeds=x_BLE, use_cache=False).last_hidden_state
        return torch.as_tensor(out)


def first_blocks(decoder: nn.Module, blocks: int) -> nn.Module:
    """A foundation's decoder that ends after some blocks, before its norm; the weights are the decoder's."""
    part = copy.copy(decoder)
    layers = nn.ModuleList(list(decoder.get_submodule("layers").children())[:blocks])
    part._modules = {**decoder._modules, "layers": layers, "norm": nn.Identity()}
    return part


def transport(cost_SL: Tensor, weights_L: Tensor, training: MatchingTraining) -> Tensor:
    """Cost of the entropic plan that moves ``weights_L`` evenly to S slots; a scalar.

    Args:
        cost_SL: of moving a unit from l to s.
        weights_L: sum to 1.
        training: entropy and iterations.
    """
    slots = cost_SL.shape[0]
    with torch.no_grad():
        log_kernel_SL = -cost_SL / training.entropy
        log_a, log_b_L = -torch.log(torch.tensor(float(slots))), weights_L.clamp(min=1e-9).log()
        g_L = torch.zeros_like(weights_L)
        for _ in range(training.iterations):
            f_S = log_a - (log_kernel_SL + g_L).logsumexp(dim=1)
            g_L = log_b_L - (log_kernel_SL + f_S[:, None]).logsumexp(dim=0)
        plan_SL = (log_kernel_SL + f_S[:, None] + g_L).exp()
    # By the envelope theorem the plan need not be differentiated.
    return (plan_SL * cost_SL).sum()


def _begins(received: Mapping[str, Tensor]) -> list[tuple[int, int]]:
    """Where each slot's embeddings begin in a context that starts with one token, and how many there are."""
    found, begin = [], 2  # the first token, and the one that opens the slot
    for embeddings in received.values():
        found.append((begin, embeddings.shape[1]))
        begin += embeddings.shape[1] + 2
    return found
