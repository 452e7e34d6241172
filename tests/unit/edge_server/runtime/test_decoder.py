"""Parity: whatever the mix of lengths, joins and leaves, the logits are those of Hugging Face's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from edge_server.errors import ModelError
from edge_server.model.foundation_classes import weights_of
from edge_server.runtime.decoder import Decoder
from edge_server.runtime.kv_cache import KeyValueCache
from edge_server.runtime.transfer import on_device
from tests.eager_reference import go_on, read_embeddings

MAX_POSITIONS = 160
ModelT = TypeVar("ModelT", bound=PreTrainedModel)
#: Largest difference of a logit from the class's; logits here have a standard deviation of about 1.
TOLERANCE = 2e-4


def qwen2(**changes: object) -> Qwen2ForCausalLM:
    return tiny(Qwen2ForCausalLM, Qwen2Config, **changes)


def tiny(kind: type[ModelT], config_of: type[PreTrainedConfig], **changes: object) -> ModelT:
    """A small network of a class, no parameter of which is what it was drawn as by default."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 61}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    config = config_of(**{**sizes, **heads, "initializer_range": 0.2, **changes})  # type: ignore[arg-type]
    model = kind(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("norm.weight", "layernorm.weight", "proj.bias")):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@st.composite
def foundations(draw: st.DrawFn) -> Qwen2ForCausalLM:
    kv_heads, each, half = (draw(st.integers(1, n)) for n in (3, 3, 8))
    heads = kv_heads * each
    return qwen2(
        hidden_size=heads * 2 * half,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        num_hidden_layers=draw(st.integers(1, 4)),
        intermediate_size=draw(st.integers(4, 96)),
        vocab_size=draw(st.integers(8, 200)),
        tie_word_embeddings=draw(st.booleans()),
        rms_norm_eps=draw(st.sampled_from([1e-6, 1e-5])),
        rope_parameters={"rope_type": "default", "rope_theta": draw(st.sampled_from([1e4, 1e6]))},
    )


