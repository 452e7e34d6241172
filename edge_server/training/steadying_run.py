"""``edge-server train wordings``: a reworded model is steadied against wordings that it never saw.

    MODEL ──────────────────┐
    clips ─▶ encoded clips ─┴─▶ steadying ─▶ OUT, with MODEL's own device bundles

Only the LoRA of OUT is another, and the foundation's blocks where a way says so. How much of what was learned
goes into it is told as a share, so that weights between MODEL's and the learned ones, or beyond them, can be
tried without training again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from device_agent.bundle.bundle import load_bundle
from edge_server.data.soundstage.dataset import load_split
from edge_server.engine.calibration import FILE as CALIBRATION
from edge_server.errors import ModelError
from edge_server.export.canary import write_canaries
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.runtime.model_runner import ServedLink
from edge_server.training.card import Origin, read_record, write_record
from edge_server.training.clips import encode_clips
from edge_server.training.forward import UplinkTraining
from edge_server.training.loop import Schedule, run_stage
from edge_server.training.radio import RadioTraining
from edge_server.training.rewording import RewordingTraining
from edge_server.training.run_identity import ensure_identity
from edge_server.training.soundstage import SoundstageSplit
from edge_server.training.steadying import Steadying, SteadyingTraining

NAME = "wordings"
STEPS = 160


@dataclass(frozen=True)
class SteadyingRecipe:
    """What a run is told."""

    name: str
    """Which way."""
    training: SteadyingTraining
    """How it is trained."""
    model: str = ""
    """Bundle hash of the model that it begins with."""


def ways(steps: int = STEPS, learning_rate: float = 5e-4) -> Mapping[str, SteadyingRecipe]:
    """Ways to steady ``soundstage-small``, by name: some minutes of one core each."""
    schedule = Schedule(steps, learning_rate, warmup_steps=20, log_every=10, checkpoint_every=50)
    rewording = RewordingTraining(
        text=schedule,
        clips=schedule,
        polish=schedule,
        settle=schedule,
        uplink=UplinkTraining(RadioTraining()),
        batch_size=8,
    )
    first = SteadyingTraining(schedule, rewording)
    told = {
        "more": first,
        "further": replace(first, words="further"),
        "noisy": replace(first, words="noisy"),
        "consistent": replace(first, consistency=1.0),
        "worst": replace(first, worst_of=2, rewording=replace(rewording, questions=6)),
        "joined": replace(first, words="further, noisy", consistency=1.0),
        "whole": replace(first, words="further", whole=True),
    }
    return {name: SteadyingRecipe(name, training) for name, training in told.items()}


@dataclass(frozen=True)
class SteadyingRun:
    """One run.

    Attributes:
        model: folder of the model to begin with.
        data: data set of clips.
        out: folder of the model that comes out.
        told: every number of it.
        seed: everything random follows from it.
        share: of what was learned; 0: the model to begin with, 1: all of it, above: on in its direction.
    """

    model: Path
    data: Path
    out: Path
    told: SteadyingRecipe
    seed: int
    share: float = 1.0

    @property
    def directory(self) -> Path:
        """Where features, checkpoints and logs go: beside the model that comes out."""
        return self.out.with_name(f"{self.out.name}.run")

    @property
    def recipe(self) -> SteadyingRecipe:
        """Every number of the run, and what it begins with."""
        return replace(self.told, model=load_bundle(self.model / "bundle").hash)

    def all(self) -> Path:
        """Run everything that has not run yet; returns the model folder, not calibrated.

        Raises:
            ModelError: the model cannot be read or has no LoRA, or the folder holds another run.
            DatasetError: the data set is not there.
        """
        ensure_identity(self)
        torch.manual_seed(self.seed)
        # Asked now: the checkout may move on before the run ends.
        options = f"--model {self.model.name} --way {self.told.name} --share {self.share:g}"
        origin = Origin(NAME, self.seed, current_commit(), options, before=read_record(self.model))
        link = Link.load(self.model)
        if not link.has_lora:
            raise ModelError(f"{self.model}: has no LoRA to go on with")
        split = SoundstageSplit(load_split(self.data, "train"))
        # Encoders stay as they are: runs beside one another share what they make of the clips.
        clips = encode_clips(link, split, self.out.parent / "features", "train")
        stage = Steadying(link, clips, self.told.training, self.seed)
        began = {name: each.detach().clone() for name, each in stage.trainable().items()}
        run_stage(NAME, stage, self.told.training.schedule, self.directory / NAME)
        with torch.no_grad():
            for name, each in stage.trainable().items():
                each.lerp_(began[name], 1.0 - self.share)
        return self._save(link.eval(), origin)

    def _save(self, link: Link, origin: Origin) -> Path:
        # Encoders, heads and receivers are as they were: devices go on with what they have.
        shutil.copytree(self.model, self.out, dirs_exist_ok=True)
        (self.out / CALIBRATION).unlink(missing_ok=True)
        link.save(self.out)
        data = json.loads((self.data / "train" / "split.json").read_text())
        write_record(link, origin, data, {NAME: self.directory / NAME}, self.out)
        write_canaries(ServedLink(Link.load(self.out), load_bundle(self.out / "bundle").hash), self.out)
        return self.out
