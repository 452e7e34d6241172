"""Which classes of published language models can be a foundation, by Hugging Face's ``model_type``.

A :class:`FoundationClass` says how a checkpoint is read (its network), how it is laid out and computed (its
:class:`~edge_server.model.decoder_weights.DecoderWeights`), and what the parts are called that get a LoRA.

One that another package brings is registered with :func:`register_foundation`, or found by its entry point of
the group ``tokenlink.foundations``, named by its ``model_type``. A server computes in processes of its own,
which find it by its entry point only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, TypeAlias

from transformers import (
    LlamaForCausalLM,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)

from edge_server.errors import ModelError
from edge_server.model.decoder_weights import DecoderWeights, llama_like

_GROUP = "tokenlink.foundations"

ReadWeights: TypeAlias = Callable[[Any, int], DecoderWeights]
"""From a network, its LoRA merged or beside its projections, and the longest row asked for [positions]."""


@dataclass(frozen=True)
class FoundationClass:
    """A class of causal language models.

    Attributes:
        network: the class that trains, and reads checkpoints; its configuration says the ``model_type``.
        weights: what serving computes with. Raises a ModelError where the network's configuration asks for
            something that it does not.
        renamed: what the network calls a projection that others call ``q_proj``, ``k_proj``, ``v_proj``,
            ``o_proj``, ``gate_proj``, ``up_proj`` or ``down_proj``; two that are one product share a name.
    """

    network: type[PreTrainedModel]
    weights: ReadWeights = llama_like
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def model_type(self) -> str:
        """What ``config.json`` calls it."""
        return str(self.network.config_class.model_type)

    def lora_targets(self, projections: Iterable[str]) -> tuple[str, ...]:
        """Projections by the names that the network has for them, each once."""
        return tuple(dict.fromkeys(self.renamed.get(name, name) for name in projections))

    def build(self, architecture: Mapping[str, Any], dtype: Any) -> PreTrainedModel:
        """A network with random weights.

        Args:
            architecture: its Hugging Face configuration.
            dtype: torch's type of its weights.
        """
        config = self.network.config_class.from_dict(dict(architecture))
        network: PreTrainedModel = self.network._from_config(config, dtype=dtype)
        return network


_classes: dict[str, FoundationClass] = {
    known.model_type: known
    for known in map(
        FoundationClass, (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
    )
}


def register_foundation(known: FoundationClass) -> None:
    """Let checkpoints of a class be foundations.

    Raises:
        ValueError: its ``model_type`` is taken by another.
    """
    if _classes.setdefault(known.model_type, known) is not known:
        raise ValueError(f"there is a foundation class {known.model_type!r} already")


def known_classes() -> frozenset[str]:
    """The ``model_type`` of every class that is registered."""
    return frozenset(_classes)


def foundation_class(model_type: object) -> FoundationClass:
    """The foundation class of a ``model_type``.

    Raises:
        ModelError: there is none, or its package cannot be imported.
    """
    known = _classes.get(str(model_type))
    if known is not None:
        return known
    found = {each.name: each for each in entry_points(group=_GROUP)}
    if model_type not in found:
        allowed = ", ".join(sorted({*_classes, *found}))
        raise ModelError(f"foundation: its model_type is {model_type!r}; there are: {allowed}")
    try:
        brought: FoundationClass = found[str(model_type)].load()
    except ImportError as error:
        raise ModelError(f"foundation: {model_type!r} cannot be imported: {error}") from error
    return brought


def weights_of(network: PreTrainedModel, max_positions: int) -> DecoderWeights:
    """What serving computes with, of a network of a class that is known.

    Args:
        network: its LoRA merged, or beside its projections.
        max_positions: longest row that is asked for.

    Raises:
        ModelError: its class is not known, or its configuration asks for something that is not served.
    """
    return foundation_class(network.config.model_type).weights(network, max_positions)
