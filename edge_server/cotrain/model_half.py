"""The edge's half as it learns: receivers and LoRA, from tokens that arrived and answers that are right.

    DeviceBatch ─▶ receivers ─▶ foundation with LoRA ─▶ cross-entropy of the answers
        ◀─ gradient by what arrived, for the device's head          │
                     AdamW ◀─ with what is rehearsed ◀─ of all devices, one ◀─ gradient by receivers and LoRA

Each device has a gradient of its own, so that one can be told from another
(:mod:`edge_server.cotrain.one_pass`); teacher forcing and loss are those of fine-tuning
(:mod:`edge_server.training.teacher_forcing`). torch only; no network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edge_server.cotrain.aggregate import Watch, WatchSettings, aggregate
from edge_server.cotrain.batches import DeviceBatch
from edge_server.cotrain.one_pass import Part, gradients_apart, packed
from edge_server.cotrain.plan import Plan
from edge_server.errors import ModelError
from edge_server.model.link import Link
from edge_server.training.loop import Schedule, parameter_groups
from edge_server.training.teacher_forcing import answer_logits
from protos.tokenlink.v1 import cotrain_pb2 as cpb

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DeviceOutcome:
    """What a step was for one device.

    Attributes:
        loss: mean cross-entropy of its answers [nats].
        right: share of its answers' language tokens that were right.
        gradients: of its loss by what arrived, by slot, [B x T, C]; empty where heads do not learn.
        cosine: of its mean gradient with the others'; None: it was not looked at.
    """

    loss: float
    right: float
    gradients: Mapping[str, Array]
    cosine: float | None = None


@dataclass(frozen=True)
class Examined:
    """How a device's held-out questions were answered, each right only if all of its answer was."""

    right: int
    questions: int

    @property
    def accuracy(self) -> float:
        """Share that was right."""
        return self.right / max(1, self.questions)


class Rehearses(Protocol):
    """What was learned before the round: :mod:`edge_server.cotrain.rehearsal`."""

    @property
    def told(self) -> Mapping[str, Any]:
        """What a report says of it."""

    def batch(self, step: int) -> DeviceBatch:
        """What is rehearsed in a step."""

    def usual(self) -> Mapping[str, cpb.UsualFeatures]:
        """What heads get of it, by slot."""


