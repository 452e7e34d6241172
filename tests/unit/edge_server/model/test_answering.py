"""The half that answers, read without the libraries that train, against the whole link of the same folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_server.engine import FeatureBlock, Prompt, Step
from edge_server.errors import ModelError
from edge_server.model import tokenizer as tk
from edge_server.model.answering import AnsweringHalf, read_answering_half
from edge_server.model.decoder_weights import llama_like
from edge_server.model.foundation_classes import foundation_class
from edge_server.model.link import Link
from edge_server.model.llama_shape import BUILT_AS_LLAMA, shape_of
from edge_server.model.published.config import CheckpointFoundation
from edge_server.runtime.model_runner import ServedLink
from edge_server.runtime.snapshot import Snapshot
from edge_server.runtime.start import preload_for


def half_of(directory: Path) -> AnsweringHalf:
    half = read_answering_half(directory)
    assert half is not None
    return half


def prompts(link: Link) -> list[Prompt]:
    """With media, without, and with a question of received embeddings."""
    rng = np.random.default_rng(0)
    width = link.config.channel_dim

    def block(modality: str, length: int) -> FeatureBlock:
        return FeatureBlock(modality, rng.standard_normal((length, width)).astype(np.float32), 10.0)

    ids = tuple(tk.encode(link.tokenizer, "is there a flute sound"))
    return [
        Prompt((block("video", 8), block("audio", 16)), ids),
        Prompt((), ids),
        Prompt((block("audio", 4), block("text", 5)), ()),
    ]


def said(served: ServedLink, batch: list[Prompt]) -> list[list[Step]]:
    state, steps = served.prefill(batch)
    told = [steps]
    for _ in range(3):
        state, steps = served.decode(state)
        told.append(steps)
    return told


@pytest.mark.parametrize("lora", ["merged", "for media only", "none"])
def test_it_answers_as_the_whole_link_does_to_the_last_bit(
    lora: str, link: Link, media_link: Link, tmp_path: Path
) -> None:
    whole = media_link if lora == "for media only" else link
    if lora == "none":
        whole.merge_lora()
    whole.save(tmp_path)
    half = half_of(tmp_path)
    batch = prompts(whole)
    assert said(ServedLink(half, "x"), batch) == said(ServedLink(Link.load(tmp_path), "x"), batch)


@pytest.mark.parametrize("model_type", BUILT_AS_LLAMA)
@pytest.mark.parametrize("tied", [True, False])
def test_classes_that_are_read_without_their_library_mean_the_same(
    model_type: str, tied: bool, link: Link, tmp_path: Path
) -> None:
    known = foundation_class(model_type)
    assert known.weights is llama_like
    size = link.tokenizer.get_vocab_size()
    config = known.network.config_class(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        tie_word_embeddings=tied,
    )
    foundation = CheckpointFoundation(config.to_dict(), link.config.foundation.special)
    torch.manual_seed(1)
    whole = Link(replace(link.config, foundation=foundation), link.tokenizer)
    whole.save(tmp_path)
    batch = prompts(whole)
    assert said(ServedLink(half_of(tmp_path), "x"), batch) == said(ServedLink(whole.eval(), "x"), batch)


@pytest.mark.parametrize(
    "changed",
    [
        {"model_type": "granite"},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
        {"rms_norm_eps": None},
    ],
)
def test_what_only_its_library_knows_is_left_to_it(changed: dict[str, Any]) -> None:
    network = foundation_class("llama").network
    plain = network.config_class(num_attention_heads=4, hidden_size=32).to_dict()
    assert shape_of(CheckpointFoundation(plain)) is not None
    assert shape_of(CheckpointFoundation(plain | changed)) is None


def _without(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.__delitem__(name)


def _one_more(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.0.self_attn.sink"] = torch.zeros(1)
    tensors["model.layers.2.input_layernorm.weight"] = torch.zeros(32)


def _of_another_shape(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(63, 32)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("foundation", _without("model.layers.1.self_attn.k_proj.weight"), "self_attn.k_proj.weight"),
        ("foundation", _without("model.norm.weight"), "model.norm.weight"),
        ("foundation", _one_more, "layers 0, 1, 2, and 2 are described"),
        ("foundation", _of_another_shape, r"up_IE of a block is \(63, 32\), and \(64, 32\) is described"),
        ("link", _without("receivers.audio.queries"), "link.safetensors: parameters differ"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(
    file: str, change: Callable[[dict[str, Tensor]], None], message: str, link: Link, tmp_path: Path
) -> None:
    link.save(tmp_path)
    path = tmp_path / f"{file}.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(ModelError, match=message):
        read_answering_half(tmp_path)


def test_what_is_not_served_is_refused_as_of_a_whole_link(link: Link, tmp_path: Path) -> None:
    network = foundation_class("llama").network
    config = network.config_class(
        vocab_size=link.tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        hidden_act="gelu",
    )
    foundation = CheckpointFoundation(config.to_dict(), link.config.foundation.special)
    Link(replace(link.config, foundation=foundation), link.tokenizer).save(tmp_path)
    with pytest.raises(ModelError, match="its hidden_act is 'gelu', which is not served"):
        read_answering_half(tmp_path)


def test_a_type_and_a_device_are_all_of_it(link: Link, tmp_path: Path) -> None:
    link.save(tmp_path)
    half = half_of(tmp_path).to(torch.float64)
    tensors = [half.weights.norm_E, half.weights.vocabulary_VE, *(half.weights.blocks[0].biases or ())]
    assert {each.dtype for each in tensors} == {torch.float64}
    assert half.weights.vocabulary_VE.data_ptr() == half.embedding.weight.data_ptr()


def test_serving_it_loads_no_library_that_trains(link: Link, tmp_path: Path) -> None:
    link.save(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["name"] == "random"
    modules = preload_for(Snapshot(tmp_path, ""))
    script = f"""
import importlib, sys
from pathlib import Path
for name in {modules!r}:
    importlib.import_module(name)
from edge_server.model.answering import read_answering_half
from edge_server.runtime.model_runner import ServedLink
ServedLink(read_answering_half(Path({str(tmp_path)!r})), "x")
print(sorted(set(sys.modules) & {{"transformers", "peft", "scipy", "sympy"}}))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
