"""The served link: a row's answer is its own, whoever shares its batch."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_server.engine.calibration import UNSURE
from edge_server.engine.ports import FeatureBlock, InvalidPromptError, Prompt, Step
from edge_server.engine.sampling import Sampling
from edge_server.evaluation.accuracy import answer_all
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.prompt import embed_pieces, prompt_pieces
from edge_server.runtime.computing import Precision
from edge_server.runtime.model_runner import ServedLink
from tests.eager_reference import EagerLink

CHANNEL_DIM = 16
QUESTIONS = (
    "Where is the loudest instrument?",
    "Is there a voiceover?",
    "How many types of musical instruments sound in the video?",
    "What is the first instrument that comes in, and on which side of the picture does it stand?",
)


def block(modality: str, length: int, seed: int = 0, snr_db: float = 10.0) -> FeatureBlock:
    rng = np.random.default_rng([seed, length])
    return FeatureBlock(modality, rng.normal(0, 0.5**0.5, (length, CHANNEL_DIM)).astype(np.float32), snr_db)


def mixed_prompts() -> list[Prompt]:
    return [
        Prompt((block("video", 16), block("audio", 4)), (20, 21, 22)),
        Prompt((block("image", 1),), (30, 31, 32, 33, 34, 35)),
        Prompt((), (40,), (50, 51, 52, 53, 54, 55, 56)),
        Prompt((block("audio", 32, snr_db=-10.0),), (60, 61)),
        Prompt((block("text", 5), block("video", 2)), ()),
    ]


def greedy(served: ServedLink, prompts: list[Prompt], steps: int) -> list[list[Step]]:
    state, first = served.prefill(prompts)
    rows = [[step] for step in first]
    for _ in range(steps - 1):
        state, more = served.decode(state)
        for row, step in zip(rows, more, strict=True):
            row.append(step)
    return rows


def same(a: list[Step], b: list[Step]) -> None:
    assert [s.token_id for s in a] == [s.token_id for s in b]
    np.testing.assert_allclose([s.probability for s in a], [s.probability for s in b], rtol=1e-3)


def test_answers_in_a_batch_are_those_given_alone(served: ServedLink) -> None:
    prompts = mixed_prompts()
    together = greedy(served, prompts, 6)
    for prompt, row in zip(prompts, together, strict=True):
        same(greedy(served, [prompt], 6)[0], row)


def test_doubt_is_how_probable_it_was_to_begin_as_who_is_not_sure(served: ServedLink) -> None:
    """Of every row, sampled or not; and of first tokens alone."""
    unsure = tk.encode(served.link.tokenizer, UNSURE)[0]
    told = Sampling(temperature=1.0, seed=3, alternatives=served.link.config.foundation.vocab_size)
    prompts = mixed_prompts()
    prompts[1:3] = [replace(prompt, sampling=told) for prompt in prompts[1:3]]
    state, mixed = served.prefill(prompts)
    _, every = served.prefill([replace(prompt, sampling=told) for prompt in prompts])
    expected = [np.exp(dict(step.alternatives)[unsure]) for step in every]
    for steps in (mixed, every):
        np.testing.assert_allclose([step.doubt for step in steps], expected, rtol=1e-4)
    assert [step.doubt for step in served.decode(state)[1]] == [0.0] * len(prompts)


def test_rows_join_and_leave_a_running_batch(served: ServedLink) -> None:
    prompts = mixed_prompts()
    alone = [greedy(served, [prompt], 6)[0] for prompt in prompts]
    first, steps = served.prefill(prompts[:2])
    first, more = served.decode(first)
    same(alone[0][:2], [steps[0], more[0]])
    second, late = served.prefill(prompts[2:])
    state = served.merge(first, second)
    state, joined = served.decode(state)
    same(alone[0][2:3], joined[:1])
    same(alone[2][:2], [late[0], joined[2]])
    state = served.keep(state, [4, 1])
    state, left = served.decode(state)
    same(alone[4][2:3], left[:1])
    same(alone[1][3:4], left[1:])


def test_newcomers_join_a_running_batch_without_a_merge(served: ServedLink) -> None:
    prompts = mixed_prompts()
    alone = [greedy(served, [prompt], 6)[0] for prompt in prompts]
    state, first = served.prefill(prompts[:3])
    state = served.keep(state, [2, 0])
    state, more = served.decode(state)
    same(alone[2][:2], [first[2], more[0]])
    state, late = served.prefill(prompts[3:], state)
    assert len(state.cache_rows) == 4
    state, joined = served.decode(state)
    same(alone[2][2:3], joined[:1])
    same(alone[0][2:3], joined[1:2])
    same(alone[3][:2], [late[0], joined[2]])
    same(alone[4][:2], [late[1], joined[3]])


def test_a_prefill_that_fails_leaves_the_running_batch_as_it_was(
    served: ServedLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = mixed_prompts()
    alone = [greedy(served, [prompt], 6)[0] for prompt in prompts]
    state, _ = served.prefill(prompts[:2])
    with monkeypatch.context() as broken:
        broken.setattr(served._decoder, "_logits", lambda x: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            served.prefill(prompts[2:], state)
    state, steps = served.decode(state)
    same([alone[0][1], alone[1][1]], steps)
    state, late = served.prefill(prompts[2:], state)
    same([row[0] for row in alone[2:]], late)
    assert sorted(state.cache_rows) == list(range(5))


def test_a_slot_is_taken_again(served: ServedLink) -> None:
    state, _ = served.prefill(mixed_prompts())
    rows = state.cache.rows
    for _ in range(20):
        state = served.keep(state, [0])
        state, _ = served.prefill(mixed_prompts()[:4], state)
    assert state.cache.rows == rows


def test_what_is_no_number_stays_in_the_row_that_brought_it(served: ServedLink) -> None:
    prompts = mixed_prompts()
    alone = [greedy(served, [prompt], 4)[0] for prompt in prompts]
    absurd = FeatureBlock("audio", np.full((32, CHANNEL_DIM), 3e38, np.float32), 10.0)
    state, steps = served.prefill([prompts[0], Prompt((absurd,), (20,) * 90)])
    assert np.isnan(steps[1].probability)
    same(alone[0][:1], steps[:1])
    # The next row in its slot is shorter: what it left behind stays hidden, and is no number all the same.
    state = served.keep(state, [0])
    state, late = served.prefill([prompts[3]], state)
    same(alone[3][:1], late)
    state, steps = served.decode(state)
    same([alone[0][1], alone[3][1]], steps)


def test_the_shipped_model_says_what_it_says_in_hugging_faces_class() -> None:
    link = Link.load(Path("deploy/models/soundstage-small"))
    served = ServedLink(link, "ab" * 32)
    reference = EagerLink(link)
    rng = np.random.default_rng(0)
    prompts = []
    for lengths in itertools.product((0, 1, 2, 4, 8, 16, 32), repeat=2):
        blocks = tuple(
            FeatureBlock(modality, rng.normal(0, 0.5**0.5, (length, 32)).astype(np.float32), 6.0)
            for modality, length in zip(("video", "audio"), lengths, strict=True)
            if length
        )
        question = rng.choice(QUESTIONS)
        context = tk.encode(link.tokenizer, question * int(rng.integers(1, 4))) if not any(lengths) else ()
        prompts.append(Prompt(blocks, tuple(tk.encode(link.tokenizer, question)), tuple(context)))
    expected = reference.prefill(prompts)
    state, steps = served.prefill(prompts)
    for _ in range(12):
        assert [step.token_id for step in steps] == expected.tokens
        np.testing.assert_allclose(
            [step.probability for step in steps],
            expected.logits_BV.softmax(-1).max(-1).values,
            atol=2e-5,
        )
        expected = reference.decode(expected)
        state, steps = served.decode(state)


def test_marks_around_the_parts_of_a_prompt_are_never_said(served: ServedLink) -> None:
    marks = served.link.special.marks
    wished = Sampling(logit_bias=tuple((mark, 100.0) for mark in marks))
    said = greedy(served, [Prompt((), (20, 21, 22), (), wished)], 4)[0]
    assert not {step.token_id for step in said}.intersection(marks)


def test_merging_the_lora_changes_nothing(link: Link) -> None:
    ids = tk.encode(link.tokenizer, "where is the violin?")
    x_1LE = embed_pieces(link.embedding, prompt_pieces({}, ids))[None]
    with torch.inference_mode():
        logits_V = link.foundation(inputs_embeds=x_1LE).logits[0, -1]
        logits_V[list(link.special.marks)] = -torch.inf
        expected = logits_V.softmax(-1).max(-1)
    _, steps = ServedLink(link, "ab" * 32).prefill([Prompt((), tuple(ids))])
    assert steps[0].token_id == int(expected.indices)
    assert steps[0].probability == pytest.approx(float(expected.values), rel=1e-4)


def test_the_snr_is_told_to_the_receiver(link: Link) -> None:
    # The SNR's network starts as the identity; after a step of training it no longer is.
    for receiver in link.receivers.values():
        torch.nn.init.normal_(receiver.film.net[2].weight, std=0.5)
    served = ServedLink(link, "ab" * 32)
    steps = [served.prefill([Prompt((block("video", 8, snr_db=s),), (20,))])[1][0] for s in (-10.0, 20.0)]
    assert steps[0].probability != pytest.approx(steps[1].probability, rel=1e-6)


def test_answering_many_ends_each_at_its_own_end(served: ServedLink) -> None:
    prompts = mixed_prompts()
    assert answer_all(served, prompts, 5) == [answer_all(served, [prompt], 5)[0] for prompt in prompts]


def labelled(modality: str, length: int, seed: int, *label: int) -> FeatureBlock:
    return replace(block(modality, length, seed), label=label)


class TestViews:
    """A model that takes several pictures and sounds in one question, each with a label."""

    @pytest.fixture
    def served(self, link: Link) -> ServedLink:
        link.config = replace(link.config, views=True)
        return ServedLink(link, bundle_hash="ab" * 32)

    def test_each_is_where_the_layout_says(self, served: ServedLink) -> None:
        shown = (
            labelled("video", 4, 1, 30, 31),
            labelled("audio", 8, 2, 32),
            labelled("video", 16, 3, 33),
            labelled("audio", 8, 4),
        )
        prompts = [Prompt(shown, (20, 21)), Prompt(shown[2:], (22,)), Prompt((shown[2], shown[0]), (20, 21))]
        eager = EagerLink(served.link)
        read, answers = [eager.prefill([prompt]) for prompt in prompts], greedy(served, prompts, 2)
        for rows, steps in zip(read, answers, strict=True):
            assert int(rows.logits_BV[0].argmax()) == steps[0].token_id
            probability = rows.logits_BV[0].softmax(-1).max().item()
            assert steps[0].probability == pytest.approx(probability, rel=1e-3)
        length = served.check(prompts[0])
        assert length == served.check(Prompt((), (20, 21))) + 4 * (2 + 4) + 4

    def test_a_label_counts(self, served: ServedLink) -> None:
        steps = [
            served.prefill([Prompt((labelled("video", 8, 1, label), block("video", 8, 2)), (20,))])[1][0]
            for label in (30, 31)
        ]
        assert steps[0].probability != pytest.approx(steps[1].probability, rel=1e-6)

    def test_a_label_is_text(self, served: ServedLink) -> None:
        with pytest.raises(InvalidPromptError) as caught:
            served.check(Prompt((labelled("video", 8, 1, tk.ANSWER_ID),), (20,)))
        assert caught.value.field == "blocks[0].label[0]"


@pytest.mark.parametrize(
    ("prompt", "field", "found"),
    [
        (
            Prompt((FeatureBlock("smell", np.zeros((4, 16), np.float32), 0.0),), (20,)),
            "blocks[0].modality",
            "smell",
        ),
        (Prompt((block("image", 4), block("video", 4)), (20,)), "blocks[1].modality", "image"),
        (Prompt((FeatureBlock("audio", np.zeros((4, 8), np.float32), 0.0),), (20,)), "blocks[0].shape", "16"),
        (Prompt((FeatureBlock("audio", np.zeros((3, 16), np.float32), 0.0),), (20,)), "blocks[0].shape", "3"),
        (Prompt((block("audio", 4, snr_db=float("nan")),), (20,)), "blocks[0].snr_db", "nan"),
        (Prompt((), ()), "question_ids", "empty"),
        (Prompt((block("text", 4),), (20,)), "question_ids", "text block"),
        (Prompt((), (20, tk.ANSWER_ID)), "question_ids[1]", str(tk.ANSWER_ID)),
        (Prompt((), (20,), (10**9,)), "context_ids[0]", "1000000000"),
        (Prompt((), (20,) * 97), "question_ids", "97"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_by_field(
    served: ServedLink, prompt: Prompt, field: str, found: str
) -> None:
    with pytest.raises(InvalidPromptError) as caught:
        served.check(prompt)
    assert caught.value.field == field
    assert found in str(caught.value)


@pytest.mark.parametrize(("capable", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_computed_with_where_the_processor_can(
    link: Link, monkeypatch: pytest.MonkeyPatch, capable: bool, dtype: torch.dtype
) -> None:
    features = {"avx512_bf16": capable, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    link.merge_lora()
    exact = ServedLink(copy.deepcopy(link), "ab" * 32)
    link.foundation.bfloat16()
    rounded = ServedLink(link, "ab" * 32)
    state, steps = rounded.prefill(mixed_prompts())
    assert state.cache.layers[0].dtype == dtype
    _, more = rounded.decode(state)
    expected, _ = exact.prefill(mixed_prompts())
    for ours, theirs in zip(steps, exact.prefill(mixed_prompts())[1], strict=True):
        assert ours.probability == pytest.approx(theirs.probability, rel=0.1)
    assert len(more) == len(expected.cache_rows)


@pytest.mark.parametrize(
    ("features", "wanted", "reads_in"),
    [
        ({"avx512_bf16": True}, True, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, True, torch.bfloat16),
        ({"avx512_bf16": True}, False, torch.float32),
        ({"avx512_bf16": False}, True, torch.float32),
        ({"neon": True}, True, torch.float32),
    ],
)
def test_prompts_are_read_in_bfloat16_where_the_processor_says_that_it_can(
    link: Link,
    monkeypatch: pytest.MonkeyPatch,
    features: dict[str, bool],
    wanted: bool,
    reads_in: torch.dtype,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    seen = []
    silu = torch.nn.functional.silu
    monkeypatch.setattr(
        torch.nn.functional, "silu", lambda x, inplace: (seen.append(x.dtype), silu(x, inplace))[1]
    )
    state, steps = ServedLink(link, "ab" * 32, precision=Precision(bfloat16=wanted)).prefill(mixed_prompts())
    assert seen[0] == reads_in
    assert seen[-1] == torch.float32  # the last position, whose words are said
    assert state.cache.layers[0].dtype == torch.float32
    exact = ServedLink(link, "ab" * 32).prefill(mixed_prompts())[1]
    assert [step.probability for step in steps] == pytest.approx([s.probability for s in exact], rel=0.1)


def test_positions_are_those_prefill_takes(served: ServedLink) -> None:
    for prompt in mixed_prompts():
        state, _ = served.prefill([prompt])
        assert [served.check(prompt)] == state.cache.lengths[list(state.cache_rows)].tolist()


def sampled(prompt: Prompt, seed: int, **more: float) -> Prompt:
    return replace(prompt, sampling=Sampling(temperature=1.2, seed=seed, **more))  # type: ignore[arg-type]


def test_sampled_answers_in_a_batch_are_those_given_alone(served: ServedLink) -> None:
    plain = mixed_prompts()
    prompts = [
        *plain[:2],
        sampled(plain[2], 1),
        sampled(plain[3], 2, top_p=0.9, frequency_penalty=0.5),
        sampled(plain[4], 3, presence_penalty=1.0, alternatives=2),
    ]
    together = greedy(served, prompts, 8)
    for prompt, row in zip(prompts, together, strict=True):
        same(greedy(served, [prompt], 8)[0], row)
    assert [len(step.alternatives) for step in together[4]] == [2] * 8
    other = greedy(served, [sampled(plain[2], 99)], 8)[0]
    assert [step.token_id for step in other] != [step.token_id for step in together[2]]


def test_rows_that_sample_join_leave_and_go_on_as_they_would_have(served: ServedLink) -> None:
    plain = mixed_prompts()
    prompts = [sampled(prompt, seed) if seed % 2 else prompt for seed, prompt in enumerate(plain)]
    alone = [greedy(served, [prompt], 6)[0] for prompt in prompts]
    first, steps = served.prefill(prompts[:2])
    first, more = served.decode(first)
    same(alone[1][:2], [steps[1], more[1]])
    second, late = served.prefill(prompts[2:4])
    state = served.merge(first, second)
    state = served.keep(state, [1, 2, 3])
    state, last = served.prefill(prompts[4:], state)
    state, joined = served.decode(state)
    same([alone[1][2], alone[2][1], alone[3][1], alone[4][1]], joined)
    state = served.keep(state, [2, 0])
    state, rest = served.decode(state)
    same([alone[3][2], alone[1][3]], rest)
    assert len(late) + len(last) == 3


def test_a_bias_to_a_token_that_is_none_is_refused(served: ServedLink) -> None:
    with pytest.raises(InvalidPromptError) as refused:
        served.check(Prompt((), (40,), (), Sampling(logit_bias=((1 << 20, 1.0),))))
    assert refused.value.field == "sampling.logit_bias"
