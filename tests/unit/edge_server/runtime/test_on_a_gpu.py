"""On a GPU the same is said, what comes again is recorded, and nobody waits for the GPU but for an answer."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_server.engine.ports import FeatureBlock, Prompt, Step
from edge_server.engine.sampling import Sampling
from edge_server.model import tokenizer as tk
from edge_server.model.foundation_classes import weights_of
from edge_server.model.link import Link
from edge_server.runtime.decoder import Decoder
from edge_server.runtime.model_runner import Running, ServedLink
from edge_server.runtime.prompt_layout import PromptLayout
from edge_server.server.config import ServerConfig
from tests.eager_reference import go_on, read_embeddings
from tests.unit.edge_server.runtime.test_decoder import one_step, prompts_of, qwen2

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SHIPPED = Path(__file__).parents[4] / ServerConfig().runtime.model
QUESTIONS = (
    "Where is the loudest instrument?",
    "Is there a voiceover?",
    "How many types of musical instruments sound in the video?",
    "Describe the video.",
)


@pytest.fixture(scope="module")
def links() -> tuple[Link, Link]:
    """The shipped model on the processor and on the GPU."""
    link = Link.load(SHIPPED)
    return link, copy.deepcopy(link).to("cuda")


@pytest.fixture(scope="module")
def both(links: tuple[Link, Link]) -> tuple[ServedLink, ServedLink]:
    here, there = links
    return ServedLink(here, "hash"), ServedLink(there, "hash")


def prompts(link: Link, count: int, seed: int = 1) -> list[Prompt]:
    rng = np.random.default_rng(seed)

    def block(modality: str) -> FeatureBlock:
        shape = (int(rng.choice([1, 4, 16, 32])), link.config.channel_dim)
        return FeatureBlock(modality, rng.normal(0, 0.5**0.5, shape).astype(np.float32), 10.0)

    kinds = (("video", "audio"), ("image",), ("audio",), ("video", "text"), ())
    asked = [tuple(tk.encode(link.tokenizer, question)) for question in QUESTIONS]
    return [
        Prompt(
            tuple(block(modality) for modality in kinds[number % len(kinds)]),
            () if "text" in kinds[number % len(kinds)] else asked[number % len(asked)],
        )
        for number in range(count)
    ]


def same(ours: list[Step], theirs: list[Step]) -> None:
    assert [step.token_id for step in ours] == [step.token_id for step in theirs]
    np.testing.assert_allclose(
        [step.probability for step in ours], [step.probability for step in theirs], atol=1e-3
    )


def test_rows_that_come_and_go_are_told_the_same(both: tuple[ServedLink, ServedLink]) -> None:
    first, late = prompts(both[0].link, 7), prompts(both[0].link, 6, seed=2)
    states: list[Running] = []
    told: list[list[list[Step]]] = []
    for served in both:
        steps = []
        state, said = served.prefill(first)
        steps.append(said)
        for _ in range(5):
            state, said = served.decode(state)
            steps.append(said)
        state = served.keep(state, [6, 0, 3])
        state, said = served.prefill(late, state)
        steps.append(said)
        for _ in range(5):
            state, said = served.decode(state)
            steps.append(said)
        states.append(state)
        told.append(steps)
    for here, there in zip(*told, strict=True):
        same(here, there)
    # Most of these steps were played.
    assert any(known.recording for known in states[1].cache.recorded.values())
    assert not states[0].cache.recorded


def test_rows_that_sample_say_the_same_beside_others_that_do_not(both: tuple[ServedLink, ServedLink]) -> None:
    asked = [
        replace(prompt, sampling=Sampling(0.7, 0.9, number, frequency_penalty=0.5)) if number % 2 else prompt
        for number, prompt in enumerate(prompts(both[0].link, 6))
    ]
    told = []
    for served in both:
        state, said = served.prefill(asked)
        steps = [said]
        for _ in range(6):  # recorded from the third on
            state, said = served.decode(state)
            steps.append(said)
        told.append(steps)
    for here, there in zip(*told, strict=True):
        same(here, there)


def test_recordings_go_with_the_memory_that_they_are_of(both: tuple[ServedLink, ServedLink]) -> None:
    told = []
    for served in both:
        state, said = served.prefill(prompts(served.link, 3))
        steps = [said]
        for _ in range(80):  # beyond the room of a slot
            state, said = served.decode(state)
            steps.append(said)
        told.append(steps)
    for here, there in zip(*told, strict=True):
        same(here, there)
    # All that is left was recorded after the last move.
    assert min(positions for _, positions in state.cache.recorded) > 64


def test_a_batch_of_another_size_is_recorded_beside(both: tuple[ServedLink, ServedLink]) -> None:
    _, served = both
    alone = []
    for prompt in prompts(served.link, 20):
        state, said = served.prefill([prompt])
        steps = said
        for _ in range(3):
            state, said = served.decode(state)
            steps += said
        alone.append(steps)
    state, said = served.prefill(prompts(served.link, 20))
    rows = [[step] for step in said]
    going_on = list(range(20))
    for count in (20, 20, 5):
        state = served.keep(state, range(count))
        going_on = going_on[:count]
        state, said = served.decode(state)
        for row, step in zip(going_on, said, strict=True):
            rows[row].append(step)
    for ours, theirs in zip(rows, alone, strict=True):
        same(ours, theirs[: len(ours)])


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@torch.inference_mode()
def test_a_prefill_waits_for_nothing(both: tuple[ServedLink, ServedLink]) -> None:
    link = both[1].link  # its LoRA merged
    layout, decoder = (
        PromptLayout(link),
        Decoder(
            weights_of(link.foundation, link.config.foundation.max_positions),
            link.config.foundation.max_positions,
        ),
    )
    asked = prompts(link, 20)
    for check in (False, True):  # what is computed once for all is, the first time
        cache = decoder.new_cache()
        cache.take([8] * 3)
        cache.take([64] * 40)
        cache.free([1, 2, *range(5, 43)])  # slots that are no neighbours
        if check:
            with waiting_is_an_error():
                laid_out = layout.embed(asked)
                slots = cache.take(laid_out.lengths)
                logits_BV = decoder.prefill(laid_out.x_NE, laid_out.lengths, cache, slots)
        else:
            laid_out = layout.embed(asked)
            decoder.prefill(laid_out.x_NE, laid_out.lengths, cache, cache.take(laid_out.lengths))
    assert torch.isfinite(logits_BV).all()


@torch.inference_mode()
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_in_bfloat16_it_is_as_close_as_the_library_s_class(kv_heads: int) -> None:
    exact, lengths = qwen2(num_key_value_heads=kv_heads), [40, 21, 4]
    asked = prompts_of(exact, lengths)
    truth = read_embeddings(exact, asked)
    rounded = copy.deepcopy(exact).to("cuda", torch.bfloat16)
    on_gpu = [prompt.to("cuda", torch.bfloat16) for prompt in asked]
    theirs = read_embeddings(rounded, on_gpu)
    decoder = Decoder(weights_of(rounded, 160), 160)
    cache = decoder.new_cache()
    ours_BV = decoder.prefill(torch.cat(on_gpu), lengths, cache, cache.take(lengths))
    for _ in range(2):
        tokens_B = truth.logits_BV.argmax(-1).cuda()
        ours_error, their_error = (
            (each.float().cpu() - truth.logits_BV).square().mean() for each in (ours_BV, theirs.logits_BV)
        )
        assert ours_error < 4 * their_error  # of rounding, in so small a model
        truth = go_on(exact, truth)
        theirs.logits_BV.zero_()
        theirs.logits_BV.scatter_(1, tokens_B[:, None], 1)  # they go on with the same word
        theirs = go_on(rounded, theirs)
        ours_BV = one_step(decoder, rounded.get_input_embeddings()(tokens_B), cache)
