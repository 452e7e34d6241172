"""A link with random weights, small enough to run in milliseconds."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer

from edge_server.model import tokenizer as tk
from edge_server.model.config import FoundationConfig, LoraTraining, ReceiverConfig
from edge_server.model.description import LinkConfig
from edge_server.model.link import Link
from edge_server.runtime.model_runner import ServedLink
from edge_server.training.pretrain_foundation import world_texts


@pytest.fixture(scope="session")
def small_tokenizer() -> Tokenizer:
    return tk.train_tokenizer(world_texts(100, seed=0), 640)


@pytest.fixture
def link(small_tokenizer: Tokenizer) -> Link:
    return _random_link(small_tokenizer, LoraTraining())


@pytest.fixture
def media_link(small_tokenizer: Tokenizer) -> Link:
    """The same, its LoRA for questions about media only."""
    return _random_link(small_tokenizer, LoraTraining(applies_to="media"))


def _random_link(tokenizer: Tokenizer, lora: LoraTraining) -> Link:
    torch.manual_seed(0)
    config = LinkConfig(
        name="random",
        foundation=FoundationConfig(
            tokenizer.get_vocab_size(), hidden_size=32, layers=2, heads=2, intermediate_size=64
        ),
        receiver=ReceiverConfig(width=32, heads=2, query_layers=1, num_queries=4),
        lora=lora,
        channel_dim=16,
    )
    made = Link(config, tokenizer)
    made.add_lora()
    with torch.no_grad():
        for name, parameter in made.lora_parameters().items():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return made.eval()


@pytest.fixture
def served(link: Link) -> ServedLink:
    return ServedLink(link, bundle_hash="ab" * 32)
