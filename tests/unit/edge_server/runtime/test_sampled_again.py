"""A sampled answer that was cut by the loss of its batch goes on as it would have."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from edge_server.engine import (
    BatchLostError,
    Completion,
    Engine,
    EngineConfig,
    ModelRunner,
    Prompt,
    Request,
    Sampling,
    Step,
)
from edge_server.runtime.model_runner import Running, ServedLink
from tests.unit.edge_server.runtime.test_model_runner import mixed_prompts
from tests.waiting import PATIENCE_S


class DiesOnce:
    """A runner that loses its batch at one of its decode steps."""

    def __init__(self, runner: ServedLink, at: int) -> None:
        self._runner = runner
        self._left = at

    def prefill(self, prompts: Sequence[Prompt], state: Running | None = None) -> tuple[Running, list[Step]]:
        return self._runner.prefill(prompts, state)

    def decode(self, state: Running) -> tuple[Running, list[Step]]:
        self._left -= 1
        if self._left == 0:
            raise BatchLostError("killed")
        return self._runner.decode(state)

    def merge(self, first: Running, second: Running) -> Running:
        return self._runner.merge(first, second)

    def keep(self, state: Running, rows: Sequence[int]) -> Running:
        return self._runner.keep(state, rows)


async def answers(served: ServedLink, runner: ModelRunner[Running], *, whole: bool) -> list[Completion]:
    engine = Engine(served, EngineConfig(batches=1), runner_of=lambda _: runner)
    await engine.start()
    try:
        streams = [
            engine.submit(
                Request(
                    replace(
                        prompt, sampling=Sampling(1.5, 0.95, seed, frequency_penalty=0.3, alternatives=2)
                    ),
                    f"user {seed}",
                    max_new_tokens=12,
                    whole=whole,
                    tokens=True,
                )
            )
            for seed, prompt in enumerate(mixed_prompts())
        ]
        return await asyncio.wait_for(
            asyncio.gather(*(stream.completion() for stream in streams)), PATIENCE_S
        )
    finally:
        await engine.stop()


@pytest.mark.parametrize("whole", [False, True])
async def test_it_comes_out_the_same(served: ServedLink, whole: bool) -> None:
    undisturbed = await answers(served, served, whole=whole)
    assert any(answer.answer_tokens > 4 for answer in undisturbed)
    again = await answers(served, DiesOnce(served, at=4), whole=whole)
    for first, second in zip(undisturbed, again, strict=True):
        assert first.text == second.text
        assert [token.token_id for token in first.tokens] == [token.token_id for token in second.tokens]
        assert first.logprob == pytest.approx(second.logprob, rel=1e-3, abs=1e-4)
