"""What every model says of itself without its weights: its name, what a block is, the text of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tokenizers import Tokenizer

from edge_server.model import tokenizer as tk


class Description(Protocol):
    """What the description of a model has, whatever else it has."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def channel_dim(self) -> int:
        """Reals per feature token."""

    @property
    def token_lengths(self) -> tuple[int, ...]:
        """Token lengths that a feature block may have."""


class Described:
    """The part of :class:`edge_server.engine.ports.Model` that is the same for every kind of model.

    Args:
        described: the model's description.
        tokenizer: of its language tokens.
        bundle_hash: of the device bundle whose tokens it understands.
    """

    def __init__(self, described: Description, tokenizer: Tokenizer, bundle_hash: str) -> None:
        self._described = described
        self._tokenizer = tokenizer
        self._bundle_hash = bundle_hash

    @property
    def name(self) -> str:
        """Name of the model, as shown to clients."""
        return self._described.name

    @property
    def bundle_hash(self) -> str:
        """SHA-256 (hexadecimal) of the device bundle this model answers for."""
        return self._bundle_hash

    @property
    def channel_dim(self) -> int:
        """Reals per feature token."""
        return self._described.channel_dim

    @property
    def token_lengths(self) -> tuple[int, ...]:
        """Token lengths that a feature block may have."""
        return self._described.token_lengths

    def text(self, token_ids: Sequence[int]) -> str:
        """The text that language token ids spell, special tokens left out."""
        return tk.decode(self._tokenizer, token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one language token adds to a text; of a special token its name."""
        return tk.token_bytes(self._tokenizer, token_id)