def prompts_of(model: PreTrainedModel, lengths: Sequence[int], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    width = model.config.hidden_size
    return [torch.randn(length, width, generator=generator) for length in lengths]


def one_step(decoder: Decoder, x_BE: Tensor, cache: KeyValueCache) -> Tensor:
    """A decode step of the first rows, with these embeddings; its logits."""
    longest = cache.room_for_one_more(len(x_BE))
    lengths = cache.lengths[: len(x_BE)]
    logits_BV = decoder.decode(x_BE, on_device(lengths, decoder.device), cache, longest)
    lengths += 1
    return logits_BV


class Rows:
    """Rows of a decoder's cache, and the reference's rows, each alone, beside them."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.decoder = Decoder(weights_of(model, MAX_POSITIONS), MAX_POSITIONS)
        self.cache = self.decoder.new_cache()
        self.slots: list[int] = []
        self.alone: dict[int, object] = {}

    @torch.inference_mode()
    def join(self, prompts: Sequence[Tensor]) -> None:
        prompts = sorted(prompts, key=len, reverse=True)
        lengths = [len(prompt) for prompt in prompts]
        slots = self.cache.take(lengths)
        logits_BV = self.decoder.prefill(torch.cat(list(prompts)), lengths, self.cache, slots)
        self.cache.last_R[slots] = logits_BV.argmax(-1)
        self.slots += slots
        for slot, prompt, logits_V in zip(slots, prompts, logits_BV, strict=True):
            self.alone[slot] = read_embeddings(self.model, [prompt])
            self._same(slot, logits_V)

    @torch.inference_mode()
    def leave(self, rows: Sequence[int]) -> None:
        gone = [self.slots[row] for row in rows]
        self.slots = [slot for slot in self.slots if slot not in gone]
        self.alone = {slot: self.alone[slot] for slot in self.slots}
        self.cache.free(gone)

    @torch.inference_mode()
    def step(self) -> None:
        slots = self.cache.compact(self.slots)
        self.alone = {
            to: go_on(self.model, self.alone[from_])  # type: ignore[arg-type]
            for from_, to in zip(self.slots, slots, strict=True)
        }
        self.slots = slots
        tokens_B = self.cache.last_R[: len(slots)]
        x_BE = self.model.get_input_embeddings()(tokens_B)
        logits_BV = one_step(self.decoder, x_BE, self.cache)
        self.cache.last_R[: len(slots)] = logits_BV.argmax(-1)
        for slot in slots:
            self._same(slot, logits_BV[slot])

    def _same(self, slot: int, logits_V: Tensor) -> None:
        expected_V = self.alone[slot].logits_BV[0]  # type: ignore[attr-defined]
        torch.testing.assert_close(logits_V, expected_V, atol=TOLERANCE, rtol=TOLERANCE)
        # The same word is said, unless two are as likely.
        two = expected_V.topk(2).values
        if float(two[0] - two[1]) > 2 * TOLERANCE:
            assert int(logits_V.argmax()) == int(expected_V.argmax())
        else:
            # Go on with the same word, so that what follows can be compared.
            self.cache.last_R[slot] = expected_V.argmax()


@given(
    model=foundations(),
    first=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    second=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    leaving=st.sets(st.integers(0, 5)),
)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_any_qwen2_says_what_it_says_in_its_own_class(
    model: Qwen2ForCausalLM, first: list[int], second: list[int], leaving: set[int]
) -> None:
    rows = Rows(model)
    rows.join(prompts_of(model, first))
    rows.step()
    rows.leave([row for row in leaving if row < len(rows.slots) - 1])
    rows.step()
    rows.join(prompts_of(model, second, seed=2))
    rows.step()
    rows.leave([row for row in leaving if row < len(rows.slots) - 1])
    rows.step()
    rows.step()


LLAMA, MISTRAL, QWEN3 = (
    (LlamaForCausalLM, LlamaConfig),
    (MistralForCausalLM, MistralConfig),
    (Qwen3ForCausalLM, Qwen3Config),
)
ROPE_3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (LLAMA, {"num_key_value_heads": 2}),
        (LLAMA, {"tie_word_embeddings": True, "head_dim": 16}),
        (LLAMA, {"rope_parameters": ROPE_3}),
        (MISTRAL, {"num_key_value_heads": 1, "sliding_window": None}),
        (MISTRAL, {"head_dim": 12, "sliding_window": MAX_POSITIONS}),
        (QWEN3, {"num_key_value_heads": 2, "head_dim": 12}),
        (QWEN3, {"tie_word_embeddings": True, "head_dim": 8, "num_hidden_layers": 1}),
    ],
)
def test_other_classes_say_what_they_say_in_their_own(
    kind: tuple[type[PreTrainedModel], type[PreTrainedConfig]], changes: dict[str, object]
) -> None:
    rows = Rows(tiny(*kind, **changes))
    rows.join(prompts_of(rows.model, [17, 40, 17, 1]))
    rows.step()
    rows.leave([1])
    rows.join(prompts_of(rows.model, [9, 33], seed=2))
    rows.step()
    rows.step()


def test_what_other_classes_may_have_and_no_decoder_computes_is_refused_by_name() -> None:
    for model, said in (
        (tiny(*LLAMA, attention_bias=True), r"bias is \['0.self_attn.o_proj'\]"),
        (tiny(*LLAMA, mlp_bias=True), r"bias is \['0.mlp.gate_proj'\]"),
        (tiny(*MISTRAL, sliding_window=16), "sliding_window is 16"),
    ):
        with pytest.raises(ModelError, match=said):
            Decoder(weights_of(model, MAX_POSITIONS), MAX_POSITIONS)
    model = tiny(*LLAMA)
    model.config.model_type = "gpt2"
    with pytest.raises(ModelError, match="model_type is 'gpt2'; there are: llama, mistral, qwen2, qwen3"):
        Decoder(weights_of(model, MAX_POSITIONS), MAX_POSITIONS)


def test_in_bfloat16_heads_with_norms_stray_no_further_than_the_class_does() -> None:
    exact, rounded = tiny(*QWEN3, head_dim=12), tiny(*QWEN3, head_dim=12).bfloat16()
    decoder = Decoder(weights_of(rounded, MAX_POSITIONS), MAX_POSITIONS)
    prompts = prompts_of(exact, [30, 21, 4])
    cache, lengths = decoder.new_cache(), [len(prompt) for prompt in prompts]
    with torch.inference_mode():
        ours = decoder.prefill(torch.cat(prompts).bfloat16(), lengths, cache, cache.take(lengths)).float()
    theirs = read_embeddings(rounded, [prompt.bfloat16() for prompt in prompts]).logits_BV.float()
    truth = read_embeddings(exact, prompts).logits_BV
    assert (ours - truth).square().mean() < 1.5 * (theirs - truth).square().mean()


def test_rows_that_grow_long_and_many_are_followed() -> None:
    model = qwen2(num_key_value_heads=2)
    rows = Rows(model)
    rows.join(prompts_of(model, [3, 30]))
    for _ in range(70):
        rows.step()
    rows.join(prompts_of(model, [1, 2, 90, 5, 5, 5, 40, 7, 9, 60]))
    rows.step()
    rows.leave([0, 1, 4, 6, 8, 10])
    rows.step()
    rows.join(prompts_of(model, [33, 2], seed=3))
    rows.step()
    assert sorted(rows.slots) == list(range(8))


def test_rows_may_be_decoded_past_the_longest_that_is_asked_for() -> None:
    rows = Rows(qwen2())
    rows.join(prompts_of(rows.model, [MAX_POSITIONS, 3]))
    for _ in range(5):
        rows.step()


def test_scaled_rotary_embeddings_are_served() -> None:
    for rope in (
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
        {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 32},
    ):
        rows = Rows(qwen2(rope_parameters=rope))
        rows.join(prompts_of(rows.model, [40, 7]))
        rows.step()


def test_windows_as_long_as_any_row_are_served_and_shorter_ones_refused_by_name() -> None:
    wide = {"use_sliding_window": True, "max_window_layers": 0}
    rows = Rows(qwen2(sliding_window=MAX_POSITIONS, **wide))
    rows.join(prompts_of(rows.model, [40, 7]))
    rows.step()
    with pytest.raises(ModelError, match="sliding_window is 16"):
        Decoder(weights_of(qwen2(sliding_window=16, **wide), MAX_POSITIONS), MAX_POSITIONS)
    with pytest.raises(ModelError, match="hidden_act is 'gelu'"):
        Decoder(weights_of(qwen2(hidden_act="gelu"), MAX_POSITIONS), MAX_POSITIONS)
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    with pytest.raises(ModelError, match="rope_type is 'dynamic'"):
        Decoder(weights_of(qwen2(rope_parameters=dynamic), MAX_POSITIONS), MAX_POSITIONS)


def test_in_bfloat16_it_strays_no_further_than_the_class_does() -> None:
    exact, rounded = qwen2(num_key_value_heads=2), qwen2(num_key_value_heads=2).bfloat16()
    decoder = Decoder(weights_of(rounded, MAX_POSITIONS), MAX_POSITIONS)
    prompts = prompts_of(exact, [30, 21, 21, 4])
    cache, lengths = decoder.new_cache(), [len(prompt) for prompt in prompts]
    with torch.inference_mode():
        ours = decoder.prefill(torch.cat(prompts).bfloat16(), lengths, cache, cache.take(lengths)).float()
    theirs = read_embeddings(rounded, [prompt.bfloat16() for prompt in prompts]).logits_BV.float()
    truth = read_embeddings(exact, prompts).logits_BV
    assert (ours - truth).square().mean() < 1.5 * (theirs - truth).square().mean()


def test_prompts_that_are_read_in_bfloat16_stray_less_than_a_foundation_in_it() -> None:
    exact, rounded = qwen2(num_key_value_heads=2), qwen2(num_key_value_heads=2).bfloat16()
    decoder = Decoder(weights_of(exact, MAX_POSITIONS), MAX_POSITIONS, bfloat16=True)
    prompts = prompts_of(exact, [30, 21, 21, 4])
    cache, lengths = decoder.new_cache(), [len(prompt) for prompt in prompts]
    with torch.inference_mode():
        ours = decoder.prefill(torch.cat(prompts), lengths, cache, cache.take(lengths))
        alone = [
            decoder.prefill(each.clone(), [len(each)], one := decoder.new_cache(), one.take([len(each)]))
            for each in prompts
        ]
    truth = read_embeddings(exact, prompts).logits_BV
    theirs = read_embeddings(rounded, [prompt.bfloat16() for prompt in prompts]).logits_BV.float()
    assert 0 < (ours - truth).square().mean() < (theirs - truth).square().mean()
    # Who is read with it makes no difference beyond the order of sums.
    torch.testing.assert_close(torch.cat(alone), ours, atol=2e-2, rtol=0)
    # What is kept, and every step after, is in the weights' own type.
    assert cache.layers[0].dtype == ours.dtype == torch.float32


@torch.inference_mode()
def test_rows_and_positions_beyond_change_nothing() -> None:
    """A recorded step is of more rows and positions than there are."""
    model = qwen2(num_key_value_heads=2)
    lengths = [30, 21, 4]
    prompts = prompts_of(model, lengths)
    caches, said = [], []
    for rows, positions in ((3, 31), (8, 64)):
        decoder = Decoder(weights_of(model, MAX_POSITIONS), MAX_POSITIONS)
        cache = decoder.new_cache()
        decoder.prefill(torch.cat(prompts), lengths, cache, cache.take(lengths))
        cache.reach(64)
        x_BE = model.get_input_embeddings()(torch.arange(3)).resize_(rows, 32)
        x_BE[3:] = 1
        positions_B = torch.tensor([*lengths, *[0] * (rows - 3)])
        said.append(decoder.decode(x_BE, positions_B, cache, positions)[:3])
        caches.append(cache)
    torch.testing.assert_close(*said, atol=TOLERANCE, rtol=TOLERANCE)
    for exact, padded in zip(*(cache.layers for cache in caches), strict=True):
        for slot, length in enumerate(lengths):
            kept, also = (layer[:, slot, :, : length + 1] for layer in (exact, padded))
            torch.testing.assert_close(kept, also, atol=TOLERANCE, rtol=TOLERANCE)
    # Who comes into a slot that computed along finds nothing of it.
    cache, more = caches[1], prompts_of(model, [17], seed=2)
    cache.lengths[:3] += 1
    slots = cache.take([17])
    logits_BV = decoder.prefill(torch.cat(more), [17], cache, slots)
    torch.testing.assert_close(
        logits_BV, read_embeddings(model, more).logits_BV, atol=TOLERANCE, rtol=TOLERANCE
    )


def filled(cache: KeyValueCache, slots: Sequence[int]) -> None:
    for slot in slots:
        for layer in cache.layers:
            layer[:, slot] = slot + 1
        cache.last_R[slot] = slot + 1


def test_slots_are_given_again_and_holes_closed_by_the_last_rows() -> None:
    cache = KeyValueCache(2, 1, 4, torch.float32, torch.device("cpu"))
    slots = cache.take([5, 6, 7, 8])
    filled(cache, slots)
    cache.free([1])
    assert cache.take([3]) == [1]
    cache.free([0, 2])
    assert cache.compact([3, 1]) == [0, 1]
    assert [int(cache.layers[1][0, 0, 0, at, 0]) for at in range(8)] == [4] * 8
    assert (cache.last_R[0], list(cache.lengths[:4])) == (4, [8, 3, 0, 0])


def test_a_large_cache_that_is_little_used_gives_memory_back() -> None:
    cache = KeyValueCache(1, 1, 4, torch.float32, torch.device("cpu"))
    slots = cache.take([400] + [10] * 63)
    filled(cache, slots)
    assert cache.rows * cache.positions >= 64 * 400
    cache.free(slots[:1] + slots[9:])
    assert cache.compact(slots[1:9]) == [1, 2, 3, 4, 5, 6, 7, 0]
    assert cache.rows * cache.positions <= 64 * 100
    assert [float(cache.layers[0][0, slot, 0, 0, 0]) for slot in range(8)] == [9, 2, 3, 4, 5, 6, 7, 8]
