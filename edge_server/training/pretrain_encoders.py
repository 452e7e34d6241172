"""Pretraining of the encoders: what clips show and sound like. They are frozen afterwards.

A probe reads the scene from pooled encoder tokens: from the average of all, and from one window of a random
token length, so that every part of a block comes to know the whole scene. Another reads from each token by
itself what is there, in its third of the stage or at its time: much easier, and what gets learning going.
A third reads a third of the stage from the convolutional stem, before any attention (deep supervision, Lee
et al. 2015), or what sounds at a time: the stem learns to recognise, the transformer to put together. The
probes are thrown away.

- visual: for each place, which instrument stands there (or none), and whether it moves;
- audio: for each kind, whether it is heard, its rank of entry and of loudness; and whether somebody speaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_server.data.soundstage.dataset import Split
from edge_server.data.soundstage.scene import DURATION_S, KINDS, MAX_SOUNDING, PLACES, Scene
from edge_server.model.config import AudioConfig, VisualConfig
from edge_server.model.preprocess import AudioFrontEnd, VisualFrontEnd
from edge_server.model.selection import WindowPooling
from edge_server.model.transmitter import AudioEncoder, VisualEncoder
from edge_server.training.loop import Schedule
from edge_server.training.losses import IGNORE

_NOTHING = len(KINDS)


@dataclass(frozen=True)
class EncoderTraining:
    """How an encoder is pretrained."""

    schedule: Schedule
    """Steps and learning rate."""
    batch_size: int = 32
    """Clips a step."""
    window_lengths: tuple[int, ...] = (2, 4, 8, 16)
    """Token lengths of which one random window must tell the scene by itself."""


class VisualPretraining:
    """Which instrument is where, and does it move."""

    def __init__(self, config: VisualConfig, training: EncoderTraining, split: Split, seed: int) -> None:
        self.encoder = VisualEncoder(config)
        self.training = training
        self.seed = seed
        self.frames = split.frames
        self.kinds, self.moves = visual_labels(split.scenes)
        self.pooling = WindowPooling(self.encoder.patches)
        self.probe = _probe(config.encoder.hidden_size, len(PLACES) * (len(KINDS) + 2))
        self.local_probe = nn.Linear(config.encoder.hidden_size, len(KINDS) + 1)
        self.stem_probe = nn.Linear(config.stem[-1], len(KINDS) + 1) if config.stem else None
        frames, rows, columns = self.encoder.grid
        third = _thirds(columns)
        if config.order == "columns":
            self.place_P = third.repeat_interleave(frames * rows)
        else:
            self.place_P = third.repeat(frames * rows)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The encoder and its probes."""
        return _named(
            encoder=self.encoder,
            probe=self.probe,
            local_probe=self.local_probe,
            stem_probe=self.stem_probe,
        )

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of kinds and of motion, with flips, light and shifts as augmentation."""
        rng = np.random.default_rng([self.seed, 3, step])
        picked = rng.integers(0, len(self.frames), self.training.batch_size)
        pixels = VisualFrontEnd.normalise(torch.from_numpy(self.frames[np.sort(picked)]))
        kinds, moves = self.kinds[np.sort(picked)], self.moves[np.sort(picked)]
        flip = torch.from_numpy(rng.random(len(picked)) < 0.5)
        pixels = torch.where(flip[:, None, None, None, None], pixels.flip(-1), pixels)
        kinds = torch.where(flip[:, None], kinds.flip(1), kinds)
        moves = torch.where(flip[:, None], moves.flip(1), moves)
        light = torch.from_numpy(rng.uniform(0.8, 1.2, (len(picked), 1, 3, 1, 1))).float()
        pixels = ((pixels + 1) * light - 1).roll(
            (int(rng.integers(-3, 4)), int(rng.integers(-3, 4))), (-2, -1)
        )
        maps = self.encoder.maps(pixels)
        tokens = self.encoder.attend(maps)
        local = self.local_probe(tokens)
        loss = 2 * F.cross_entropy(local.flatten(0, 1), kinds[:, self.place_P].flatten())
        if self.stem_probe is not None:
            by_third = self.stem_probe(_average_of_thirds(maps))
            loss = loss + 2 * F.cross_entropy(by_third.flatten(0, 1), kinds.flatten())
        figures: dict[str, float] = {}
        for pooled in _views(tokens, self.pooling, self.training, rng):
            kind_logits, move_logits = self._read(pooled)
            loss = loss + F.cross_entropy(kind_logits.flatten(0, 1), kinds.flatten())
            loss = loss + F.cross_entropy(move_logits.flatten(0, 1), moves.flatten(), ignore_index=IGNORE)
            if not figures:
                pairs = {"kind": (kind_logits, kinds), "moves": (move_logits, moves)}
                figures = _agreement(pairs | {"local": (local, kinds[:, self.place_P])})
        return loss / 2, figures

    @torch.no_grad()
    def evaluate(self, split: Split, batch_size: int = 64) -> dict[str, float]:
        """Accuracy of kinds and motion on another split."""
        kinds, moves = visual_labels(split.scenes)
        read = []
        for begin in range(0, len(split.frames), batch_size):
            pixels = VisualFrontEnd.normalise(
                torch.from_numpy(split.frames[begin : begin + batch_size].copy())
            )
            tokens = self.encoder(pixels)
            read.append((*self._read(tokens.mean(dim=1)), self.local_probe(tokens)))
        kind_logits, move_logits, local = (torch.cat(part) for part in zip(*read, strict=True))
        return _agreement(
            {
                "kind": (kind_logits, kinds),
                "moves": (move_logits, moves),
                "local": (local, kinds[:, self.place_P]),
            }
        )

    def _read(self, pooled_BD: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.probe(pooled_BD).unflatten(1, (len(PLACES), len(KINDS) + 2))
        still = torch.zeros_like(logits[..., :1])
        return logits[..., : len(KINDS) + 1], torch.cat([still, logits[..., -1:]], dim=-1)


class AudioPretraining:
    """What is heard, in which order, how loud; and does somebody speak."""

    _RANKS = 2 * MAX_SOUNDING

    def __init__(self, config: AudioConfig, training: EncoderTraining, split: Split, seed: int) -> None:
        self.encoder = AudioEncoder(config)
        self.training = training
        self.seed = seed
        self.mel = spectrograms(self.encoder.front_end, split.pcm)
        self.labels = audio_labels(split.scenes)
        self.pooling = WindowPooling(self.encoder.patches)
        self.probe = _probe(config.encoder.hidden_size, len(KINDS) * (2 + self._RANKS) + 2)
        self.local_probe = nn.Linear(config.encoder.hidden_size, len(KINDS) * (1 + MAX_SOUNDING))
        bands, times = self.encoder.grid
        # Middle of each token's time [s].
        self.time_P = ((torch.arange(times) + 0.5) * (DURATION_S / times)).repeat_interleave(bands)
        self.onsets = onsets(split.scenes)
        # Of each kind, 0: silent; else its rank by loudness, from 1.
        self.loudness = torch.where(self.labels[0] == 1, self.labels[2] + 1, 0)
        self.stem_probe = nn.Linear(config.patch**2, len(KINDS)) if config.stem else None

    def trainable(self) -> dict[str, nn.Parameter]:
        """The encoder and its probes."""
        return _named(
            encoder=self.encoder,
            probe=self.probe,
            local_probe=self.local_probe,
            stem_probe=self.stem_probe,
        )

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of presence, ranks and voice, with loudness and masks as augmentation."""
        rng = np.random.default_rng([self.seed, 4, step])
        picked = rng.integers(0, len(self.mel), self.training.batch_size)
        mel = torch.from_numpy(self.mel[picked]).float()
        mel = mel + torch.from_numpy(rng.uniform(-0.03, 0.03, (len(picked), 1, 1))).float()
        first = int(rng.integers(0, mel.shape[2] - 4))
        mel[:, :, first : first + int(rng.integers(0, 5))] = mel.mean()
        labels = [label[picked] for label in self.labels]
        maps = self.encoder.maps(mel)
        tokens = self.encoder.attend(maps)
        begun = self.onsets[picked][:, None, :] <= self.time_P[None, :, None]
        now = torch.where(begun, self.loudness[picked][:, None, :], 0)
        local = self.local_probe(tokens).unflatten(-1, (len(KINDS), 1 + MAX_SOUNDING))
        loss = 8 * F.cross_entropy(local.flatten(0, 2), now.flatten())
        if self.stem_probe is not None:
            by_time = self.stem_probe(maps.reshape(len(maps), len(self.time_P), -1))
            loss = loss + 8 * F.binary_cross_entropy_with_logits(by_time, begun.float())
        figures: dict[str, float] = {}
        for pooled in _views(tokens, self.pooling, self.training, rng):
            read = self._read(pooled)
            for logits, label, weight in zip(read, labels, (4.0, 1.5, 1.5, 0.5), strict=True):
                loss = loss + weight * F.cross_entropy(
                    logits.flatten(0, 1), label.flatten(), ignore_index=IGNORE
                )
            if not figures:
                pairs = dict(zip(self._NAMES, zip(read, labels, strict=True), strict=True))
                figures = _agreement(pairs | {"local": (local[begun], now[begun])})
        return loss / 2, figures

    _NAMES = ("heard", "entry", "loudness", "voice")

    @torch.no_grad()
    def evaluate(self, split: Split, batch_size: int = 64) -> dict[str, float]:
        """Accuracy of presence, ranks and voice on another split."""
        mel = torch.from_numpy(spectrograms(self.encoder.front_end, split.pcm)).float()
        read = [
            self._read(self.encoder(mel[begin : begin + batch_size]).mean(dim=1))
            for begin in range(0, len(mel), batch_size)
        ]
        logits = [torch.cat(part) for part in zip(*read, strict=True)]
        labels = audio_labels(split.scenes)
        return _agreement(dict(zip(self._NAMES, zip(logits, labels, strict=True), strict=True)))

    def _read(self, pooled_BD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits = self.probe(pooled_BD)
        kinds = logits[:, :-2].unflatten(1, (len(KINDS), 2 + self._RANKS))
        heard, entry, loudness = kinds.split([2, MAX_SOUNDING, MAX_SOUNDING], dim=-1)
        return heard, entry, loudness, logits[:, None, -2:]


def _thirds(columns: int) -> Tensor:
    """Which third of the stage each column shows, int64, [columns]."""
    return torch.arange(columns) * len(PLACES) // columns


def _average_of_thirds(maps_BFCHW: Tensor) -> Tensor:
    """Averages over frames, rows and the columns of each third, [B, 3, C]."""
    by_column = maps_BFCHW.mean(dim=(1, 3))
    thirds = _thirds(by_column.shape[-1])
    return torch.stack([by_column[..., thirds == i].mean(dim=-1) for i in range(len(PLACES))], dim=1)


def visual_labels(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """Kind at each place (len(KINDS): nothing), and 1 where it moves; int64, [N, 3] each."""
    kinds = torch.full((len(scenes), len(PLACES)), _NOTHING)
    moves = torch.full((len(scenes), len(PLACES)), IGNORE)
    for i, scene in enumerate(scenes):
        for performer in scene.performers:
            place = PLACES.index(performer.place)
            kinds[i, place] = KINDS.index(performer.kind)
            moves[i, place] = int(performer.action != "still")
    return kinds, moves


def audio_labels(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Heard [N, kinds], rank of entry and of loudness [N, kinds], voice [N, 1]; int64."""
    heard = torch.zeros(len(scenes), len(KINDS), dtype=torch.int64)
    entry, loudness = torch.full_like(heard, IGNORE), torch.full_like(heard, IGNORE)
    voice = torch.tensor([[int(scene.voice_over)] for scene in scenes])
    for i, scene in enumerate(scenes):
        for rank, sound in enumerate(scene.sounds):
            heard[i, KINDS.index(sound.kind)] = 1
            entry[i, KINDS.index(sound.kind)] = rank
        for rank, sound in enumerate(scene.by_loudness):
            last = rank == len(scene.sounds) - 1 and rank > 0
            loudness[i, KINDS.index(sound.kind)] = MAX_SOUNDING - 1 if last else rank
    return heard, entry, loudness, voice


def onsets(scenes: Sequence[Scene]) -> Tensor:
    """When each kind comes in [s], infinity where it never does; float32, [N, kinds]."""
    begin = torch.full((len(scenes), len(KINDS)), float("inf"))
    for i, scene in enumerate(scenes):
        for sound in scene.sounds:
            begin[i, KINDS.index(sound.kind)] = sound.onset_s
    return begin


@torch.no_grad()
def spectrograms(front_end: AudioFrontEnd, pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.float16]:
    """Log-mel spectrograms of many clips, float16, [N, spectra, mel_bins]."""
    out = np.empty((len(pcm), front_end.format.spectra, front_end.format.mel_bins), np.float16)
    for i, samples in enumerate(pcm):
        out[i] = front_end(torch.from_numpy(samples.astype(np.float32) / 32768)).numpy()
    return out


def _probe(hidden_size: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(hidden_size, 2 * hidden_size), nn.GELU(), nn.Linear(2 * hidden_size, outputs)
    )


def _named(**modules: nn.Module | None) -> dict[str, nn.Parameter]:
    return {
        f"{part}.{name}": p
        for part, module in modules.items()
        if module is not None
        for name, p in module.named_parameters()
    }


def _views(
    tokens_BPD: Tensor, pooling: WindowPooling, training: EncoderTraining, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The average of all tokens, and of one window of a random length; [B, D] each."""
    length = int(rng.choice(training.window_lengths))
    window = int(rng.integers(length))
    return tokens_BPD.mean(dim=1), torch.matmul(pooling.matrix(length)[window], tokens_BPD)


def _agreement(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Share of labels that the logits get right, labels to be ignored left out."""
    return {
        name: (logits.argmax(-1) == labels)[labels != IGNORE].float().mean().item()
        for name, (logits, labels) in pairs.items()
    }
