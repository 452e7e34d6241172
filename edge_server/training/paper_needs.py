"""What the paper's sizes need of a machine, known from configurations alone: before any weight is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    ASTModel,
    PreTrainedConfig,
    PreTrainedModel,
    VivitModel,
)

from edge_server.errors import ConfigurationError, ModelError
from edge_server.model.foundation_classes import foundation_class
from edge_server.model.published.encoders import model_type_of
from edge_server.model.published.foundation import foundation_class_in

#: Parameters that a CPU trains in minutes; checkpoints for tests have fewer.
TINY = 50_000_000
_GIB = 2**30
# Weights and what is kept for the backward pass are bfloat16. What learns is small beside what is frozen.
_VALUE_BYTES = 2
# Of a position in a block that is computed again: attention, norms and the gated MLP, in bfloat16.
_BLOCK_WIDTHS, _MLP_WIDTHS = 12, 4
#: What CUDA, its libraries and fragments take besides.
_OVERHEAD = 1.3


@dataclass(frozen=True)
class Batch:
    """The largest batch of a run.

    Attributes:
        clips: rows.
        positions: language and feature tokens of a row.
        answers: language tokens of a row that are learned.
    """

    clips: int
    positions: int
    answers: int


@dataclass(frozen=True)
class Needs:
    """What a run needs.

    Attributes:
        parameters: of encoders and foundation.
        gpu_bytes: memory of a GPU, estimated.
    """

    parameters: int
    gpu_bytes: int

    @property
    def is_tiny(self) -> bool:
        """Whether a CPU will do."""
        return self.parameters <= TINY


def needs_of(foundation: Path, visual: Path, audio: Path, batch: Batch) -> Needs:
    """Estimate what a run needs from its checkpoints' configurations.

    Args:
        foundation: Hugging Face folder of the foundation.
        visual: of the visual encoder.
        audio: of the audio encoder.
        batch: the largest there will be.

    Raises:
        ModelError: a folder has no configuration of its kind.
    """
    network = foundation_class_in(foundation).network
    return estimate(
        _config(foundation, network), _config(visual, VivitModel), _config(audio, ASTModel), batch
    )


def estimate(foundation: Any, visual: PreTrainedConfig, audio: PreTrainedConfig, batch: Batch) -> Needs:
    """Estimate what a run of these sizes, as Hugging Face configurations, needs."""
    network = foundation_class(foundation.model_type).network
    parameters = sum(
        _parameters(kind, config)
        for kind, config in ((network, foundation), (VivitModel, visual), (ASTModel, audio))
    )
    places = batch.clips * batch.positions
    kept = places * foundation.hidden_size * (foundation.num_hidden_layers + _BLOCK_WIDTHS)
    kept += places * foundation.intermediate_size * _MLP_WIDTHS
    # Logits and their gradient, in float32 twice over.
    said = batch.clips * batch.answers * foundation.vocab_size * 4 * 4
    return Needs(parameters, int(((parameters + kept) * _VALUE_BYTES + said) * _OVERHEAD))


def choose_device(needs: Needs) -> torch.device:
    """Where to run.

    Raises:
        ConfigurationError: there is no GPU, or one that is too small; says what is needed.
    """
    wanted = f"a CUDA GPU with at least {needs.gpu_bytes / _GIB:.0f} GiB of memory (estimated)"
    if not torch.cuda.is_available():
        if needs.is_tiny:
            return torch.device("cpu")
        raise ConfigurationError(
            f"recipe paper: {needs.parameters / 1e6:,.0f} million parameters are too many for a CPU, and "
            f"torch {torch.__version__} finds no GPU; {wanted} is needed"
        )
    memory = torch.cuda.get_device_properties(0).total_memory
    if memory < needs.gpu_bytes and not needs.is_tiny:
        raise ConfigurationError(
            f"recipe paper: {torch.cuda.get_device_name(0)} has {memory / _GIB:.0f} GiB of memory; "
            f"{wanted} is needed"
        )
    return torch.device("cuda")


def _config(folder: Path, network: type[PreTrainedModel]) -> PreTrainedConfig:
    kind = network.config_class
    if (found := model_type_of(folder)) != kind.model_type:
        raise ModelError(f"{folder}: model_type is {found!r}; {kind.model_type!r} is needed")
    try:
        config: PreTrainedConfig = kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: no Hugging Face checkpoint: {error}") from error
    return config


def _parameters(kind: type[nn.Module], config: PreTrainedConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in kind(config).parameters())
