"""Hearing: the listener learns to tell sounds apart, from few recordings in many disguises.

Every step draws sounds anew: a piece of one at a level, with another's piece below it or in its place in part
(between-class learning, Tokozume et al. 2018), other frequencies raised or lowered, bands and times hidden
(SpecAugment, Park et al. 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_server.model.listener import ListenerEncoder
from edge_server.training.forward import draw_of
from edge_server.training.loop import Schedule
from edge_server.training.open_small.sounds import Pcm, class_of
from edge_server.weights.sound_names import SILENCE, SPEECH, SoundName


@dataclass(frozen=True)
class HearingTraining:
    """How hearing runs."""

    schedule: Schedule
    """Steps and learning rate."""
    recordings: int = 16
    """Recorded sounds a step."""
    notes: int = 24
    """Notes of instruments a step."""
    spoken: int = 3
    """Sentences a step."""
    silent: int = 1
    """Silences a step."""
    mixed_odds: float = 0.5
    """How often a sound is mixed with another, and both are to be told."""
    hidden: int = 10
    """Widest band, and twice that of spectra, that is hidden."""


class Hearing:
    """Hearing as the loop runs it."""

    _STAGE = 13

    def __init__(
        self,
        listener: ListenerEncoder,
        recorded: Mapping[SoundName, list[Pcm]],
        played: Mapping[SoundName, list[Pcm]],
        spoken: list[Pcm],
        training: HearingTraining,
        seed: int,
    ) -> None:
        self.listener = listener.train().requires_grad_(True)
        self.recorded, self.played, self.spoken = dict(recorded), dict(played), spoken
        self.training = training
        self.seed = seed

    def trainable(self) -> dict[str, nn.Parameter]:
        """All that the listener learns; its batch norms' averages go by themselves."""
        return dict(self.listener.named_parameters())

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of what is heard."""
        draw = draw_of(self.seed, self._STAGE, step)
        rng, training = draw.rng, self.training
        sounds = [
            self._one_of(self.recorded, rng) for _ in range(training.recordings if self.recorded else 0)
        ]
        sounds += [self._one_of(self.played, rng) for _ in range(training.notes)]
        sounds += [(SPEECH, self.spoken[int(rng.integers(len(self.spoken)))]) for _ in range(training.spoken)]
        sounds += [(SILENCE, np.zeros(0, np.float32))] * training.silent
        format = self.listener.config.format
        pieces = [piece(pcm, format.samples, rng) for _, pcm in sounds]
        targets = F.one_hot(
            torch.tensor([class_of(each) for each, _ in sounds]), self.listener.config.classes
        )
        targets = targets.float()
        for first in range(len(sounds) - training.silent):
            other = int(rng.integers(len(sounds) - training.silent))
            if rng.random() < training.mixed_odds / 2:
                share = float(rng.uniform(0.1, 0.9))
                pieces[first] = share * pieces[first] + (1 - share) * pieces[other]
                targets[first] = share * targets[first] + (1 - share) * targets[other]
        with torch.no_grad():
            mel = torch.stack([self._spectrogram(each, rng) for each in pieces])
        # What the listener forgets follows from the step, too.
        torch.manual_seed(int(rng.integers(2**62)))
        logits = self.listener.logits(mel)
        right = (logits.argmax(dim=1) == targets.argmax(dim=1)).float().mean().item()
        return F.cross_entropy(logits, targets), {"right": right}

    @torch.no_grad()
    def settle(self, first: int, steps: int = 40) -> None:
        """Find the batch norms' averages anew, over draws from a step on; the listener is done then."""
        norms = [each for each in self.listener.modules() if isinstance(each, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the average of all, not one that forgets
        for step in range(first, first + steps):
            self.loss(step)
        self.listener.eval().requires_grad_(False)

    @staticmethod
    def _one_of(sounds: Mapping[SoundName, list[Pcm]], rng: np.random.Generator) -> tuple[SoundName, Pcm]:
        sound = list(sounds)[int(rng.integers(len(sounds)))]
        return sound, sounds[sound][int(rng.integers(len(sounds[sound])))]

    def _spectrogram(self, pcm: Pcm, rng: np.random.Generator) -> Tensor:
        level_db = rng.uniform(-35.0, 0.0)
        noisy = pcm * np.float32(10 ** (level_db / 20))
        noisy = noisy + rng.standard_normal(len(pcm)).astype(np.float32) * np.float32(
            10 ** rng.uniform(-5, -3)
        )
        mel: Tensor = self.listener.front_end(torch.from_numpy(noisy))
        bins = mel.shape[1]
        # Rooms and microphones: a smooth line over frequency, up to 8 dB up or down.
        knots = torch.from_numpy(rng.uniform(-0.23, 0.23, size=5)).float()
        tilt = F.interpolate(knots[None, None], bins, mode="linear", align_corners=True)[0, 0]
        mel = mel + tilt
        shift = int(rng.integers(-2, 3))
        mel = torch.roll(mel, shift, dims=1)
        for axis, longest in ((1, self.training.hidden), (0, 2 * self.training.hidden)):
            width = int(rng.integers(0, longest + 1))
            begin = int(rng.integers(0, mel.shape[axis] - width + 1))
            mel.narrow(axis, begin, width).fill_(float(mel.mean()))
        return mel


def piece(pcm: Pcm, samples: int, rng: np.random.Generator) -> Pcm:
    """A piece of a sound at its loudest 1, with silence around it where it is shorter than a window."""
    out = np.zeros(samples, np.float32)
    kept = pcm[int(rng.integers(0, max(len(pcm) - samples, 0) + 1)) :][:samples]
    if len(kept) and rng.random() < 0.3:
        # Cut short: sounds end before their window does.
        kept = kept[: int(rng.uniform(0.3, 1.0) * len(kept))]
    begin = int(rng.integers(0, samples - len(kept) + 1)) if rng.random() < 0.5 else 0
    out[begin : begin + len(kept)] = kept
    peak = float(np.abs(out).max(initial=0.0))
    return out / np.float32(peak) if peak > 1e-4 else out
