"""The edge's half as it learns: receivers and LoRA, from tokens that arrived and answers that are right.

    DeviceBatch ─▶ receivers ─▶ foundation with LoRA ─▶ cross-entropy of the answers
        ◀─ gradient by what arrived, for the device's head          │
                                    AdamW ◀─ of all devices, one ◀──┘ gradient by receivers and LoRA

Each device's gradient is computed by itself, so that one can be told from another; teacher forcing and loss
are those of fine-tuning (:mod:`edge_server.training.teacher_forcing`). torch only; no network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edge_server.cotrain.aggregate import Watch, WatchSettings, aggregate
from edge_server.cotrain.batches import DeviceBatch
from edge_server.cotrain.plan import Plan
from edge_server.errors import ModelError
from edge_server.model.link import Link
from edge_server.training.loop import Schedule, parameter_groups
from edge_server.training.teacher_forcing import Row, answer_logits

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


@dataclass
class _Sum:
    loss: float
    right: float
    gradients: dict[str, Array] = field(default_factory=dict)


class ModelHalf:
    """Receivers and LoRA of a link, learning.

    Args:
        link: loaded; it is changed.
        plan: of the round.
        watch: when a device is named.
    """

    def __init__(self, link: Link, plan: Plan, watch: WatchSettings | None = None) -> None:
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
        gradients: dict[str, Tensor] = {}
        sums: dict[str, _Sum] = {}
        for device, batch in batches.items():
            found, flat = self._gradients(batch)
            if not np.isfinite(found.loss) or (flat is not None and not torch.isfinite(flat).all()):
                continue
            sums[device] = found
            if flat is not None:
                gradients[device] = flat
        if gradients:
            kept = self.watch.look(gradients)
            if kept:
                weights = {device: float(batches[device].questions) for device in kept}
                self._move(aggregate(kept, weights, self.plan.aggregate))
        self.step += 1
        return {
            device: DeviceOutcome(found.loss, found.right, found.gradients, self.watch.cosines.get(device))
            for device, found in sums.items()
        }

    @torch.inference_mode()
    def examine(self, batch: DeviceBatch, *, before: bool) -> Examined:
        """Ask held-out questions of the model as it is, or as it was before the round."""
        with self._as_before() if before else _nothing():
            x = {slot: torch.from_numpy(each.x_BTC) for slot, each in batch.slots.items()}
            rows = self._rows(batch, x)
            answers = answer_logits(self.link, rows)
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

    def _gradients(self, batch: DeviceBatch) -> tuple[_Sum, Tensor | None]:
        """A device's loss, its gradient by what arrived, and by the edge's weights as one vector."""
        heads_learn = self.plan.heads != "frozen"
        x = {
            slot: torch.from_numpy(each.x_BTC).requires_grad_(heads_learn)
            for slot, each in batch.slots.items()
        }
        answers = answer_logits(self.link, self._rows(batch, x))
        loss = torch.nn.functional.cross_entropy(answers.logits_KV, answers.targets_K)
        right = (answers.logits_KV.argmax(-1) == answers.targets_K).float().mean().item()
        wanted = [*(x.values() if heads_learn else ()), *(self._learned())]
        found = list(torch.autograd.grad(loss, wanted, allow_unused=True)) if wanted else []
        by_slot: dict[str, Array] = {}
        if heads_learn:
            for slot, each in x.items():
                gradient = found.pop(0)
                gradient = torch.zeros_like(each) if gradient is None else gradient
                by_slot[slot] = gradient.reshape(-1, each.shape[-1]).numpy()
        flat = None
        if self.plan.edge_learns:
            parts = zip(found, self._learned(), strict=True)
            flat = torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in parts])
        return _Sum(loss.item(), right, by_slot), flat

    def _rows(self, batch: DeviceBatch, x: Mapping[str, Tensor]) -> list[Row]:
        pieces: list[dict[str, Tensor]] = [{} for _ in batch.asked]
        for slot, each in batch.slots.items():
            received = self.link.receiver(slot)(x[slot], torch.from_numpy(each.snr_db_B))
            for row, embeddings in zip(each.rows, received, strict=True):
                pieces[row][slot] = embeddings
        packed = []
        for slots, asked in zip(pieces, batch.asked, strict=True):
            context = Row.about(slots, self.link.special)
            for question in asked:
                context.ask(question.question, question.answer)
            packed.append(context)
        return packed

    def _learned(self) -> list[nn.Parameter]:
        return list(self.parameters.values()) if self.plan.edge_learns else []

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


@contextmanager
def _nothing() -> Iterator[None]:
    yield
