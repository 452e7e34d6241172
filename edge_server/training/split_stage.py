"""Questions answered through the noisy channel by a split model: bottleneck and LoRA learn together.

    features [T, E] ─▶ down ─▶ channel ─▶ up ─▶ in place of placeholders ─▶ language model, LoRA ─▶ answer

Encoder and language model are frozen. A row is one picture or sound with one question, in the model's own
chat template; what is learned is the answer, and that it ends.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from edge_server.data.annotations import QuestionRow
from edge_server.model.split.bottleneck import Bottleneck
from edge_server.model.split.chat import Chat, Shown, Turn
from edge_server.model.split.description import SplitConfig
from edge_server.model.split.scale import add_scale, take_scale
from edge_server.training.forward import draw_of
from edge_server.training.loop import Schedule
from edge_server.training.losses import IGNORE
from edge_server.training.radio import RadioTraining, transmit

Features = Mapping[int, npt.NDArray[np.float32]]
"""By token length, feature tokens of every clip, [clips, T, E]."""


@dataclass(frozen=True)
class SplitTraining:
    """How a split model is trained."""

    schedule: Schedule
    """Steps and learning rate."""
    radio: RadioTraining = field(default_factory=RadioTraining)
    """Channels."""
    bottleneck: int = 64
    """Reals that are sent of a feature token."""
    rank: int = 16
    """Of the language model's LoRA."""
    alpha: int = 32
    """What its products are scaled by, over the rank."""
    batch_size: int = 8
    """Questions a step."""


@dataclass(frozen=True)
class Learned:
    """One row of a batch.

    Attributes:
        ids: language tokens, placeholders and answer included.
        answer: how many of them, at the end, are learned.
        place: where the placeholders begin.
        tokens: how many there are.
    """

    ids: list[int]
    answer: int
    place: int
    tokens: int


class SplitStage:
    """The stage as the loop runs it.

    Args:
        config: of the model.
        chat: writes its prompts.
        encode: language tokens of a text.
        network: its language model; gets a LoRA.
        bottleneck: of its one kind of media.
        features: of all clips.
        questions: about them.
        training: how.
        seed: everything random follows from it.
    """

    _STAGE = 9

    def __init__(
        self,
        config: SplitConfig,
        chat: Chat,
        encode: Any,
        network: PreTrainedModel,
        bottleneck: Bottleneck,
        features: Features,
        questions: Sequence[QuestionRow],
        training: SplitTraining,
        seed: int,
    ) -> None:
        (self._slot,) = config.parts
        self._config, self._chat, self._encode = config, chat, encode
        self._features, self._questions = features, questions
        self._training, self._seed = training, seed
        self.bottleneck = bottleneck
        self._device = network.device
        network.requires_grad_(False)
        adapted = LoraConfig(r=training.rank, lora_alpha=training.alpha, target_modules="all-linear")
        with warnings.catch_warnings():
            # As for links: PEFT asks transformers by a name that transformers has renamed.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            self.network: Any = get_peft_model(network, adapted)
        if self._device.type == "cuda":
            # What a block computed is computed again for its gradient: memory for one block, not for all.
            network.gradient_checkpointing_enable({"use_reentrant": False})
            network.enable_input_require_grads()
        for name, parameter in self.network.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Bottleneck and LoRA."""
        ours = {f"bottleneck.{name}": each for name, each in self.bottleneck.named_parameters()}
        return ours | {name: each for name, each in self.network.named_parameters() if "lora_" in name}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the answers."""
        draw = draw_of(self._seed, self._STAGE, step)
        picked = draw.rng.integers(0, len(self._questions), self._training.batch_size)
        asked = [self._questions[int(number)] for number in picked]
        length = int(draw.rng.choice(list(self._features)))
        x_BTE = torch.from_numpy(np.stack([self._features[length][each.clip] for each in asked]))
        model, fading, snr_db_B = self._training.radio.draw(len(asked), draw.generator)
        received_BTE = self._received(x_BTE.to(self._device), model, fading, snr_db_B, draw.generator)
        return self._answers([self._row(each, length) for each in asked], received_BTE)

    def _received(
        self, x_BTE: Tensor, model: Any, fading: Any, snr_db_B: Tensor, generator: torch.Generator
    ) -> Tensor:
        log_rms = self._config.parts[self._slot].log_rms
        sent = torch.stack([add_scale(y_TR, log_rms) for y_TR in self.bottleneck.send(x_BTE)])
        arrived, told_db_B = transmit(sent, model, fading, snr_db_B, generator)
        scaled = torch.stack([take_scale(x_TC, log_rms) for x_TC in arrived])
        return self.bottleneck.receive(scaled, told_db_B.to(self._device))

    def _row(self, question: QuestionRow, length: int) -> Learned:
        written = self._chat.write([Turn("user", (Shown(self._slot, length), question.text))])
        answer = [*self._encode(question.answer), self._config.eos_ids[0]]
        (place,) = written.places
        return Learned([*written.ids, *answer], len(answer), place, length)

    def _answers(self, rows: Sequence[Learned], received_BTE: Tensor) -> tuple[Tensor, dict[str, float]]:
        longest = max(len(row.ids) for row in rows)
        ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows], device=self._device)
        used = torch.tensor(
            [[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows], device=self._device
        )
        labels = torch.full_like(ids, IGNORE)
        x_BLE = self.network.get_input_embeddings()(ids)
        whole = []
        for number, row in enumerate(rows):
            shown = received_BTE[number].to(x_BLE.dtype)
            before, after = x_BLE[number, : row.place], x_BLE[number, row.place + row.tokens :]
            whole.append(torch.cat([before, shown, after]))
            end = len(row.ids)
            labels[number, end - row.answer : end] = ids[number, end - row.answer : end]
        with self._precision():
            out = self.network(inputs_embeds=torch.stack(whole), attention_mask=used, use_cache=False)
        learned = labels[:, 1:] != IGNORE
        logits = out.logits[:, :-1][learned].float()
        targets = labels[:, 1:][learned]
        right = (logits.argmax(-1) == targets).float().mean().item()
        return F.cross_entropy(logits, targets), {"answers": right}

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        """Products in bfloat16 on a GPU; what learns stays in float32."""
        if self._device.type != "cuda":
            return contextlib.nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)
