"""Teaching a model folder questions about clips of one's own: stage 2 once more, from where the model stands.

    MODEL ─────────────────────┐
    DIR/questions.jsonl ─▶ every file looked at once ─▶ encoded clips ─▶ finetune ─▶ OUT, with a device bundle

Heads, receivers and LoRA move; encoders and foundation stay. What the model knew before is not asked again,
and may be forgotten where the new questions say otherwise: measure both (`edge-server evaluate`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from device_agent.cotrain.questions_file import FILE
from edge_server.data.questions_file import OwnMedia, OwnQuestions, load_questions, survey
from edge_server.errors import DatasetError
from edge_server.export.bundle import export_bundle
from edge_server.export.canary import write_canaries
from edge_server.model.description import read_description
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.runtime.model_runner import ServedLink
from edge_server.training.card import Origin, write_record
from edge_server.training.clips import encode_clips
from edge_server.training.finetune import Finetune, FinetuneTraining
from edge_server.training.forward import UplinkTraining
from edge_server.training.loop import Schedule, run_stage
from edge_server.training.own_data import OwnSplit
from edge_server.training.radio import RadioTraining
from edge_server.training.recorded import media_spec
from edge_server.training.run_identity import ensure_identity

_WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class OwnRecipe:
    """What a run is told."""

    name: str
    """Of the model that comes out."""
    finetune: FinetuneTraining
    """Stage 2."""
    model: str
    """SHA-256 of the weights that it begins with."""
    questions: str
    """SHA-256 of the questions."""


@dataclass(frozen=True)
class OwnRun:
    """One run.

    Attributes:
        model: folder of the model to begin with.
        data: folder of clips and questions.
        out: folder of the model that comes out.
        steps: of stage 2.
        learning_rate: its peak.
        seed: everything random follows from it.
        jobs: clips that are decoded at once.
    """

    model: Path
    data: Path
    out: Path
    steps: int
    learning_rate: float
    seed: int
    jobs: int

    @property
    def directory(self) -> Path:
        """Where features, checkpoints and logs go: beside the model that comes out."""
        return self.out.with_name(f"{self.out.name}.run")

    @property
    def recipe(self) -> OwnRecipe:
        """Every number of the run, and what it begins with."""
        lengths = read_description(self.model)[0].token_lengths
        uplink = UplinkTraining(RadioTraining(), tuple((length, 1 / len(lengths)) for length in lengths))
        schedule = Schedule(self.steps, self.learning_rate, warmup_steps=min(100, self.steps // 10))
        training = FinetuneTraining(schedule, uplink, describe_odds=0.0)
        weights = sorted(self.model.glob(_WEIGHTS))
        return OwnRecipe(self.out.name, training, _digest(weights), _digest([self.data / FILE]))

    def all(self) -> Path:
        """Run everything that has not run yet; returns the model folder, ready to be served.

        Raises:
            ModelError: the model cannot be read, or the folder beside ``out`` is another run's.
            DatasetError: the questions cannot be read, or too many are bad.
        """
        torch.manual_seed(self.seed)
        options = f"--data {self.data.name} --steps {self.steps} --learning-rate {self.learning_rate:g}"
        origin = Origin(self.model.name, self.seed, current_commit(), options, verb="finetune")
        link = Link.load(self.model).to("cuda" if torch.cuda.is_available() else "cpu")
        link.config = replace(link.config, name=self.out.name)
        loaded = self._questions(link)
        recipe = self.recipe
        ensure_identity(self)
        split = OwnSplit(loaded.media, loaded.clips, self.jobs, loaded.questions)
        clips = encode_clips(link, split, self.directory / "features", "own clips")
        stage = Finetune(link, clips, recipe.finetune, self.seed)
        run_stage("finetune", stage, recipe.finetune.schedule, self.directory / "finetune")
        link.save(self.out)
        stages = {"finetune": self.directory / "finetune"}
        write_record(link, origin, loaded.report.to_json(), stages, self.out)
        served = Link.load(self.out)
        exported = export_bundle(served, self.out / "bundle", origin.commit)
        write_canaries(ServedLink(served, exported.bundle.hash), self.out)
        return self.out

    def _questions(self, link: Link) -> OwnQuestions:
        media = OwnMedia(self.data, media_spec(link))
        return load_questions(media, "train", partial(survey, threads=self.jobs))


def _digest(files: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    return found.hexdigest()
