"""A foundation class from outside: one record and its registration, from its checkpoint to an answer."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM

from edge_server.engine import FeatureBlock, Prompt
from edge_server.errors import ModelError
from edge_server.model import foundation_classes
from edge_server.model.decoder_weights import (
    BlockWeights,
    DecoderWeights,
    decoder_weights,
    refuse_what_is_not_computed,
)
from edge_server.model.foundation_classes import FoundationClass, register_foundation
from edge_server.model.link import Link
from edge_server.model.published.foundation import foundation_from
from edge_server.runtime.model_runner import ServedLink
from edge_server.training.paper import PaperRun, paper
from edge_server.training.paper_needs import needs_of
from tests.eager_reference import EagerLink
from tests.spelling import files_that_spell
from tests.tiny_checkpoints import write_checkpoints, write_foundation


class ToyConfig(Phi3Config):  # type: ignore[misc]
    """A configuration that says what it is."""

    model_type: ClassVar[str] = "toy"


class ToyForCausalLM(Phi3ForCausalLM):  # type: ignore[misc]
    """Query, key and value are one product, and so are gate and up: no class that is known is so."""

    config_class = ToyConfig


def toy_weights(network: Any, max_positions: int) -> DecoderWeights:
    """Its fused matrices taken apart."""
    refuse_what_is_not_computed(network, max_positions)
    config = network.config
    width = config.hidden_size // config.num_attention_heads
    parts = [width * config.num_attention_heads, *[width * config.num_key_value_heads] * 2]
    return decoder_weights(network, [block(layer, parts) for layer in network.model.layers])


def block(layer: Any, parts: list[int]) -> BlockWeights:
    """One of them."""
    q_XE, k_XE, v_XE = layer.self_attn.qkv_proj.weight.detach().split(parts)
    gate_IE, up_IE = layer.mlp.gate_up_proj.weight.detach().chunk(2)
    return BlockWeights(
        norm_E=layer.input_layernorm.weight.detach(),
        q_XE=q_XE,
        k_XE=k_XE,
        v_XE=v_XE,
        out_EX=layer.self_attn.o_proj.weight.detach(),
        mlp_norm_E=layer.post_attention_layernorm.weight.detach(),
        gate_IE=gate_IE,
        up_IE=up_IE,
        down_EI=layer.mlp.down_proj.weight.detach(),
    )


TOY = FoundationClass(
    ToyForCausalLM,
    weights=toy_weights,
    renamed=dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv_proj")
    | dict.fromkeys(("gate_proj", "up_proj"), "gate_up_proj"),
)


@pytest.fixture(autouse=True)
def classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foundation_classes, "_classes", dict(foundation_classes._classes))


@pytest.fixture
def registered(classes: None) -> None:
    register_foundation(TOY)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folders = write_checkpoints(tmp_path_factory.mktemp("checkpoints"))
    write_foundation(folders.foundation, tied=False, network=ToyForCausalLM)
    return folders


def blocks(link: Link) -> tuple[FeatureBlock, ...]:
    """What a device might have sent, at two token lengths."""
    rng = np.random.default_rng(0)
    shapes = (("video", 16), ("audio", 32))
    return tuple(
        FeatureBlock(name, rng.standard_normal((length, link.config.channel_dim)).astype(np.float32), 10.0)
        for name, length in shapes
    )


def test_a_link_around_it_is_trained_kept_and_served_as_its_own_class_says(
    registered: None, checkpoints: Any, tmp_path: Path
) -> None:
    run = PaperRun(replace(paper(), token_lengths=(16, 32)), 1, tmp_path / "run", checkpoints, tmp_path)
    assert needs_of(*vars(checkpoints).values(), run.recipe.batch).is_tiny
    link = run.untrained_link(torch.device("cpu"))
    link.add_lora()
    trained = link.lora_parameters()
    # The recipe names q and v, which are one product here.
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trained} == {"qkv_proj"}
    for parameter in trained.values():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    link.save(tmp_path / "model")
    kept = Link.load(tmp_path / "model")
    assert isinstance(kept.foundation.get_base_model(), ToyForCausalLM)

    prompts = [
        Prompt(blocks(kept), (5, 6, 7)),
        Prompt(blocks(kept)[1:], (9,)),
        Prompt((), (11, 12), context_ids=(3, 4)),
    ]
    served = ServedLink(kept, "ab" * 32)
    eager = EagerLink(kept)
    rows = eager.prefill(prompts)
    state, steps = served.prefill(prompts)
    for _ in range(4):
        assert [step.token_id for step in steps] == rows.tokens
        likeliest = rows.logits_BV.softmax(-1).max(-1).values
        np.testing.assert_allclose([step.probability for step in steps], likeliest, rtol=1e-3)
        rows = eager.decode(rows)
        state, steps = served.decode(state)


def test_a_package_that_is_installed_is_found_by_its_entry_point(
    checkpoints: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foundation_classes, "entry_points", lambda group: installed(group, f"{__name__}:TOY"))
    assert isinstance(foundation_from(checkpoints.foundation, "float32", 64)[1], ToyForCausalLM)
    monkeypatch.setattr(
        foundation_classes, "entry_points", lambda group: installed(group, "no_such_module:TOY")
    )
    with pytest.raises(ModelError, match="'toy' cannot be imported: No module named 'no_such_module'"):
        foundation_from(checkpoints.foundation, "float32", 64)


def installed(group: str, value: str) -> EntryPoints:
    """What a package says that brings the class."""
    known = EntryPoints([EntryPoint("toy", value, "tokenlink.foundations")])
    return known.select(group=group)


def test_without_it_its_checkpoint_is_refused_and_those_that_are_read_are_named(checkpoints: Any) -> None:
    with pytest.raises(ModelError, match="model_type is 'toy'; there are: llama, mistral, qwen2, qwen3"):
        foundation_from(checkpoints.foundation, "float32", 64)


def test_a_model_type_is_given_once(registered: None) -> None:
    register_foundation(TOY)
    with pytest.raises(ValueError, match="'toy' already"):
        register_foundation(FoundationClass(ToyForCausalLM))


def test_no_product_file_names_a_class_by_its_model_type() -> None:
    spelled = files_that_spell("qwen2", "llama", "mistral", "qwen3")
    assert spelled == {
        # Those whose weights are read without their library, an optimisation; a file format's own word for
        # what it holds.
        "edge_server/model/llama_shape.py",
        "edge_server/weights/gguf_file.py",
    }
