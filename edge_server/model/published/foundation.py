"""A foundation that others have trained, with its tokenizer, from a local Hugging Face folder.

Which classes there are: :mod:`edge_server.model.foundation_classes`.

The special tokens that mark a prompt's parts are added to its tokenizer where it has none of its own. Their
embeddings begin as the averages of the words that say what they mark, and stay: what fine-tuning changes of
a foundation is its LoRA alone.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel

from edge_server.errors import ModelError
from edge_server.model import tokenizer as tk
from edge_server.model.foundation_classes import FoundationClass, foundation_class
from edge_server.model.modality import MODALITIES
from edge_server.model.published.config import CheckpointFoundation, DTypeName
from edge_server.model.published.encoders import model_type_of, read_checkpoint

#: What the embedding of an added token begins as: the average of these words'.
_MEANING = {
    "pad": "nothing",
    "bos": "begin",
    "eos": "end",
    "text": "text",
    "question": "question",
    "answer": "answer",
    **{modality.opens: f"begin {modality.word}" for modality in MODALITIES.values()},
    **{modality.closes: f"end {modality.word}" for modality in MODALITIES.values()},
}


def build_checkpoint_foundation(config: CheckpointFoundation) -> PreTrainedModel:
    """The foundation with random weights, for those of a model folder to be loaded into.

    Raises:
        ModelError: there is no such foundation class.
    """
    known = foundation_class(config.architecture.get("model_type"))
    return known.build(config.architecture, getattr(torch, config.dtype))


def foundation_class_in(folder: Path) -> FoundationClass:
    """The foundation class of a checkpoint.

    Raises:
        ModelError: it is no checkpoint, or none of a foundation.
    """
    try:
        return foundation_class(model_type_of(folder))
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error


def foundation_from(
    folder: Path, dtype: DTypeName, max_positions: int
) -> tuple[CheckpointFoundation, PreTrainedModel, Tokenizer]:
    """A checkpoint and its tokenizer, with the special tokens that it lacked.

    Raises:
        ModelError: it is no checkpoint of a foundation class.
    """
    foundation = foundation_class_in(folder)
    model = read_checkpoint(folder, foundation.model_type, foundation.network, dtype=getattr(torch, dtype))
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
    added = {name: getattr(special, name) for name in _MEANING if getattr(special, name) not in before}
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
