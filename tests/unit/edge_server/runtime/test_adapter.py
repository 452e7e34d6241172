"""A LoRA for questions about media: these have its answers, all others those of the untouched foundation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.errors import ModelError
from edge_server.evaluation.accuracy import without_lora
from edge_server.evaluation.text_kept import general_questions, text_kept
from edge_server.model import foundation_classes
from edge_server.model.decoder_weights import DecoderWeights, llama_like
from edge_server.model.link import Link
from edge_server.runtime.computing import AS_SERVED
from edge_server.runtime.model_runner import ServedLink
from edge_server.runtime.vllm_loading import load_vllm
from edge_server.training.teacher_forcing import Row, answer_logits
from tests.eager_reference import EagerLink

BUNDLE = "ab" * 32
STEPS = 8


def text(*ids: int, **more: Any) -> Prompt:
    return Prompt((), ids, **more)


def about(modality: str, *ids: int, seed: int = 1, **more: Any) -> Prompt:
    x_TC = np.random.default_rng(seed).standard_normal((4, 16)).astype(np.float32)
    return Prompt((FeatureBlock(modality, x_TC, 10.0),), ids, **more)


#: Both kinds, of many lengths; the longest first is neither.
MIXED = (
    text(30, 31, 32),
    about("video", 40, 41, seed=2),
    text(*range(50, 90)),
    about("audio", *range(60, 95), seed=3),
    text(70, context_ids=(33, 34, 35)),
    about("image", 21, seed=4, context_ids=(36, 37)),
)
PLAIN, SHOWN = ([i for i, each in enumerate(MIXED) if bool(each.blocks) == shown] for shown in (False, True))


def said(served: ServedLink, prompts: Sequence[Prompt]) -> list[list[tuple[int, float]]]:
    state, steps = served.prefill(prompts)
    rows = [[(step.token_id, step.probability)] for step in steps]
    for _ in range(STEPS):
        state, steps = served.decode(state)
        for row, step in zip(rows, steps, strict=True):
            row.append((step.token_id, step.probability))
    return rows


def alike(found: list[list[tuple[int, float]]], expected: list[list[tuple[int, float]]]) -> None:
    assert [[token for token, _ in row] for row in found] == [[token for token, _ in row] for row in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose([p for _, p in one], [p for _, p in other], rtol=1e-3)


@pytest.fixture
def served(media_link: Link) -> ServedLink:
    return ServedLink(media_link, BUNDLE)


@pytest.fixture
def untouched(media_link: Link) -> ServedLink:
    return ServedLink(without_lora(media_link), BUNDLE)


@pytest.fixture
def merged(media_link: Link) -> ServedLink:
    """One whose every question is answered with the LoRA."""
    link = copy.deepcopy(media_link)
    link.config = replace(link.config, lora=replace(link.config.lora, applies_to=None))
    return ServedLink(link, BUNDLE)


def test_in_one_batch_each_kind_has_its_own_answers(
    served: ServedLink, untouched: ServedLink, merged: ServedLink
) -> None:
    found = said(served, MIXED)
    without, with_it = said(untouched, MIXED), said(merged, MIXED)
    alike([found[i] for i in PLAIN], [without[i] for i in PLAIN])
    alike([found[i] for i in SHOWN], [with_it[i] for i in SHOWN])
    # Which says something only because the LoRA says something else of either kind.
    for kind in (PLAIN, SHOWN):
        assert any([t for t, _ in with_it[i]] != [t for t, _ in without[i]] for i in kind)


def test_a_mixed_batch_answers_as_batches_of_one_kind(served: ServedLink) -> None:
    together = said(served, MIXED)
    for kind in (PLAIN, SHOWN):
        alike(said(served, [MIXED[i] for i in kind]), [together[i] for i in kind])


def test_who_joins_and_leaves_takes_its_kind_along(served: ServedLink) -> None:
    alone = [said(served, [prompt])[0] for prompt in MIXED]
    state, steps = served.prefill(MIXED[:3])
    rows = {i: [step] for i, step in enumerate(steps)}
    other, steps = served.prefill(MIXED[3:5])
    rows |= {3 + i: [step] for i, step in enumerate(steps)}
    state = served.merge(state, other)
    state = served.keep(state, [4, 1, 2, 3])
    there = [4, 1, 2, 3]
    state, steps = served.decode(state)
    for i, step in zip(there, steps, strict=True):
        rows[i].append(step)
    state, steps = served.prefill(MIXED[5:], state)
    rows[5] = [steps[0]]
    state = served.keep(state, [4, 2, 0, 1])
    for _ in range(3):
        state, steps = served.decode(state)
        for i, step in zip([5, 2, 4, 1], steps, strict=True):
            rows[i].append(step)
    for i, found in rows.items():
        alike([[(step.token_id, step.probability) for step in found]], [alone[i][: len(found)]])


def test_a_cache_that_grows_and_moves_remembers_the_kind(served: ServedLink) -> None:
    alone = {i: said(served, [MIXED[i]])[0] for i in (0, 1)}
    state, steps = served.prefill([MIXED[1], *[MIXED[0]] * 9, MIXED[1]])
    state = served.keep(state, [10, 5])
    state, more = served.decode(state)
    for row, i in ((0, 1), (1, 0)):
        assert (more[row].token_id, steps[0 if i else 1].token_id) == (alone[i][1][0], alone[i][0][0])


def test_the_class_itself_says_the_same(media_link: Link, served: ServedLink) -> None:
    found = [[token for token, _ in row] for row in said(served, MIXED)]
    eager = EagerLink(media_link)
    rows = eager.prefill(MIXED)
    expected = [[token] for token in rows.tokens]
    for _ in range(STEPS):
        rows = eager.decode(rows)
        for row, token in zip(expected, rows.tokens, strict=True):
            row.append(token)
    assert found == expected


def test_read_in_bfloat16_text_stays_the_foundations(
    media_link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = {"avx512_bf16": True, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    served = ServedLink(media_link, BUNDLE, precision=AS_SERVED)
    untouched = ServedLink(without_lora(media_link), BUNDLE, precision=AS_SERVED)
    plain = [MIXED[i] for i in PLAIN]
    assert said(served, plain) == said(untouched, plain)
    exact = ServedLink(media_link, BUNDLE).prefill(MIXED)[1]
    found = [step.probability for step in served.prefill(MIXED)[1]]
    assert found == pytest.approx([step.probability for step in exact], rel=0.1)


def test_what_was_read_for_one_kind_is_nothing_to_the_other(served: ServedLink) -> None:
    shown, plain = about("video", 40, 41, kept_as="a"), text(40, 41, kept_as="a")
    expected = [said(served, [replace(each, kept_as="")])[0] for each in (shown, plain)]
    for each in (shown, plain):
        served.prefill([each])
    # Both are known now, each by itself.
    alike(said(served, [shown, plain]), expected)
    alike(said(served, [plain, text(30), shown])[::2], expected[::-1])


def test_what_is_learned_is_of_rows_about_media(media_link: Link) -> None:
    rows = []
    for slots in ({}, {"visual": torch.randn(4, 32)}, {}):
        row = Row.about(slots)
        row.ask([30, 31], [40, 41, 42])
        rows.append(row)
    found = answer_logits(media_link, rows)
    bare = answer_logits(without_lora(media_link), rows)
    same = [torch.equal(found.logits_KV[i], bare.logits_KV[i]) for i in range(len(found.rows_K))]
    assert same == [row != 1 for row in found.rows_K.tolist()]
    for parameter in media_link.lora_parameters().values():
        parameter.requires_grad_(True)
    answer_logits(media_link, rows[:1]).logits_KV.sum().backward()
    assert not any(p.grad is not None and p.grad.any() for p in media_link.lora_parameters().values())
    answer_logits(media_link, rows).logits_KV.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in media_link.lora_parameters().values())


def test_a_model_folder_says_whom_its_lora_is_for(media_link: Link, tmp_path: Path) -> None:
    expected = said(ServedLink(copy.deepcopy(media_link), BUNDLE), MIXED)
    media_link.save(tmp_path)
    again = Link.load(tmp_path)
    assert again.config.lora.applies_to == "media"
    alike(said(ServedLink(again, BUNDLE), MIXED), expected)
    with pytest.raises(ModelError, match="runner: random answers with its LoRA where there is media only"):
        load_vllm(tmp_path, threads=1, max_rows=1)


def test_all_text_is_kept(media_link: Link, link: Link) -> None:
    questions = general_questions()[:20]
    kept = text_kept(media_link, questions)
    assert (kept["agreement"], kept["same_answers"], kept["changed"]) == (1.0, 1.0, [])
    assert text_kept(link, questions)["same_answers"] < 1.0


def test_a_class_that_tells_no_lora_is_refused(media_link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    def merged_only(network: Any, positions: int) -> DecoderWeights:
        weights = llama_like(network, positions)
        return replace(weights, blocks=[replace(block, lora={}) for block in weights.blocks])

    known = foundation_classes.foundation_class("qwen2")
    monkeypatch.setitem(foundation_classes._classes, "qwen2", replace(known, weights=merged_only))
    with pytest.raises(
        ModelError, match=r"lora\.applies_to is 'media', but a LoRA of 'qwen2' cannot be kept"
    ):
        ServedLink(media_link, BUNDLE)
