"""Chooses language tokens for rows that ask for more than the likeliest one: all of a batch's in one pass.

Called by :mod:`edge_server.runtime.model_runner`; a batch whose rows are all greedy never comes here.
:class:`edge_server.engine.sampling.Sampling` says what each parameter does.

    logits ─▶ + bias ─ penalties ─▶ / temperature ─▶ nucleus ─▶ the token at the row's own draw
       └───▶ log-probabilities, as the model gave them: of the token, and of the likeliest ones

Shapes: S rows that sample, V vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_server.engine.ports import Prompt, Step
from edge_server.engine.sampling import GREEDY, Sampling, uniform

_COLDEST = 1e-5
"""Below it float32 has no room for quotients, and only the likeliest token is left anyway."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """One row that samples.

    Attributes:
        sampling: how.
        said: language tokens that it has said.
    """

    sampling: Sampling
    said: tuple[int, ...] = ()

    @classmethod
    def of(cls, prompt: Prompt) -> Sampler | None:
        """For a prompt's row; None: the likeliest token is all that it asks for."""
        return None if prompt.sampling == GREEDY else cls(prompt.sampling)

    def after(self, token_id: int) -> Sampler:
        """The row, once it has said a token more."""
        return Sampler(self.sampling, (*self.said, token_id))


def draw(logits_SV: Tensor, samplers: Sequence[Sampler]) -> list[Step]:
    """The next language token of each row, with the probability that the model itself gave it.

    Args:
        logits_SV: of the rows; overwritten.
        samplers: one for each.
    """
    logits_SV = logits_SV.float()
    logprobs_SV = logits_SV.log_softmax(-1)
    _shift(logits_SV, samplers)
    tokens_S = logits_SV.argmax(-1)
    hot = [row for row, sampler in enumerate(samplers) if sampler.sampling.draws]
    if hot:
        rows = torch.tensor(hot, device=logits_SV.device)
        tokens_S[rows] = _drawn(logits_SV[rows], [samplers[row] for row in hot])
    said_S = logprobs_SV.gather(1, tokens_S[:, None])[:, 0]
    most = max(sampler.sampling.alternatives for sampler in samplers)
    likeliest = logprobs_SV.topk(min(most, logprobs_SV.shape[1]), -1) if most else None
    others = (
        [[()] * len(samplers)] * 2
        if likeliest is None
        else (likeliest.indices.tolist(), likeliest.values.tolist())
    )
    return [
        Step(token, math.exp(logprob), tuple(zip(ids, values, strict=True))[: sampler.sampling.alternatives])
        for token, logprob, ids, values, sampler in zip(
            tokens_S.tolist(), said_S.double().tolist(), *others, samplers, strict=True
        )
    ]


def _shift(logits_SV: Tensor, samplers: Sequence[Sampler]) -> None:
    """Add biases and take penalties off, in place."""
    rows: list[int] = []
    ids: list[int] = []
    by: list[float] = []
    for row, sampler in enumerate(samplers):
        sampling = sampler.sampling
        changes = list(sampling.logit_bias)
        if sampling.frequency_penalty or sampling.presence_penalty:
            changes += [
                (token_id, -count * sampling.frequency_penalty - sampling.presence_penalty)
                for token_id, count in Counter(sampler.said).items()
            ]
        rows += [row] * len(changes)
        ids += [token_id for token_id, _ in changes]
        by += [change for _, change in changes]
    if rows:
        device = logits_SV.device
        where = torch.tensor(rows, device=device), torch.tensor(ids, device=device)
        changes_N = torch.tensor(by, dtype=logits_SV.dtype, device=device)
        logits_SV.index_put_(where, changes_N, accumulate=True)


def _drawn(logits_SV: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """A token for each row from its tempered nucleus, [S]."""
    device = logits_SV.device
    each = [sampler.sampling for sampler in samplers]
    temperatures = [[max(sampling.temperature, _COLDEST)] for sampling in each]
    below_SV = logits_SV - logits_SV.amax(-1, keepdim=True)
    shares_SV = (below_SV / torch.tensor(temperatures, device=device)).softmax(-1)
    top_p_S1 = torch.tensor([[sampling.top_p] for sampling in each], device=device)
    if any(sampling.top_p < 1.0 for sampling in each):
        falling_SV = shares_SV.sort(-1, descending=True).values
        # A token belongs to the nucleus if those likelier than it do not fill it; the first always does.
        before_SV = falling_SV.cumsum(-1) - falling_SV
        least_S1 = falling_SV.masked_fill(before_SV >= top_p_S1, math.inf).amin(-1, keepdim=True)
        shares_SV = shares_SV.masked_fill((shares_SV < least_S1) & (top_p_S1 < 1.0), 0.0)
    up_to_SV = shares_SV.double().cumsum(-1)
    draws = [[uniform(sampler.sampling.seed or 0, len(sampler.said))] for sampler in samplers]
    at_S1 = torch.tensor(draws, dtype=torch.float64, device=device) * up_to_SV[:, -1:]
    # The first whose sum lies above: one without a share is never it. What is no number has none; that fails
    # later.
    tokens_S1 = torch.searchsorted(up_to_SV, at_S1, right=True).clamp_(max=logits_SV.shape[1] - 1)
    return tokens_S1[:, 0]
