"""An attacker: a small network from what was seen of a codeword to attributes of the scene.

What is known decides what it can learn from. With the device bundle, it makes tokens of clips of its own, as
many as it likes; without, it has only such clips as it knows to have been sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from device_agent.channel import Channel, ChannelConfig
from edge_server.study.inversion.rotation import Reals


@dataclass(frozen=True)
class AttackTraining:
    """How an attacker learns.

    Attributes:
        steps: of AdamW.
        batch_size: codewords a step.
        rate: learning rate.
        width: of the hidden layer.
        weight_decay: decoupled.
    """

    steps: int = 250
    batch_size: int = 256
    rate: float = 2e-3
    width: int = 256
    weight_decay: float = 0.1


class Attacker(nn.Module):
    """Attributes from what was seen, [B, D]."""

    def __init__(self, inputs: int, classes: list[int], width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, width), nn.GELU())
        self.says = nn.ModuleList(nn.Linear(width, count) for count in classes)

    def forward(self, x_BD: Tensor) -> list[Tensor]:
        """Logits of each attribute."""
        hidden = self.body(x_BD)
        return [say(hidden) for say in self.says]


def attack(
    known_ND: Reals,
    labels_NA: npt.NDArray[np.int64],
    asked_ND: Reals,
    truth_NA: npt.NDArray[np.int64],
    training: AttackTraining,
    seed: int,
) -> list[float]:
    """Learn from some clips, decode others; accuracy of each attribute.

    Args:
        known_ND: what is seen of clips that the attacker knows.
        labels_NA: their attributes.
        asked_ND: what was seen of others.
        truth_NA: theirs.
        training: how.
        seed: of it.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 31])
    classes = [int(max(labels_NA[:, i].max(), truth_NA[:, i].max())) + 1 for i in range(labels_NA.shape[1])]
    middle_D, around_D = known_ND.mean(axis=0), known_ND.std(axis=0) + 1e-6
    known, asked = (torch.from_numpy((x - middle_D) / around_D) for x in (known_ND, asked_ND))
    told = torch.from_numpy(labels_NA)
    model = Attacker(known.shape[1], classes, training.width)
    optimizer = torch.optim.AdamW(model.parameters(), training.rate, weight_decay=training.weight_decay)
    for step in range(training.steps):
        for group in optimizer.param_groups:
            group["lr"] = training.rate * (1 - step / training.steps)
        rows = torch.from_numpy(rng.integers(0, len(known), min(training.batch_size, len(known))))
        logits = model(known[rows])
        loss = torch.stack([F.cross_entropy(x, told[rows, i]) for i, x in enumerate(logits)]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.inference_mode():
        said = [x.argmax(-1).numpy() for x in model(asked)]
    return [float(np.mean(x == truth_NA[:, i])) for i, x in enumerate(said)]


def over_air(x_NTC: Reals, snr_db: float | None, seed: int) -> Reals:
    """Codewords after AWGN of an SNR [dB], each with a draw of its own; as they were for None."""
    if snr_db is None:
        return x_NTC
    channel = ChannelConfig(model="awgn", snr_db=snr_db)
    return np.stack(
        [Channel(channel, np.random.default_rng([seed, i])).transmit(x).x_TC for i, x in enumerate(x_NTC)]
    )


def inner_products(x_NTC: Reals) -> Reals:
    """What a rotation of each token keeps: inner products of a codeword's tokens, [N, T (T + 1) / 2]."""
    gram_NTT = x_NTC @ x_NTC.transpose(0, 2, 1)
    upper = np.triu_indices(x_NTC.shape[1])
    return np.ascontiguousarray(gram_NTT[:, upper[0], upper[1]])
