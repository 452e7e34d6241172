"""Many devices' gradients as one, and who of them pulls the model elsewhere.

Two signs, both of the edge's own gradient, which the edge computes itself from what a device sent:

- *norm*: a device whose gradient is many times the median of all, and of what it was when the round began
  (scaled tokens, absurd labels): where others are nearly done, any honest gradient is many times theirs;
- *cosine*: a device whose single steps point against the others' on average, by more than chance (flipped
  labels). Mean gradients do not tell: where a model is nearly done they add up to nothing, and so an honest
  device that still learns has all others against it. Single steps are of other examples each time, and on
  those an honest device agrees with the others or not at all.

A device that shows a sign in most of many steps is named, and learns with the others no longer. Before that,
no gradient counts for more than a few times the median norm. Sources: Blanchard et al. 2017 (why a mean needs
it), Yin et al. 2018 (trimmed mean), FLTrust (Cao et al. 2021) for the cosine.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_server.cotrain.plan import AggregateName

_TRIMMED = 0.2
"""Share of devices left out at either end."""


@dataclass(frozen=True)
class WatchSettings:
    """When a device is named."""

    norm_times: float = 4.0
    """A norm above so many medians, now and at the beginning, is a sign; a gradient counts for no more."""
    standard_errors: float = 5.0
    """A mean cosine so many of its standard errors below zero says that a device pulls against the others."""
    window: int = 40
    """Steps that are looked at."""
    least_steps: int = 25
    """No one is named before so many."""
    share: float = 0.8
    """Named where so many of them were too long."""
    least_devices: int = 3
    """With fewer, nobody can be told from the others."""


@dataclass
class _Seen:
    long: deque[bool]
    cosines: deque[float]


class Watch:
    """Looks at each step's gradients.

    Args:
        settings: when a device is named.
    """

    def __init__(self, settings: WatchSettings | None = None) -> None:
        self.settings = settings or WatchSettings()
        self.first_medians: list[float] = []
        """Median norms of the first steps; kept with the round, as later ones say nothing of its scale."""
        self._seen: dict[str, _Seen] = {}
        self.named: dict[str, str] = {}
        """Devices that pull the model elsewhere, and how that was seen."""
        self.cosines: dict[str, float] = {}
        """Of each device's gradient with those of the others, mean over the last steps."""

    def look(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A step's gradients, each flat: without those of named devices, none longer than allowed."""
        honest = {device: g for device, g in gradients.items() if device not in self.named}
        norms = {device: float(g.norm()) for device, g in honest.items()}
        if len(honest) < self.settings.least_devices:
            return honest
        median = sorted(norms.values())[(len(norms) - 1) // 2]
        if len(self.first_medians) < self.settings.least_steps:
            self.first_medians.append(median)
        most = self.settings.norm_times * max(median, statistics.fmean(self.first_medians))
        # What is long must not decide what the direction of the others is.
        directions = {device: g / max(norms[device], 1e-20) for device, g in honest.items()}
        total = torch.stack(list(directions.values())).sum(dim=0)
        for device, direction in directions.items():
            others = total - direction
            cosine = float(direction @ others / others.norm().clamp_min(1e-20))
            self._look_at(device, cosine, long=norms[device] > most)
        return {
            device: g * (most / norms[device]) if norms[device] > most else g
            for device, g in honest.items()
            if device not in self.named
        }

    def _look_at(self, device: str, cosine: float, *, long: bool) -> None:
        window = self.settings.window
        seen = self._seen.setdefault(device, _Seen(deque(maxlen=window), deque(maxlen=window)))
        seen.long.append(long)
        seen.cosines.append(cosine)
        self.cosines[device] = mean = statistics.fmean(seen.cosines)
        if len(seen.cosines) < self.settings.least_steps:
            return
        error = statistics.stdev(seen.cosines) / math.sqrt(len(seen.cosines))
        if sum(seen.long) >= self.settings.share * len(seen.long):
            self.named[device] = "its gradients are far longer than the others'"
        elif mean < -self.settings.standard_errors * error:
            self.named[device] = f"it pulls against the others (mean cosine {mean:.2f}, ± {error:.2f})"


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
