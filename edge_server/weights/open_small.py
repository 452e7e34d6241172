"""The published halves of ``open-small`` as parts of a link: SmolLM2-135M-Instruct, EfficientNet-Lite0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from edge_server.errors import ModelError
from edge_server.model import tokenizer as tk
from edge_server.model.config import LoraTraining, MemoryConfig, ReceiverConfig
from edge_server.model.description import LinkConfig
from edge_server.model.link import Link, Parts
from edge_server.model.memory import MemoryReceiver
from edge_server.model.published.config import CheckpointFoundation, LiteVisual
from edge_server.model.published.lite import LiteEncoder
from edge_server.weights.captions import Captions
from edge_server.weights.gguf_file import read_llama
from edge_server.weights.names import ClassName

NAME = "open-small"
CLASSES = 1000
#: Longest prompt with its answer.
MAX_POSITIONS = 1024
#: Language tokens of a caption.
QUERIES = 20

# SmolLM2's chat template around a question of one turn; how it begins is what the foundation was tuned to.
_OPENING = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\n"
)
_ANSWERING = "<|im_end|>\n<|im_start|>assistant\n"
_ENDS = "<|im_end|>"
# What the marks around a slot begin as: a new line, which a chat may have anywhere.
_MARK = "\n"


def read_foundation(path: Path) -> tuple[CheckpointFoundation, LlamaForCausalLM, Tokenizer]:
    """SmolLM2 from its GGUF file, with the tokens that mark the slots of a prompt.

    Raises:
        ModelError: as :func:`edge_server.weights.gguf_file.read_llama`.
    """
    model, tokenizer = read_llama(path)
    opening, answering, mark = (tuple(tokenizer.encode(text).ids) for text in (_OPENING, _ANSWERING, _MARK))
    special = tk.add_special_tokens(tokenizer, {"pad": "<|endoftext|>", "bos": "<|im_start|>", "eos": _ENDS})
    before = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(tokenizer.get_vocab_size(with_added_tokens=True), mean_resizing=False)
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight[before:] = weight[mark[0]]
    special = replace(special, begins=opening, asks=(), answers=answering)
    return CheckpointFoundation(model.config.to_dict(), special, "float32", MAX_POSITIONS), model, tokenizer


def read_encoder(path: Path) -> LiteEncoder:
    """EfficientNet-Lite0 from its published state; nothing in it is executed.

    Raises:
        ModelError: it is no such file.
    """
    encoder = LiteEncoder(LiteVisual(CLASSES))
    try:
        weights: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        encoder.network.load_state_dict(weights)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise ModelError(f"{path}: no weights of EfficientNet-Lite0: {error}") from error
    encoder.derive()
    return encoder.eval().requires_grad_(False)


def base_link(foundation: Path, encoder: Path, names: Sequence[ClassName]) -> Link:
    """The link as it is before anything was trained: the foundation has no LoRA.

    The receiver knows the classes' codes and captions by heart.
    """
    described, network, tokenizer = read_foundation(foundation)
    visual = read_encoder(encoder)
    config = LinkConfig(
        name=NAME,
        foundation=described,
        visual=visual.config,
        audio=None,
        receiver=ReceiverConfig(num_queries=QUERIES),
        lora=LoraTraining(rank=16, alpha=32),
        memory=MemoryConfig(CLASSES, visual.config.code_size),
        analog_text=False,
    )
    link = Link(config, tokenizer, Parts({"visual": visual}, network)).eval()
    receiver = link.receiver("visual")
    assert isinstance(receiver, MemoryReceiver)  # noqa: S101 - as configured
    captions = Captions(tokenizer, QUERIES)
    receiver.keys.copy_(F.normalize(visual.codes.detach(), dim=1))
    for kind, sure in ((0, True), (1, False)):
        receiver.words[kind] = torch.tensor([captions.photo(name, sure=sure) for name in names])
    return link
