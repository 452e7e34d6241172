"""Both halves of the link and the foundation behind them, as one model with one folder on disk.

MODEL/model.json              configuration, name, channel_dim, what the encoders take
      tokenizer.json
      encoders.safetensors    frozen after pretraining
      foundation.safetensors  frozen after pretraining
      link.safetensors        heads and receivers
      lora.safetensors        LoRA of the foundation (stage 2); absent before
      bundle/                 the device's part, in ONNX (edge_server.export.bundle)
      bundle-int8/            the same in 8-bit integers (edge_server.export.quantization)
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel

from edge_server.errors import ModelError
from edge_server.model.answering import (
    AnyReceiver,
    build_receivers,
    known_by_heart,
    read_weights,
    receiver_of,
)
from edge_server.model.config import AudioConfig, ListenerAudio, VisualConfig
from edge_server.model.description import LinkConfig, read_description
from edge_server.model.foundation import build_foundation
from edge_server.model.head import TextHead, TransmitterHead
from edge_server.model.listener import ListenerEncoder
from edge_server.model.memory import CodeHead
from edge_server.model.published.config import (
    CheckpointAudio,
    CheckpointFoundation,
    CheckpointVisual,
    LiteVisual,
)
from edge_server.model.published.encoders import CheckpointAudioEncoder, CheckpointVisualEncoder
from edge_server.model.published.foundation import build_checkpoint_foundation
from edge_server.model.published.lite import LiteEncoder
from edge_server.model.receiver import TextReceiver
from edge_server.model.tokenizer import SpecialIds
from edge_server.model.transmitter import AudioEncoder, VisualEncoder

Encoder: TypeAlias = (
    VisualEncoder
    | AudioEncoder
    | CheckpointVisualEncoder
    | CheckpointAudioEncoder
    | LiteEncoder
    | ListenerEncoder
)
"""The encoder of a feature modality: trained here, or published."""

ENCODERS: dict[type, Callable[[Any], Encoder]] = {
    VisualConfig: VisualEncoder,
    CheckpointVisual: CheckpointVisualEncoder,
    LiteVisual: LiteEncoder,
    AudioConfig: AudioEncoder,
    CheckpointAudio: CheckpointAudioEncoder,
    ListenerAudio: ListenerEncoder,
}
"""What is built of which configuration, with random weights."""


@dataclass(frozen=True)
class Parts:
    """What a link is built around."""

    encoders: Mapping[str, Encoder]
    foundation: PreTrainedModel


class Link(nn.Module):
    """Encoders, heads, receivers, foundation.

    Args:
        config: what they are.
        tokenizer: the foundation's.
        parts: encoders and foundation with their weights; None for random ones.
    """

    def __init__(self, config: LinkConfig, tokenizer: Tokenizer, parts: Parts | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        width, channel_dim = config.foundation.hidden_size, config.channel_dim
        parts = parts or _random_parts(config)
        self.slots = tuple(modality.slot for modality in config.modalities)
        self.encoders = nn.ModuleDict({slot: parts.encoders[slot] for slot in self.slots})
        self.foundation: PreTrainedModel | PeftModel = parts.foundation
        self._media_B: Tensor | None = None

        def head(slot: str, encoder: Encoder) -> nn.Module:
            if slot in config.memory:
                return CodeHead(config.memory[slot], channel_dim, config.token_lengths[-1])
            return TransmitterHead(
                config.head, encoder.patches, encoder.hidden_size, channel_dim, config.token_lengths
            )

        self.heads = nn.ModuleDict({slot: head(slot, parts.encoders[slot]) for slot in self.slots})
        self.receivers = build_receivers(config, self.embedding)
        if config.analog_text:
            self.text_head = TextHead(width, channel_dim)
            self.text_receiver = TextReceiver(channel_dim, width)

    def encoder(self, slot: str) -> Encoder:
        """The encoder of a slot."""
        return cast(Encoder, self.encoders[slot])

    def receiver(self, slot: str) -> AnyReceiver:
        """The receiver of a slot."""
        return receiver_of(self.receivers, slot)

    @property
    def embedding(self) -> nn.Embedding:
        """The foundation's language-token embedding, [vocab, E]."""
        embedding = self.foundation.get_input_embeddings()
        assert isinstance(embedding, nn.Embedding)  # noqa: S101 - narrows the type
        return embedding

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of language tokens, [..., E], float32 whatever the type of the foundation's weights."""
        return torch.as_tensor(self.embedding(ids)).float()

    def hidden_states(
        self, x_BLE: Tensor, mask: Tensor, positions_BL: Tensor, media: Sequence[bool] = ()
    ) -> Tensor:
        """Last hidden states of the foundation, with its LoRA where it has one, [B, L, E].

        Args:
            x_BLE: what it reads, as embeddings, [B, L, E].
            mask: who sees whom, [B, 1, L, L], as the foundation's attention takes it.
            positions_BL: positions, [B, L].
            media: which rows are about media; none given: all. A LoRA that is for media only is left out of
                the others.
        """
        self.tell_media(media)
        with self.precision():
            out: Tensor = self.causal.get_decoder()(
                inputs_embeds=x_BLE, attention_mask=mask, position_ids=positions_BL, use_cache=False
            ).last_hidden_state
        return out

    def tell_media(self, media: Sequence[bool]) -> None:
        """Say which rows of the passes that follow are about media; none given: all.

        It holds until it is said again: blocks that are computed anew for their gradients ask once more.
        """
        self._media_B = None if all(media) else torch.tensor(media, dtype=torch.float32, device=self.device)

    @property
    def causal(self) -> PreTrainedModel:
        """The foundation's own class; its projections have the LoRA beside them where there is one."""
        foundation = self.foundation
        found = foundation.get_base_model() if isinstance(foundation, PeftModel) else foundation
        assert isinstance(found, PreTrainedModel)  # noqa: S101 - narrows the type
        return found

    @property
    def vocabulary(self) -> Tensor:
        """What last hidden states are compared with to say a language token, [vocab, E]."""
        weight: Tensor = self.foundation.get_output_embeddings().get_parameter("weight")
        return weight

    @property
    def special(self) -> SpecialIds:
        """Language tokens that mark the parts of a prompt."""
        return self.config.foundation.special

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.embedding.weight.device

    def precision(self) -> AbstractContextManager[object]:
        """What encoders and foundation compute within: bfloat16, where the foundation's weights are.

        Heads and receivers are small; they stay in float32.
        """
        if self.embedding.weight.dtype == torch.bfloat16:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def save_memory(self) -> None:
        """Keep little of a forward pass for the backward pass; the rest is computed again."""
        self.foundation.activation_checkpointing_enable({"use_reentrant": False})
        self.foundation.train()

    @property
    def has_lora(self) -> bool:
        """Whether the foundation has its LoRA: since stage 2, until it is merged."""
        return isinstance(self.foundation, PeftModel)

    def add_lora(self) -> None:
        """Give the foundation its LoRA; its own weights no longer require gradients."""
        lora = self.config.lora
        config = LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), lora_dropout=0.0
        )
        with warnings.catch_warnings():
            # PEFT asks transformers by a name that transformers has renamed; nothing here can change that.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            self.foundation = get_peft_model(self.foundation, config)
        if lora.applies_to == "media":
            for name, module in self.foundation.named_modules():
                if name.endswith("lora_B.default"):
                    module.register_forward_hook(self._of_media)

    def _of_media(self, module: nn.Module, inputs: Any, added_BLX: Tensor) -> Tensor:
        """What a LoRA adds, to rows that are about media."""
        media_B = self._media_B
        return added_BLX if media_B is None else added_BLX * media_B.to(added_BLX.dtype)[:, None, None]

    @property
    def keeps_lora_apart(self) -> bool:
        """Whether it has a LoRA that is for some questions only: to be computed beside its weights."""
        return self.has_lora and self.config.lora.applies_to is not None

    def merge_lora(self) -> None:
        """Add the LoRA, where there is one, to the foundation's weights for good: it costs no time then.

        It is every question's then, whatever it was for.
        """
        if isinstance(self.foundation, PeftModel):
            self.foundation = self.foundation.merge_and_unload()

    def link_parameters(self) -> dict[str, nn.Parameter]:
        """Heads and receivers, the text path's included."""
        return {
            f"{part}.{name}": parameter
            for part in _LINK_PARTS
            if hasattr(self, part)
            for name, parameter in getattr(self, part).named_parameters()
        }

    def known_by_heart(self) -> dict[str, Tensor]:
        """What receivers know that was never learned."""
        return known_by_heart(self.receivers)

    def lora_parameters(self) -> dict[str, nn.Parameter]:
        """The foundation's LoRA matrices."""
        return {name: p for name, p in self.foundation.named_parameters() if "lora_" in name}

    def send(self, slot: str, features_BPD: Tensor, token_length: int) -> Tensor:
        """Encoder tokens to what goes on air, [B, token_length, C]."""
        sent: Tensor = self.heads[slot](features_BPD, token_length)
        return sent

    def save(self, directory: Path) -> None:
        """Write the model folder, without the bundle."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "model.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        self.tokenizer.save(str(directory / "tokenizer.json"))
        save_file(_plain(self.encoders.state_dict()), directory / "encoders.safetensors")
        foundation = self.foundation
        if isinstance(foundation, PeftModel):
            save_file(_plain(get_peft_model_state_dict(foundation)), directory / "lora.safetensors")
            base = {
                name.replace(".base_layer", ""): tensor
                for name, tensor in foundation.get_base_model().state_dict().items()
                if "lora_" not in name
            }
        else:
            base = foundation.state_dict()
        for name in _tied_to_embedding(foundation)[1:]:
            del base[name]
        save_file(_plain(base), directory / "foundation.safetensors")
        save_file(_plain({**self.link_parameters(), **self.known_by_heart()}), directory / "link.safetensors")

    @classmethod
    def load(cls, directory: Path) -> Link:
        """Read a model folder.

        Raises:
            ModelError: a file is missing, or does not fit the configuration.
        """
        try:
            link = cls(*read_description(directory))
            link.encoders.load_state_dict(read_weights(directory / "encoders.safetensors"))
            base = read_weights(directory / "foundation.safetensors")
            # Left out where they are the embedding itself.
            embedding, *again = _tied_to_embedding(link.foundation)
            link.foundation.load_state_dict(base | dict.fromkeys(again, base[embedding]))
            weights = read_weights(directory / "link.safetensors")
            own: dict[str, Tensor] = {**link.link_parameters(), **link.known_by_heart()}
            if set(own) != set(weights):
                raise ModelError(
                    f"{directory}/link.safetensors: parameters differ from what model.json describes"
                )
            for name, parameter in own.items():
                parameter.data.copy_(weights[name])
            if (directory / "lora.safetensors").exists():
                link.add_lora()
                set_peft_model_state_dict(link.foundation, read_weights(directory / "lora.safetensors"))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"{directory}: not a model folder that can be read: {error}") from error
        return link.eval()


def _random_parts(config: LinkConfig) -> Parts:
    foundation = config.foundation
    told = {modality.slot: getattr(config, modality.slot) for modality in config.modalities}
    return Parts(
        {slot: ENCODERS[type(of_slot)](of_slot) for slot, of_slot in told.items()},
        build_checkpoint_foundation(foundation)
        if isinstance(foundation, CheckpointFoundation)
        else build_foundation(foundation),
    )


def _tied_to_embedding(foundation: PreTrainedModel | PeftModel) -> list[str]:
    """What a foundation calls its embedding, and what else is the same parameter."""
    causal = foundation.get_base_model() if isinstance(foundation, PeftModel) else foundation
    embedding = foundation.get_input_embeddings().get_parameter("weight")
    return [name for name, each in causal.named_parameters(remove_duplicate=False) if each is embedding]


_LINK_PARTS = ("heads", "receivers", "text_head", "text_receiver")


def _plain(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
