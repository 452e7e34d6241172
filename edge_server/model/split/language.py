"""The language model of a multimodal checkpoint, alone: a causal language model of a class of its own."""

from __future__ import annotations

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedModel

from edge_server.errors import ModelError


def causal_language_model(model: PreTrainedModel) -> PreTrainedModel:
    """The decoder and the vocabulary of a model, as the class that transformers has for its text part.

    Raises:
        ModelError: transformers has no such class.
    """
    text = model.config.get_text_config(decoder=True)
    if model.config is text:
        return model
    if type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"language model: transformers generates with no {text.model_type!r} alone")
    network = MODEL_FOR_CAUSAL_LM_MAPPING[type(text)]
    # Whose parts are put in place of its own: none of its own needs memory.
    with torch.device("meta"):
        alone: PreTrainedModel = network(text)
    alone.model = model.get_decoder()
    alone.set_output_embeddings(model.get_output_embeddings())
    alone.generation_config = model.generation_config
    return alone
