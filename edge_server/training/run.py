"""Running a recipe: data, pretraining, alignment, fine-tuning, model folder. Resumable at every step.

    data ─▶ foundation ─┐
        ├─▶ visual ─────┼─▶ encoded clips ─▶ alignment ─▶ finetune ─▶ RUN/model
        └─▶ audio ──────┘
    finetune ─▶ reworded-text ─▶ reworded-clips, where the recipe has rewording

The three pretrainings need nothing of one another: with several jobs they run beside one another, each in a
process of its own with one thread, which small models use better than one process uses many.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import nn

from edge_server.data.soundstage.dataset import SplitName, generate, load_split
from edge_server.errors import DatasetError, ModelError
from edge_server.model import tokenizer as tk
from edge_server.model.description import LinkConfig
from edge_server.model.foundation import build_foundation
from edge_server.model.link import Link
from edge_server.model.modality import SLOTS
from edge_server.model.provenance import current_commit
from edge_server.training.alignment import Alignment
from edge_server.training.card import STAGES, Origin, read_record, write_card
from edge_server.training.clips import EncodedClips
from edge_server.training.finetune import Finetune
from edge_server.training.loop import DONE, Examine, run_stage
from edge_server.training.modality import TRAINING
from edge_server.training.pretrain_foundation import InductionWarmup, WorldText, world_texts
from edge_server.training.recipes import Recipe
from edge_server.training.registry import BASES, folder_of
from edge_server.training.rewording import STAGES as REWORDING
from edge_server.training.rewording import reword
from edge_server.training.run_identity import RECORD, ensure_identity
from edge_server.training.soundstage import SoundstageSplit, encode_split

#: In ``done.json`` of a part that was not pretrained but taken from a model: from which.
IMPORTED = "adopted_from"
PRETRAININGS = ("foundation", *SLOTS)


@dataclass(frozen=True)
class Run:
    """One run of a recipe.

    Attributes:
        recipe: what to train.
        seed: everything random follows from it.
        directory: where checkpoints, logs and the model go.
        data: the Soundstage data set's folder.
        jobs: processes for data and pretraining; threads for the two stages after.
        pretrained: folder of the run whose pretraining this one shares; None for its own.
        aligned: folder of the run whose stage 1 this one shares; None for its own.
    """

    recipe: Recipe
    seed: int
    directory: Path
    data: Path
    jobs: int
    pretrained: Path | None = None
    aligned: Path | None = None

    @classmethod
    def among(cls, runs: Path, recipe: Recipe, seed: int, data: Path, jobs: int) -> Run:
        """A recipe's run in a folder of runs, beside those it shares stages with."""
        shared = recipe.shares_alignment
        return cls(
            recipe,
            seed,
            folder_of(recipe, seed, runs),
            data,
            jobs,
            None if recipe.shares_pretraining is None else runs / recipe.shares_pretraining,
            None if shared is None else folder_of(replace(recipe, name=shared), seed, runs),
        )

    def stage(self, name: str) -> Path:
        """Folder of a stage, this run's or the one it shares."""
        if name == "alignment":
            return (self.aligned or self.directory) / name
        if name in ("finetune", *REWORDING):
            return self.directory / name
        return (self.pretrained or self.directory) / name

    @property
    def model(self) -> Path:
        """Folder of the model, once the run has ended."""
        return self.directory / "model"

    def all(self) -> Path:
        """Run everything that has not run yet; returns the model folder."""
        if self.pretrained is None:
            self.make_data()
            self.pretrain_all()
        torch.set_num_threads(self.jobs)
        return self.join()

    def pretrain_all(self) -> None:
        """All PRETRAININGS, beside one another where there are several jobs."""
        self.tokenizer()
        if self.jobs == 1:
            for part in PRETRAININGS:
                self.pretrain(part)
        else:
            context = multiprocessing.get_context("spawn")
            # All at once, even on fewer cores: they end together, and no core waits for the longest.
            with ProcessPoolExecutor(len(PRETRAININGS), mp_context=context) as pool:
                jobs = [
                    pool.submit(_pretrain_alone, self.recipe.name, self.seed, self.directory, self.data, part)
                    for part in PRETRAININGS
                ]
                for job in jobs:
                    job.result()

    def make_data(self) -> None:
        """Generate the splits that are not there; one of another seed or size is an error."""
        wanted: tuple[tuple[SplitName, int], ...] = (
            ("train", self.recipe.train_clips),
            ("val", self.recipe.val_clips),
        )
        for split, clips in wanted:
            summary_file = self.data / split / "split.json"
            if not summary_file.exists():
                generate(self.data, split, clips, self.seed, self.jobs)
            summary = json.loads(summary_file.read_text())
            if summary["clips"] < clips or summary["seed"] != self.seed:
                raise DatasetError(
                    f"{self.data / split}: {summary['clips']} clips of seed {summary['seed']}; "
                    f"this run needs {clips} of seed {self.seed}"
                )

    def tokenizer(self) -> Tokenizer:
        """The foundation's tokenizer, learned once."""
        path = self.stage("tokenizer.json")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            texts = world_texts(self.recipe.tokenizer_scenes, self.seed)
            tk.train_tokenizer(texts, self.recipe.vocab_size).save(str(path))
        return tk.load_tokenizer(path)

    def pretrain(self, part: str) -> None:
        """One of PRETRAININGS; nothing where it was taken from a model."""
        done = self.stage(part) / DONE
        if done.exists() and IMPORTED in json.loads(done.read_text()):
            return
        torch.manual_seed(self.seed)
        recipe = self.recipe
        if part == "foundation":
            tokenizer, training = self.tokenizer(), recipe.foundation_training
            model = build_foundation(recipe.foundation(tokenizer.get_vocab_size()))
            words = {
                i
                for text in world_texts(recipe.tokenizer_scenes // 6, self.seed)
                for i in tk.encode(tokenizer, text)
            }
            induction = InductionWarmup(model, sorted(words), training, self.seed)
            run_stage("induction", induction, training.warmup, self.stage("induction"))
            world = WorldText(model, tokenizer, training, self.seed)
            run_stage("foundation", world, training.schedule, self.stage("foundation"))
            return
        split = load_split(self.data, "train")
        config, training_of = getattr(recipe, part), getattr(recipe, f"{part}_training")
        stage = TRAINING[part].pretraining(config, training_of, split, self.seed)
        run_stage(part, stage, stage.training.schedule, self.stage(part))
        figures = self.stage(part) / "val.json"
        if not figures.exists():
            found = stage.evaluate(load_split(self.data, "val"))
            figures.write_text(json.dumps(found, indent=2) + "\n")

    def join(self, examine: Callable[[Link], Examine] = lambda link: lambda done: None) -> Path:
        """Alignment and fine-tuning on top of what was pretrained; returns the model folder.

        Args:
            examine: for a link, what looks at it between the steps of fine-tuning.
        """
        torch.manual_seed(self.seed)
        # Asked now: the checkout may move on before the run ends.
        origin = Origin(self.recipe.name, self.seed, current_commit())
        link = self.pretrained_link()
        clips = self.encoded(link)
        if self.recipe.alignment is not None:
            alignment = Alignment(link, clips, self.recipe.alignment, self.seed)
            run_stage("alignment", alignment, self.recipe.alignment.schedule, self.stage("alignment"))
        finetune = Finetune(link, clips, self.recipe.finetune, self.seed)
        schedule = self.recipe.finetune.schedule
        run_stage("finetune", finetune, schedule, self.stage("finetune"), examine=examine(link))
        if self.recipe.rewording is not None:
            reword(link, clips, self.recipe.rewording, self.seed, self.stage)
        return self._save(link, origin)

    def reword(self, model: Path) -> Path:
        """Rewording alone, on top of a model that was trained without it; returns the model folder.

        Args:
            model: its folder; what made it is told in the card of the new one.

        Raises:
            ModelError: the recipe has no rewording, or the folder is of a model that has it already.
        """
        rewording = self.recipe.rewording
        record = read_record(model)
        if rewording is None or REWORDING[0] in record["stages"]:
            raise ModelError(f"{model}: {self.recipe.name} has no rewording to go on with")
        torch.manual_seed(self.seed)
        origin = Origin(self.recipe.name, self.seed, current_commit(), before=record)
        if not (self.data / "train" / "split.json").exists():
            generate(self.data, "train", rewording.most_clips, self.seed, self.jobs)
        link = Link.load(model)
        reword(link, self.encoded(link), rewording, self.seed, self.stage)
        return self._save(link, origin)

    def _save(self, link: Link, origin: Origin) -> Path:
        link.save(self.model)
        stages = {name: self.stage(name) for name in STAGES if (self.stage(name) / DONE).exists()}
        write_card(link, origin, self.data, stages, self.model)
        return self.model

    def encoded(self, link: Link) -> EncodedClips[SoundstageSplit]:
        """The training split behind the frozen encoders."""
        return encode_split(link, self.data, "train", self.stage("features"))

    def pretrained_link(self) -> Link:
        """A link with pretrained encoders and foundation, and new heads and receivers."""
        tokenizer, recipe = self.tokenizer(), self.recipe
        config = LinkConfig(
            name=recipe.name,
            foundation=recipe.foundation(tokenizer.get_vocab_size()),
            **{slot: getattr(recipe, slot) for slot in SLOTS},
            head=recipe.head,
            receiver=recipe.receiver,
            lora=recipe.lora,
            channel_dim=recipe.channel_dim,
        )
        link = Link(config, tokenizer)
        self._load(link.foundation, "foundation", "")
        for slot in link.slots:
            self._load(link.encoder(slot), slot, "encoder.")
        return link

    def _load(self, module: nn.Module, part: str, prefix: str) -> None:
        path = self.stage(part) / "checkpoint.safetensors"
        if not (self.stage(part) / DONE).exists():
            raise ModelError(f"{path}: {part} is not pretrained; run the recipe's earlier stages first")
        with safe_open(path, framework="pt") as file:
            for name, parameter in module.named_parameters():
                parameter.data.copy_(file.get_tensor(f"weight.{prefix}{name}"))


def pretrain_shared(run: Run, runs: Path) -> None:
    """See that the pretraining which a run shares is there; one that was begun keeps its seed."""
    base = BASES[str(run.recipe.shares_pretraining)]()
    record = folder_of(base, run.seed, runs) / RECORD
    seed = int(json.loads(record.read_text())["seed"]) if record.exists() else run.seed
    shared = Run.among(runs, base, seed, run.data, run.jobs)
    ensure_identity(shared)
    shared.make_data()
    shared.pretrain_all()


def _pretrain_alone(recipe: str, seed: int, directory: Path, data: Path, part: str) -> None:
    torch.set_num_threads(1)
    Run(BASES[recipe](), seed, directory, data, 1).pretrain(part)


def cores() -> int:
    """Cores this process may use; fewer where ``OMP_NUM_THREADS`` says so.

    Threads of one computation wait for each other by turning on the spot: with more of them than cores that
    are free, a training beside other work takes many times as long.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    allowed = len(os.sched_getaffinity(0))
    return min(allowed, int(told)) if told.isdigit() and int(told) else allowed
