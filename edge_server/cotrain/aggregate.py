"""Many devices' gradients as one, and who of them pulls the model elsewhere.

Two signs, both of the edge's own gradient, which the edge computes itself from what a device sent:

- *norm*: a device whose gradient is many times the median of all (scaled tokens, absurd labels);
- *cosine*: a device whose mean gradient of the last steps points against the others' (flipped labels). A step
  of few examples says little about a direction; a mean over some tens of steps does.

A device that shows a sign in most of many steps is named, and learns with the others no longer. Before that,
no gradient counts for more than a few times the median norm. Sources: Blanchard et al. 2017 (why a mean needs
it), Yin et al. 2018 (trimmed mean), FLTrust (Cao et al. 2021) for the cosine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from edge_server.cotrain.plan import AggregateName

_TRIMMED = 0.2
"""Share of devices left out at either end."""


@dataclass(frozen=True)
class WatchSettings:
    """When a device is named."""

    norm_times: float = 4.0
    """A norm above so many medians is a sign; a gradient counts for no more."""
    least_cosine: float = 0.0
    """A mean gradient whose cosine with the others' is below is a sign."""
    memory: float = 0.95
    """Weight of the past in mean gradients."""
    window: int = 40
    """Steps that are looked at."""
    least_steps: int = 25
    """No one is named before so many."""
    share: float = 0.8
    """Named where so many of them show a sign."""
    least_devices: int = 3
    """With fewer, nobody can be told from the others."""


@dataclass
class _Seen:
    mean: Tensor | None = None
    weight: float = 0.0
    signs: deque[bool] = field(default_factory=deque)


class Watch:
    """Looks at each step's gradients.

    Args:
        settings: when a device is named.
    """

    def __init__(self, settings: WatchSettings | None = None) -> None:
        self.settings = settings or WatchSettings()
        self._seen: dict[str, _Seen] = {}
        self.named: dict[str, str] = {}
        """Devices that pull the model elsewhere, and how that was seen."""
        self.cosines: dict[str, float] = {}
        """Of each device's mean gradient with that of the others, in the last step."""

    def look(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A step's gradients, each flat: without those of named devices, none longer than allowed."""
        honest = {device: g for device, g in gradients.items() if device not in self.named}
        norms = {device: float(g.norm()) for device, g in honest.items()}
        if len(honest) < self.settings.least_devices:
            return honest
        median = sorted(norms.values())[(len(norms) - 1) // 2]
        most = self.settings.norm_times * median
        # What is long must not decide what the direction of the others is.
        kept = {d: g * min(1.0, most / max(norms[d], 1e-20)) for d, g in honest.items()}
        self._remember(kept)
        for device in honest:
            others = sum(
                (seen.mean / (seen.mean.norm() + 1e-20))
                for name, seen in self._seen.items()
                if name != device and name in kept and seen.mean is not None
            )
            mean = self._seen[device].mean
            assert isinstance(others, Tensor)  # noqa: S101 - there are at least two others
            assert mean is not None  # noqa: S101 - it was remembered just now
            cosine = float(torch.nn.functional.cosine_similarity(mean, others, dim=0))
            self.cosines[device] = cosine
            self._sign(device, long=norms[device] > most, against=cosine < self.settings.least_cosine)
        return {device: g for device, g in kept.items() if device not in self.named}

    def _remember(self, gradients: Mapping[str, Tensor]) -> None:
        memory = self.settings.memory
        for device, g in gradients.items():
            seen = self._seen.setdefault(device, _Seen(signs=deque(maxlen=self.settings.window)))
            seen.mean = g * (1 - memory) if seen.mean is None else seen.mean * memory + g * (1 - memory)

    def _sign(self, device: str, *, long: bool, against: bool) -> None:
        seen = self._seen[device]
        seen.signs.append(long or against)
        if len(seen.signs) < self.settings.least_steps:
            return
        if sum(seen.signs) >= self.settings.share * len(seen.signs):
            how = "its gradients are far longer than the others'" if long else "it pulls against the others"
            self.named[device] = f"{how} (cosine {self.cosines[device]:.2f})"


def aggregate(gradients: Mapping[str, Tensor], weights: Mapping[str, float], how: AggregateName) -> Tensor:
    """One gradient of many.

    Args:
        gradients: flat, by device; at least one.
        weights: by device; the mean is weighted by them, the trimmed mean is not.
        how: which of the two.
    """
    if how == "mean" or len(gradients) < 3:
        total = sum(weights[device] for device in gradients)
        stacked = torch.stack([g * (weights[device] / total) for device, g in gradients.items()])
        return stacked.sum(dim=0)
    ordered = torch.stack(list(gradients.values())).sort(dim=0).values
    cut = max(1, int(_TRIMMED * len(ordered)))
    return ordered[cut : len(ordered) - cut].mean(dim=0)
