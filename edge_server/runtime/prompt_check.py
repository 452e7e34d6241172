"""Checks a prompt against a link's sizes and counts its positions, before anything of it is computed.

Called by the engine, through :meth:`edge_server.runtime.model_info.ModelInfo.check`, for every question.
"""

from __future__ import annotations

import math

import numpy as np
from tokenizers import Tokenizer

from edge_server.engine.ports import FeatureBlock, InvalidPromptError, Prompt, PromptTooLongError
from edge_server.model import tokenizer as tk
from edge_server.model.description import LinkConfig
from edge_server.model.modality import QUESTION, TEXT, place_of

# What stands around a prompt's parts takes positions too: see edge_server.model.prompt.
_AROUND_CONTEXT = 1
_AROUND_SLOT = 2


class PromptCheck:
    """Checks prompts for one link. Thread-safe.

    Args:
        config: of what will be asked.
        tokenizer: its foundation's.
    """

    def __init__(self, config: LinkConfig, tokenizer: Tokenizer) -> None:
        self._channel_dim = config.channel_dim
        self._max_text_tokens = config.max_text_tokens
        self._max_positions = config.foundation.max_positions
        special = config.foundation.special
        self._around_question = len(special.opening) + len(special.asking) + len(special.answering)
        self._analog_text = config.analog_text
        self._views = config.views
        self._vocab_size = tokenizer.get_vocab_size(with_added_tokens=True)
        self._special = tk.special_ids_of(tokenizer)
        self._wire = [name for modality in config.modalities for name in modality.wire]
        self._slots = {
            slot: {length: config.receiver.embeddings(length) for length in config.token_lengths}
            for slot in (modality.slot for modality in config.modalities)
        }

    def __call__(self, prompt: Prompt) -> int:
        """The positions that a prompt takes.

        Raises:
            InvalidPromptError: names the field that is at fault.
        """
        if prompt.turns:
            raise InvalidPromptError(
                "turns", f"turns are {len(prompt.turns)}; this model does not tell turns apart"
            )
        used: dict[str, str] = {}
        positions = self._around_question + len(prompt.question_ids)
        if prompt.context_ids:
            positions += _AROUND_CONTEXT + len(prompt.context_ids)
        for i, block in enumerate(prompt.blocks):
            field = f"blocks[{i}]"
            slot = place_of(block.modality)
            if slot is None or not (slot in self._slots or (slot == QUESTION and self._analog_text)):
                allowed = ", ".join((*self._wire, *([TEXT] if self._analog_text else [])))
                raise InvalidPromptError(
                    f"{field}.modality", f"{field}.modality is {block.modality!r}; allowed: {allowed}"
                )
            if slot in used and (slot == QUESTION or not self._views):
                raise InvalidPromptError(
                    f"{field}.modality",
                    f"{field}.modality is {block.modality!r}, but {used[slot]} already fills its place",
                )
            used[slot] = block.modality
            if block.label:
                self._ids(f"{field}.label", block.label)
            positions += len(block.label) + self._block(field, slot, block)
        if QUESTION in used and prompt.question_ids:
            raise InvalidPromptError(
                "question_ids", "question_ids: the question came as a text block too; send one of the two"
            )
        if QUESTION not in used and not prompt.question_ids:
            raise InvalidPromptError(
                "question_ids", "question_ids is empty; a question needs at least one language token"
            )
        self._ids("question_ids", prompt.question_ids)
        self._ids("context_ids", prompt.context_ids)
        check_biases(prompt, self._vocab_size)
        if positions >= self._max_positions:
            raise PromptTooLongError("question_ids", positions, self._max_positions - 1, "positions")
        return positions

    def _block(self, field: str, slot: str, block: FeatureBlock) -> int:
        """Validate one block; returns the positions it takes."""
        shape = block.x_TC.shape
        if len(shape) != 2 or shape[1] != self._channel_dim:
            raise InvalidPromptError(
                f"{field}.shape",
                f"{field}.shape is {list(shape)}; [token_length, {self._channel_dim}] needed",
            )
        check_snr(field, block)
        if slot == QUESTION:
            if not 1 <= shape[0] <= self._max_text_tokens:
                raise InvalidPromptError(
                    f"{field}.shape",
                    f"{field}.shape is {list(shape)}; 1 to {self._max_text_tokens} tokens allowed",
                )
            return int(shape[0])
        slots = self._slots[slot].get(shape[0])
        if slots is None:
            allowed = ", ".join(map(str, self._slots[slot]))
            raise InvalidPromptError(
                f"{field}.shape", f"{field}.shape has token length {shape[0]}; allowed: {allowed}"
            )
        return _AROUND_SLOT + slots

    def _ids(self, field: str, ids: tuple[int, ...]) -> None:
        if len(ids) > self._max_text_tokens:
            raise PromptTooLongError(field, len(ids), self._max_text_tokens)
        check_ids(field, ids, self._vocab_size, self._special)


def check_snr(field: str, block: FeatureBlock) -> None:
    """See that what a receiver is told of a block can be told.

    Raises:
        InvalidPromptError: names the field, what was found and what is allowed.
    """
    if not math.isfinite(block.snr_db):
        raise InvalidPromptError(f"{field}.snr_db", f"{field}.snr_db is {block.snr_db}; must be finite")
    told = block.token_snr_db_T
    if told is None:
        return
    name, tokens = f"{field}.token_snr_db", len(block.x_TC)
    if told.shape != (tokens,):
        raise InvalidPromptError(name, f"{name} is of shape {list(told.shape)}; [{tokens}] needed")
    if not np.isfinite(told).all():
        raise InvalidPromptError(name, f"{name} holds values that are not finite")


def check_ids(field: str, ids: tuple[int, ...], vocab_size: int, special: frozenset[int]) -> None:
    """See that language token ids are those of a text.

    Args:
        field: where they stand.
        ids: to look at.
        vocab_size: ids are below it.
        special: ids that no text has.

    Raises:
        InvalidPromptError: names the first that is not.
    """
    for i, token_id in enumerate(ids):
        if not 0 <= token_id < vocab_size or token_id in special:
            raise InvalidPromptError(
                f"{field}[{i}]",
                f"{field}[{i}] is {token_id}; allowed: 0 to {vocab_size - 1}, no special token",
            )


def check_biases(prompt: Prompt, vocab_size: int) -> None:
    """See that a prompt's biases are of language tokens below ``vocab_size``.

    Raises:
        InvalidPromptError: names the first that is not.
    """
    for token_id, _ in prompt.sampling.logit_bias:
        if not 0 <= token_id < vocab_size:
            raise InvalidPromptError(
                "sampling.logit_bias",
                f"sampling.logit_bias names token {token_id}; allowed: 0 to {vocab_size - 1}",
            )
