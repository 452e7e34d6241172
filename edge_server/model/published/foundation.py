"""A foundation that others have trained (Qwen2 class), with its tokenizer, from a local Hugging Face folder.

The special tokens that mark a prompt's parts are added to its tokenizer where it has none of its own. Their
embeddings begin as the averages of the words that say what they mark, and stay: what fine-tuning changes of
a foundation is its LoRA alone.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from edge_server.errors import ModelError
from edge_server.model import tokenizer as tk
from edge_server.model.published.config import CheckpointFoundation, DTypeName
from edge_server.model.published.encoders import read_checkpoint

#: What the embedding of an added token begins as: the average of these words'.
_MEANING = {
    "pad": "nothing",
    "bos": "begin",
    "eos": "end",
    "visual": "begin video",
    "visual_end": "end video",
    "audio": "begin sound",
    "audio_end": "end sound",
    "text": "text",
    "question": "question",
    "answer": "answer",
}


def build_checkpoint_foundation(config: CheckpointFoundation) -> Qwen2ForCausalLM:
    """The foundation with random weights, for those of a model folder to be loaded into."""
    model = AutoModelForCausalLM.from_config(
        Qwen2Config.from_dict(config.architecture), dtype=getattr(torch, config.dtype)
    )
    assert isinstance(model, Qwen2ForCausalLM)  # noqa: S101 - narrows the type
    return model


def foundation_from(
    folder: Path, dtype: DTypeName, max_positions: int
) -> tuple[CheckpointFoundation, Qwen2ForCausalLM, Tokenizer]:
    """A Qwen2 checkpoint and its tokenizer, with the special tokens that it lacked.

    Raises:
        ModelError: it is no such checkpoint.
    """
    model = read_checkpoint(folder, "qwen2", Qwen2ForCausalLM, dtype=getattr(torch, dtype))
    try:
        read = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        tokenizer = Tokenizer.from_str(read.backend_tokenizer.to_str())
    except Exception as error:  # the library raises no narrower one
        raise ModelError(f"{folder}: its tokenizer cannot be read: {error}") from error
    known = {
        name: token
        for name, token in (("pad", read.pad_token), ("bos", read.bos_token), ("eos", read.eos_token))
        if token
    }
    before = set(tokenizer.get_vocab(with_added_tokens=True).values())
    special = tk.add_special_tokens(tokenizer, known)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if size > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(size, mean_resizing=False)
    added = {name: token for name, token in vars(special).items() if token not in before}
    for embedding in {model.get_input_embeddings(), model.get_output_embeddings()}:
        _say_what_they_mark(embedding, tokenizer, added)
    config = CheckpointFoundation(model.config.to_dict(), special, dtype, max_positions)
    return config, model, tokenizer


def _say_what_they_mark(table: nn.Module, tokenizer: Tokenizer, added: dict[str, int]) -> None:
    """Let the rows of added tokens be averages of rows of words."""
    weight = table.get_parameter("weight")
    with torch.no_grad():
        for name, row in added.items():
            words = weight[tk.encode(tokenizer, _MEANING[name])]
            weight[row] = words.float().mean(dim=0).to(weight.dtype)