class ModelHalf:
    """Receivers and LoRA of a link, learning.

    Args:
        link: loaded; it is changed.
        plan: of the round.
        watch: when a device is named.
        rehearsal: what is not to be forgotten; None: nothing is rehearsed.
    """

    def __init__(
        self,
        link: Link,
        plan: Plan,
        watch: WatchSettings | None = None,
        rehearsal: Rehearses | None = None,
    ) -> None:
        self.rehearsal = rehearsal if plan.edge_learns and plan.rehearse_share > 0.0 else None
        self.usual = rehearsal.usual() if rehearsal is not None and plan.align > 0.0 else {}
        self.link, self.plan = link.requires_grad_(False).eval(), plan
        if not link.has_lora:
            link.add_lora()
        self.parameters: dict[str, nn.Parameter] = link.lora_parameters() | {
            name: each for name, each in link.link_parameters().items() if name.startswith("receivers.")
        }
        for parameter in self.parameters.values():
            parameter.requires_grad_(plan.edge_learns)
        self._first = {name: each.detach().clone() for name, each in self.parameters.items()}
        self.schedule = Schedule(
            plan.rounds, plan.learning_rate, min(plan.warmup_steps, plan.rounds // 2), plan.weight_decay
        )
        self._optimiser = torch.optim.AdamW(
            parameter_groups(self.parameters, plan.weight_decay), lr=plan.learning_rate, betas=(0.9, 0.98)
        )
        self.watch = Watch(watch)
        self.step = 0

    def learn(self, batches: Mapping[str, DeviceBatch]) -> dict[str, DeviceOutcome]:
        """One step from what devices sent; a device whose loss is not a finite number does not count.

        Args:
            batches: by device; at least one.

        Returns:
            By device, of those whose batch could be used.
        """
        learned = self.parameters if self.plan.edge_learns else {}
        parts = gradients_apart(
            self.link, list(batches.values()), learned, heads_learn=self.plan.heads != "frozen"
        )
        usable = {device: part for device, part in zip(batches, parts, strict=True) if _is_finite(part)}
        gradients = {device: part.flat for device, part in usable.items() if part.flat is not None}
        if gradients:
            kept = self.watch.look(gradients)
            if kept:
                weights = {device: float(batches[device].questions) for device in kept}
                self._move(self._with_old(aggregate(kept, weights, self.plan.aggregate)))
        self.step += 1
        return {
            device: DeviceOutcome(part.loss, part.right, part.by_slot, self.watch.cosines.get(device))
            for device, part in usable.items()
        }

    @torch.no_grad()
    def pull_back(self, share: float) -> None:
        """Move all weights so much of the way back to what they were before the round.

        What lies between two models of which one was made of the other knows most of what either knows.
        Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT).
        """
        for name, parameter in self.parameters.items():
            parameter.lerp_(self._first[name], share)

    @torch.inference_mode()
    def examine(self, batch: DeviceBatch, *, before: bool) -> Examined:
        """Ask held-out questions of the model as it is, or as it was before the round."""
        with self._as_before() if before else _nothing():
            received = {
                slot: self.link.receiver(slot)(
                    torch.from_numpy(each.x_BTC), torch.from_numpy(each.told_db_BT)
                )
                for slot, each in batch.slots.items()
            }
            answers = answer_logits(self.link, packed(self.link, batch, received))
        wrong = answers.logits_KV.argmax(-1) != answers.targets_K
        failed = set(zip(answers.rows_K[wrong].tolist(), answers.blocks_K[wrong].tolist(), strict=True))
        return Examined(batch.questions - len(failed), batch.questions)

    def save(self, path: Path) -> None:
        """Write weights, moments and the step, all or nothing."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            tensors[f"weight.{name}"] = parameter.detach().contiguous()
            for key, value in self._optimiser.state[parameter].items():
                tensors[f"{key}.{name}"] = value.detach().contiguous()
        partial = path.with_suffix(".partial")
        said = {"step": str(self.step), "first_medians": json.dumps(self.watch.first_medians)}
        save_file(tensors, partial, metadata=said)
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote.

        Raises:
            ModelError: it is of another model, or cannot be read.
        """
        try:
            with safe_open(path, framework="pt") as file:
                names = set(file.keys())
                for name, parameter in self.parameters.items():
                    parameter.data.copy_(file.get_tensor(f"weight.{name}"))
                    self._optimiser.state[parameter] = {
                        key: file.get_tensor(f"{key}.{name}")
                        for key in ("step", "exp_avg", "exp_avg_sq")
                        if f"{key}.{name}" in names
                    }
                self.step = int(file.metadata()["step"])
                self.watch.first_medians = list(map(float, json.loads(file.metadata()["first_medians"])))
        except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise ModelError(f"{path}: no checkpoint of this model's co-training: {error}") from error

    def _with_old(self, new: Tensor) -> Tensor:
        """The devices' gradient with that of what is rehearsed."""
        if self.rehearsal is None:
            return new
        batch = self.rehearsal.batch(self.step)
        (old,) = gradients_apart(self.link, [batch], self.parameters, heads_learn=False)
        if old.flat is None or not _is_finite(old):
            return new
        share = self.plan.rehearse_share
        return (1.0 - share) * new + share * old.flat

    def _move(self, flat: Tensor) -> None:
        offset = 0
        for parameter in self.parameters.values():
            parameter.grad = flat[offset : offset + parameter.numel()].view_as(parameter).clone()
            offset += parameter.numel()
        for group in self._optimiser.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.plan.clip_norm)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    @contextmanager
    def _as_before(self) -> Iterator[None]:
        now = {name: each.detach().clone() for name, each in self.parameters.items()}
        try:
            for name, parameter in self.parameters.items():
                parameter.data.copy_(self._first[name])
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.data.copy_(now[name])


def _is_finite(part: Part) -> bool:
    return bool(np.isfinite(part.loss)) and (part.flat is None or bool(torch.isfinite(part.flat).all()))


@contextmanager
def _nothing() -> Iterator[None]:
    yield
