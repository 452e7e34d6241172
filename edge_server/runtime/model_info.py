"""A served link without its weights: its name, its bounds, the check of a prompt, the text of token ids.

The server's own process holds it while others compute;
:class:`edge_server.runtime.model_runner.ServedLink` adds the weights. Light to import: no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from device_agent.bundle.bundle import read_manifest
from edge_server.engine.ports import Prompt
from edge_server.model import tokenizer as tk
from edge_server.model.description import LinkConfig, read_description
from edge_server.runtime.prompt_check import PromptCheck


class ModelInfo:
    """Implements :class:`edge_server.engine.ports.Model`.

    Args:
        config: of the link.
        tokenizer: its foundation's.
        bundle_hash: of the device bundle whose tokens it understands.
    """

    def __init__(self, config: LinkConfig, tokenizer: Tokenizer, bundle_hash: str) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._bundle_hash = bundle_hash
        self._check = PromptCheck(config, tokenizer)

    @property
    def name(self) -> str:
        """Name of the model, as shown to clients."""
        return self._config.name

    @property
    def bundle_hash(self) -> str:
        """SHA-256 (hexadecimal) of the device bundle this model answers for."""
        return self._bundle_hash

    @property
    def eos_id(self) -> int:
        """Language token id that ends an answer."""
        return self._config.foundation.special.eos

    @property
    def channel_dim(self) -> int:
        """Reals per feature token."""
        return self._config.channel_dim

    @property
    def token_lengths(self) -> tuple[int, ...]:
        """Token lengths that a feature block may have."""
        return self._config.token_lengths

    @property
    def max_positions(self) -> int:
        """Longest prompt with its answer."""
        return self._config.foundation.max_positions

    def check(self, prompt: Prompt) -> int:
        """Validate a prompt without running it; see the port."""
        return self._check(prompt)

    def text(self, token_ids: Sequence[int]) -> str:
        """The text that language token ids spell, special tokens left out."""
        return tk.decode(self._tokenizer, token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one language token adds to a text; of a special token its name."""
        return tk.token_bytes(self._tokenizer, token_id)


def load_model_info(directory: Path) -> ModelInfo:
    """Read what a model folder says of the model, not its weights.

    Raises:
        ModelError: the folder, or its bundle's manifest, cannot be read.
    """
    return ModelInfo(*read_description(directory), bundle_hash_of(directory))


def bundle_hash_of(directory: Path) -> str:
    """SHA-256 (hexadecimal) of the device bundle that a model folder holds."""
    return read_manifest(directory / "bundle").bundle_hash
