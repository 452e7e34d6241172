"""A device whose head is torch's: what the ONNX graphs and numpy's AdamW are compared with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from device_agent.bundle.bundle import Bundle
from device_agent.channel import ChannelConfig
from device_agent.channel.link import Reception
from device_agent.cotrain.learner import Learner
from edge_server.cotrain.plan import Plan
from edge_server.model.head import TransmitterHead
from edge_server.model.head_gradient import WEIGHTS
from edge_server.model.link import Link
from edge_server.study.cotrain.world import World
from edge_server.training.loop import parameter_groups
from protos.tokenlink.v1 import cotrain_pb2 as cpb

Array = npt.NDArray[np.float32]


class _Head:
    """In the place of :class:`device_agent.cotrain.head.LearningHead`."""

    def __init__(self, head: TransmitterHead, begun: Mapping[str, Array]) -> None:
        self.head = copy.deepcopy(head).requires_grad_(True)
        with torch.no_grad():
            for name, each in self.head.named_parameters():
                each.copy_(torch.from_numpy(begun[name]))
        self.sent: Tensor | None = None

    @property
    def weights(self) -> dict[str, Array]:
        """As numpy sees them."""
        named = dict(self.head.named_parameters())
        return {name: named[name].detach().numpy() for name in WEIGHTS}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each weight."""
        return {name: each.shape for name, each in self.weights.items()}

    def forward(self, features_BPD: Array, token_length: int) -> Array:
        """Tokens; their graph is remembered."""
        self.sent = self.head(torch.from_numpy(features_BPD), token_length)
        return self.sent.detach().numpy()


class TorchDevice:
    """Draws as the product's learner does, learns with autograd and torch's AdamW.

    Args:
        link: whose heads it begins with.
        bundle: of the device.
        world: what it sees.
        channel: what lies between.
        plan: of the round.
        state: a folder that nothing is written to.
        usual: what heads are used to, by slot; None: it is not known.
    """

    def __init__(
        self,
        link: Link,
        bundle: Bundle,
        world: World,
        channel: ChannelConfig,
        plan: Plan,
        state: Path,
        usual: Mapping[str, cpb.UsualFeatures] | None = None,
    ) -> None:
        self._plan = plan
        self._learner = Learner(bundle, world.name, world.examples, world.of, channel, state)
        self._learner.joined(plan.joined("study", usual))
        self._heads: dict[str, _Head] = {}
        for slot in link.slots:
            head = link.heads[slot]
            assert isinstance(head, TransmitterHead)  # noqa: S101 - narrows the type
            self._heads[slot] = _Head(head, self._learner.heads[slot].weights)
        self._learner.heads = self._heads  # type: ignore[assignment]
        self._parameters = {
            f"{slot}.{name}": each
            for slot, head in self._heads.items()
            for name, each in head.head.named_parameters()
        }
        self._optimiser = torch.optim.AdamW(
            parameter_groups(self._parameters, plan.weight_decay), lr=plan.learning_rate, betas=(0.9, 0.98)
        )
        self._rate = 0.0
        self._receptions: Mapping[str, tuple[Reception, ...]] = {}

    def batch(self, step: cpb.Step) -> cpb.Batch:
        """What the learner would send."""
        self._rate = step.learning_rate
        message = self._learner.batch(step)
        self._receptions = self._learner.receptions(step.step)
        return message

    def apply(self, step: int, gradients: Mapping[str, Array]) -> None:
        """Move the heads by the gradient of what arrived."""
        if not gradients:
            return
        self._optimiser.zero_grad(set_to_none=True)
        for slot, g_RC in gradients.items():
            sent = self._heads[slot].sent
            assert sent is not None  # noqa: S101 - it was sent
            g_BTC = g_RC.reshape(sent.shape)
            back = [r.back(g) for r, g in zip(self._receptions[slot], g_BTC, strict=True)]
            sent.backward(torch.from_numpy(np.stack(back)))  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._plan.clip_norm)
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate
        self._optimiser.step()

    def weights(self) -> dict[str, dict[str, Array]]:
        """Of each head."""
        return {slot: {n: w.copy() for n, w in head.weights.items()} for slot, head in self._heads.items()}
