"""vLLM behind the runner port: its interpreter computes, fairness, deadlines and replay stay the engine's.

    prompts ─layout─▶ embeddings [L, E] ─checked─▶ process of vLLM: add_request, step, abort_request ─▶ steps

A wrong width or a number that is none would end its engine: shape, type and finiteness are looked at here.
Any fault of a step is a lost batch: the process is ended, another takes its place, and the engine runs its
questions again (:mod:`edge_server.engine.recovery`). What is computed differs from our decoder by rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_server.engine.ports import BatchLostError, Prompt, Step
from edge_server.engine.sampling import Sampling
from edge_server.runtime.model_runner import Layout
from edge_server.runtime.vllm_child import VllmProcess, VllmSettings
from edge_server.runtime.vllm_environment import interpreter

_NEVER = -100.0  # the least that it takes


@dataclass(frozen=True)
class Rows:
    """A running batch.

    Attributes:
        ids: of each row's request.
        alternatives: how many of the likeliest tokens each asks for.
        epoch: of the process that computes them.
    """

    ids: tuple[str, ...]
    alternatives: tuple[int, ...]
    epoch: int


class VllmRunner:
    """Implements :class:`edge_server.engine.ports.ModelRunner` with vLLM.

    Args:
        layout: makes prompts into embeddings.
        settings: how vLLM computes.
        python: its interpreter.
        told: a step as the engine knows it.
        close: called once the process has ended.
        unsaid: language tokens that have a place in prompts only.

    Raises:
        ModelError: vLLM is not installed, or does not start.
    """

    def __init__(
        self,
        layout: Layout,
        settings: VllmSettings,
        python: Path | None = None,
        told: Callable[[Step], Step] = lambda step: step,
        close: Callable[[], object] = lambda: None,
        unsaid: Sequence[int] = (),
    ) -> None:
        self._layout, self._settings, self._told = layout, settings, told
        self._close = close
        self._unsaid = tuple((token, _NEVER) for token in unsaid)
        self.process = VllmProcess(settings, python or interpreter())
        self._numbers = itertools.count()
        self._dropped: list[str] = []

    def prefill(self, prompts: Sequence[Prompt], state: Rows | None = None) -> tuple[Rows, list[Step]]:
        """Start answering prompts; see the port."""
        before = state or Rows((), (), self.process.epoch)
        self._check(before)
        with torch.inference_mode():
            embeddings = self._embedded(prompts)
        ids = [str(next(self._numbers)) for _ in prompts]
        added = [
            {
                "id": each,
                "shape": list(x_LE.shape),
                "sampling": sampling_of(prompt.sampling),
                "bias": (*prompt.sampling.logit_bias, *self._unsaid),
            }
            for each, x_LE, prompt in zip(ids, embeddings, prompts, strict=True)
        ]
        data = b"".join(x_LE.numpy().tobytes() for x_LE in embeddings)
        fresh = Rows(tuple(ids), tuple(prompt.sampling.alternatives for prompt in prompts), before.epoch)
        steps = self._steps(fresh, added, data)
        return self.merge(before, fresh), steps

    def decode(self, state: Rows) -> tuple[Rows, list[Step]]:
        """One more step for every row; see the port."""
        self._check(state)
        return state, self._steps(state)

    def merge(self, first: Rows, second: Rows) -> Rows:
        """Rows of both."""
        self._check(first)
        self._check(second)
        alternatives = (*first.alternatives, *second.alternatives)
        return Rows((*first.ids, *second.ids), alternatives, first.epoch)

    def keep(self, state: Rows, rows: Sequence[int]) -> Rows:
        """Only these rows; the others end with the next call."""
        kept = tuple(state.ids[row] for row in rows)
        if state.epoch == self.process.epoch:
            self._dropped += sorted({*state.ids}.difference(kept))
        return Rows(kept, tuple(state.alternatives[row] for row in rows), state.epoch)

    def close(self) -> None:
        """End vLLM's process."""
        self.process.close()
        self._close()

    def _check(self, state: Rows) -> None:
        if state.epoch != self.process.epoch:
            raise BatchLostError("the process that computed it is gone")

    def _steps(self, rows: Rows, added: Sequence[dict[str, Any]] = (), data: bytes = b"") -> list[Step]:
        dropped, self._dropped = self._dropped, []
        message = {"add": list(added), "drop": dropped, "step": list(rows.ids)}
        said: dict[str, Any] = self.process.ask(message, data)["said"]
        return [
            self._told(_step(said[each], alternatives))
            for each, alternatives in zip(rows.ids, rows.alternatives, strict=True)
        ]

    def _embedded(self, prompts: Sequence[Prompt]) -> list[Tensor]:
        """Each prompt's embeddings, float32 [L, E], looked at.

        Raises:
            ValueError: they are not what vLLM survives.
        """
        laid_out = self._layout.embed(prompts)
        rows: list[Tensor] = [torch.empty(0)] * len(prompts)
        of_each = torch.split(laid_out.x_NE.float().cpu(), laid_out.lengths)
        for place, x_LE in zip(laid_out.order, of_each, strict=True):
            rows[place] = x_LE.contiguous()
        for number, x_LE in enumerate(rows):
            if x_LE.ndim != 2 or x_LE.shape[1] != self._settings.width:
                raise ValueError(f"prompt {number}: embeddings of shape {tuple(x_LE.shape)}")
            if not 0 < len(x_LE) < self._settings.max_positions:
                raise ValueError(f"prompt {number}: {len(x_LE)} positions")
            if not bool(torch.isfinite(x_LE).all()):
                raise ValueError(f"prompt {number}: embeddings that are no numbers")
        return rows


def _step(said: Sequence[Any], alternatives: int) -> Step:
    """A token as the process told it: itself, its log-probability, the likeliest with theirs."""
    token, logprob, others = said
    likeliest = sorted(((int(each), float(value)) for each, value in others), key=lambda each: -each[1])
    return Step(int(token), math.exp(min(logprob, 0.0)), tuple(likeliest[:alternatives]))


def sampling_of(sampling: Sampling) -> dict[str, Any]:
    """How tokens are chosen, in vLLM's words. Its draws are its own: a seed repeats them, not ours."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": None if sampling.seed is None else sampling.seed % 2**63,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "logprobs": sampling.alternatives,
    }
