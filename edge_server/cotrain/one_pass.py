"""Every device's own gradient, from one pass of the foundation over what all of them sent.

    device 1 ─▶ receivers ─┐                                        ┌─▶ loss 1
    device 2 ─▶ receivers ─┼─▶ foundation; each row its own LoRA ───┼─▶ loss 2    one way back
        ...                ┘                                        ┘

Rows of a batch do not see one another. So one pass serves all devices, if the weights that learn are copied
for autograd, a copy a device: each copy's gradient is then that device's alone. LoRA is small enough for it;
receivers are run device by device. A small foundation costs nearly as much for one device as for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_server.cotrain.batches import DeviceBatch
from edge_server.model.link import Link
from edge_server.training.teacher_forcing import Row, answer_logits

Array = npt.NDArray[np.float32]
_ROWS_AT_ONCE = 96
"""Clips of a pass; memory grows with them."""


@dataclass(frozen=True)
class Part:
    """What a batch comes to.

    Attributes:
        loss: mean cross-entropy of its answers [nats].
        right: share of its answers' language tokens that were right.
        by_slot: gradient of the loss by what arrived, [B x T, C]; empty where heads do not learn.
        flat: gradient by the weights that learn, in their order, as one vector; None where none do.
    """

    loss: float
    right: float
    by_slot: Mapping[str, Array]
    flat: Tensor | None


@dataclass(frozen=True)
class _Received:
    """A batch behind the receivers.

    Attributes:
        arrived: what arrived, by slot.
        out: embeddings made of it, with how.
        given: the same to the foundation, which are a beginning there.
    """

    arrived: dict[str, Tensor]
    out: dict[str, Tensor]
    given: dict[str, Tensor]


def gradients_apart(
    link: Link,
    batches: Sequence[DeviceBatch],
    learned: Mapping[str, nn.Parameter],
    *,
    heads_learn: bool,
) -> list[Part]:
    """Loss and gradients of each batch, as if each had been computed by itself.

    Args:
        link: with its LoRA.
        batches: of a step.
        learned: weights that learn: of receivers, and LoRA.
        heads_learn: whether gradients by what arrived are wanted.
    """
    parts: list[Part] = []
    run: list[DeviceBatch] = []
    for batch in batches:
        if run and sum(len(each.asked) for each in (*run, batch)) > _ROWS_AT_ONCE:
            parts += _together(link, run, learned, heads_learn)
            run = []
        run.append(batch)
    return parts + (_together(link, run, learned, heads_learn) if run else [])


def packed(link: Link, batch: DeviceBatch, received: Mapping[str, Tensor]) -> list[Row]:
    """A batch's clips with their questions and answers, as the foundation reads them.

    Args:
        link: whose special tokens.
        batch: what is asked, and which clip each block is of.
        received: embeddings by slot, [B, Q, E].
    """
    pieces: list[dict[str, Tensor]] = [{} for _ in batch.asked]
    for slot, each in batch.slots.items():
        for row, embeddings in zip(each.rows, received[slot], strict=True):
            pieces[row][slot] = embeddings
    clips = []
    for slots, asked in zip(pieces, batch.asked, strict=True):
        clip = Row.about(slots, link.special)
        for question in asked:
            clip.ask(question.question, question.answer)
        clips.append(clip)
    return clips


def _together(
    link: Link, batches: Sequence[DeviceBatch], learned: Mapping[str, nn.Parameter], heads_learn: bool
) -> list[Part]:
    received = [_received(link, batch, heads_learn) for batch in batches]
    rows = [row for b, each in zip(batches, received, strict=True) for row in packed(link, b, each.given)]
    owner_R = torch.tensor([place for place, batch in enumerate(batches) for _ in batch.asked])
    copies = {
        name: torch.stack([each.detach()] * len(batches)).requires_grad_()
        for name, each in learned.items()
        if _of_foundation(name)
    }
    with _own_weights(link, copies, owner_R):
        answers = answer_logits(link, rows)
    owner_K = owner_R[answers.rows_K]
    nats_K = F.cross_entropy(answers.logits_KV, answers.targets_K, reduction="none")
    right_K = (answers.logits_KV.argmax(-1) == answers.targets_K).float()
    answers_D = torch.bincount(owner_K, minlength=len(batches))
    loss_D = torch.zeros(len(batches)).index_add(0, owner_K, nats_K) / answers_D
    right_D = torch.zeros(len(batches)).index_add(0, owner_K, right_K) / answers_D
    given = [each for one in received for each in one.given.values()]
    found = _gradients([loss_D.sum()], [*given, *copies.values()], None)
    by_given, by_copy = iter(found[: len(given)]), dict(zip(copies, found[len(given) :], strict=True))
    parts = []
    for place, one in enumerate(received):
        back = [next(by_given) for _ in one.given]
        by_slot, by_weight = _through_receivers(one, back, learned, heads_learn)
        by_weight |= {name: each[place] for name, each in by_copy.items()}
        flat = torch.cat([by_weight[name].flatten() for name in learned]) if learned else None
        parts.append(Part(loss_D[place].item(), right_D[place].item(), by_slot, flat))
    return parts


def _received(link: Link, batch: DeviceBatch, heads_learn: bool) -> _Received:
    arrived = {
        slot: torch.from_numpy(each.x_BTC).requires_grad_(heads_learn) for slot, each in batch.slots.items()
    }
    out = {
        slot: link.receiver(slot)(arrived[slot], torch.from_numpy(each.told_db_BT))
        for slot, each in batch.slots.items()
    }
    return _Received(arrived, out, {slot: each.detach().requires_grad_() for slot, each in out.items()})


def _through_receivers(
    one: _Received, back: list[Tensor], learned: Mapping[str, nn.Parameter], heads_learn: bool
) -> tuple[dict[str, Array], dict[str, Tensor]]:
    """Gradients by what arrived, and by the receivers' weights."""
    weights = {name: each for name, each in learned.items() if not _of_foundation(name)}
    arrived = one.arrived if heads_learn else {}
    found = _gradients(list(one.out.values()), [*arrived.values(), *weights.values()], back)
    by_slot = {
        slot: each.reshape(-1, each.shape[-1]).numpy()
        for slot, each in zip(arrived, found[: len(arrived)], strict=True)
    }
    return by_slot, dict(zip(weights, found[len(arrived) :], strict=True))


def _gradients(of: list[Tensor], by: list[Tensor], back: list[Tensor] | None) -> list[Tensor]:
    """Zero where something plays no part."""
    found = torch.autograd.grad(of, by, back, allow_unused=True)
    return [torch.zeros_like(b) if g is None else g for g, b in zip(found, by, strict=True)]


def _of_foundation(name: str) -> bool:
    return "lora_" in name


@contextmanager
def _own_weights(link: Link, copies: Mapping[str, Tensor], owner_R: Tensor) -> Iterator[None]:
    """Have each row of a batch meet its owner's copy of a LoRA matrix."""
    modules = []
    try:
        for name, weight_DOI in copies.items():
            module = link.foundation.get_submodule(name.removesuffix(".weight"))
            module.forward = partial(_of_rows, weight_DOI, owner_R)
            modules.append(module)
        yield
    finally:
        for module in modules:
            del module.forward


def _of_rows(weight_DOI: Tensor, owner_R: Tensor, x_RLI: Tensor) -> Tensor:
    return torch.bmm(x_RLI, weight_DOI[owner_R].transpose(1, 2))
