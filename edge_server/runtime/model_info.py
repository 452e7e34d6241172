"""A served link without its weights: its name, its bounds, the check of a prompt, the text of token ids.

The server's own process holds it while others compute;
:class:`edge_server.runtime.model_runner.ServedLink` adds the weights. Light to import: no torch.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from device_agent.bundle.bundle import read_manifest
from edge_server.engine.ports import Prompt
from edge_server.model.description import LinkConfig, read_description
from edge_server.runtime.described import Described
from edge_server.runtime.prompt_check import PromptCheck


class ModelInfo(Described):
    """Implements :class:`edge_server.engine.ports.Model`.

    Args:
        config: of the link.
        tokenizer: its foundation's.
        bundle_hash: of the device bundle whose tokens it understands.
    """

    def __init__(self, config: LinkConfig, tokenizer: Tokenizer, bundle_hash: str) -> None:
        super().__init__(config, tokenizer, bundle_hash)
        self._config = config
        self._check = PromptCheck(config, tokenizer)

    @property
    def eos_id(self) -> int:
        """Language token id that ends an answer."""
        return self._config.foundation.special.eos

    @property
    def max_positions(self) -> int:
        """Longest prompt with its answer."""
        return self._config.foundation.max_positions

    def check(self, prompt: Prompt) -> int:
        """Validate a prompt without running it; see the port."""
        return self._check(prompt)


def load_model_info(directory: Path) -> ModelInfo:
    """Read what a model folder says of the model, not its weights.

    Raises:
        ModelError: the folder, or its bundle's manifest, cannot be read.
    """
    return ModelInfo(*read_description(directory), bundle_hash_of(directory))


def bundle_hash_of(directory: Path) -> str:
    """SHA-256 (hexadecimal) of the device bundle that a model folder holds."""
    return read_manifest(directory / "bundle").bundle_hash
