"""``edge-server train split``: a split model learns questions of one's own, with fewer reals on air.

    MODEL ─────────────────────┐
    DIR/questions.jsonl ─▶ features, by its own bundle ─▶ bottleneck and LoRA, through the channel ─▶ OUT

OUT is a model folder as ``split`` writes it: a bundle whose graphs end with the bottleneck, the language
model with its LoRA merged, the receiving end. The checkpoint that MODEL was split from is not needed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.format import open_memmap
from transformers import PreTrainedModel

from device_agent.bundle.bundle import load_bundle
from device_agent.transmitter import Transmitter
from edge_server.data.questions_file import OwnMedia, OwnQuestions, load_questions, survey
from edge_server.errors import ConfigurationError, DatasetError, ModelError
from edge_server.export.bottleneck_graphs import write_bundle
from edge_server.model import tokenizer as tk
from edge_server.model.provenance import current_commit
from edge_server.model.split.bottleneck import Bottleneck, save_bottlenecks
from edge_server.model.split.chat import Chat
from edge_server.model.split.description import SplitConfig, is_split, read_split, write_split
from edge_server.model.split.scale import SCALE_REALS, take_scale
from edge_server.runtime.split_runner import read_language
from edge_server.training.loop import run_stage
from edge_server.training.paper_needs import TINY
from edge_server.training.run_identity import ensure_identity
from edge_server.training.split_stage import Features, SplitStage, SplitTraining

STAGE = "split"
_GIB = 2**30
#: Of a language model that is not trained but for its LoRA, with what it remembers of a batch.
_BYTES_PER_PARAMETER, _OVERHEAD = 2, 1.6
#: Feature tokens that the bottleneck begins with.
_BEGINS_WITH = 20_000


@dataclass(frozen=True)
class SplitRecipe:
    """What a run is told."""

    name: str
    """Of the model that comes out."""
    training: SplitTraining
    """How it is trained."""
    model: str
    """Bundle hash of the model that it begins with."""


@dataclass(frozen=True)
class SplitRun:
    """One run.

    Attributes:
        model: folder of the split model to begin with.
        data: folder of clips and questions.
        out: folder of the model that comes out.
        training: how it is trained.
        seed: everything random follows from it.
        jobs: clips that are decoded at once.
    """

    model: Path
    data: Path
    out: Path
    training: SplitTraining
    seed: int
    jobs: int

    @property
    def directory(self) -> Path:
        """Where features, checkpoints and logs go: beside the model that comes out."""
        return self.out.with_name(f"{self.out.name}.run")

    @property
    def recipe(self) -> SplitRecipe:
        """Every number of the run, and what it begins with."""
        return SplitRecipe(self.out.name, self.training, load_bundle(self.model / "bundle").hash)

    def all(self) -> Path:
        """Run everything that has not run yet; returns the model folder, ready to be served.

        Raises:
            ModelError: the model is no split one, or one that cannot be trained so.
            DatasetError: the questions cannot be read, or too many are bad.
            ConfigurationError: this machine cannot train it; says what could.
        """
        config, tokenizer = self._described()
        network = read_language(self.model)
        device = device_for(network)
        ensure_identity(self)
        torch.manual_seed(self.seed)
        transmitter = Transmitter(load_bundle(self.model / "bundle"))
        loaded = load_questions(
            OwnMedia(self.data, transmitter.bundle.media_spec()), "train", partial(survey, threads=self.jobs)
        )
        features = self._features(config, transmitter, loaded)
        bottleneck = Bottleneck(config.embedding_size, self.training.bottleneck)
        bottleneck.begin_with(_some(features[config.token_lengths[-1]]))
        stage = SplitStage(
            config,
            Chat(config, tokenizer),
            partial(tk.encode, tokenizer),
            network.to(device),
            bottleneck.to(device),
            features,
            loaded.questions,
            self.training,
            self.seed,
        )
        run_stage(STAGE, stage, self.training.schedule, self.directory / STAGE)
        return self._write(config, stage, loaded)

    def _described(self) -> tuple[SplitConfig, Any]:
        if not is_split(self.model):
            raise ModelError(
                f"{self.model}: is no model that was split; `edge-server finetune` trains others"
            )
        config, tokenizer = read_split(self.model)
        if config.bottleneck:
            raise ModelError(f"{self.model}: has a bottleneck already; begin with the model it was made of")
        if len(config.parts) != 1:
            raise ModelError(f"{self.model}: shows {len(config.parts)} kinds of media; one is needed")
        if config.sections:
            raise ModelError(
                f"{self.model}: positions of {config.family} run in rows and columns; not trained here"
            )
        if not 2 <= self.training.bottleneck < config.embedding_size or self.training.bottleneck % 2:
            raise ConfigurationError(
                f"bottleneck: {self.training.bottleneck}; even, and below {config.embedding_size}, is needed"
            )
        return config, tokenizer

    def _features(self, config: SplitConfig, transmitter: Transmitter, loaded: OwnQuestions) -> Features:
        """Feature tokens of every clip at every token length, computed once and kept in files."""
        folder = self.directory / "features"
        done = folder / "done.json"
        clips = [[list(clip.files), clip.start_s] for clip in loaded.clips]
        paths = {length: folder / f"{length}.npy" for length in config.token_lengths}
        if not (done.is_file() and json.loads(done.read_text()) == clips):
            folder.mkdir(parents=True, exist_ok=True)
            files = {
                length: open_memmap(path, "w+", np.float32, (len(clips), length, config.embedding_size))
                for length, path in paths.items()
            }
            ((_, part),) = config.parts.items()
            for number, clip in enumerate(loaded.clips):
                media = loaded.media.read(clip)
                for length, file in files.items():
                    sent = list(transmitter.encode(media, length).tokens.values())
                    if len(sent) != 1:
                        raise DatasetError(
                            f"{', '.join(clip.files)}: shows {len(sent)} kinds of media; one is needed"
                        )
                    file[number] = take_scale(torch.from_numpy(sent[0]), part.log_rms).numpy()
            for file in files.values():
                file.flush()
            done.write_text(json.dumps(clips))
        return {length: np.load(path, mmap_mode="r") for length, path in paths.items()}

    def _write(self, config: SplitConfig, stage: SplitStage, loaded: OwnQuestions) -> Path:
        (slot,) = config.parts
        commit = current_commit()
        reals = self.training.bottleneck
        told = replace(config, name=self.out.name, channel_dim=reals + SCALE_REALS, bottleneck=reals)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{self.out.name}.", dir=self.out.parent) as scratch:
            fresh = Path(scratch, "new")
            fresh.mkdir()
            log_rms = {slot: config.parts[slot].log_rms}
            bottlenecks = {slot: stage.bottleneck.cpu().eval()}
            write_bundle(
                load_bundle(self.model / "bundle"), fresh / "bundle", bottlenecks, log_rms, told.name, commit
            )
            save_bottlenecks(bottlenecks, fresh)
            stage.network.merge_and_unload().cpu().save_pretrained(fresh / "language")
            shutil.copyfile(self.model / "tokenizer.json", fresh / "tokenizer.json")
            write_split(told, fresh)
            record = {
                "command": f"edge-server train split --model {self.model.name} --data {self.data.name}",
                "seed": self.seed,
                "commit": commit,
                "data": loaded.report.to_json(),
                "steps": self.training.schedule.steps,
            }
            (fresh / "training.json").write_text(json.dumps(record, indent=2) + "\n")
            if self.out.exists():
                shutil.move(self.out, Path(scratch, "old"))
            fresh.rename(self.out)
        return self.out


def device_for(network: PreTrainedModel) -> torch.device:
    """Where a language model can be trained.

    Raises:
        ConfigurationError: nowhere on this machine; says what is needed.
    """
    parameters = sum(each.numel() for each in network.parameters())
    needed = parameters * _BYTES_PER_PARAMETER * _OVERHEAD / _GIB
    wanted = f"a CUDA GPU with at least {max(needed, 1):.0f} GiB of memory (estimated)"
    if not torch.cuda.is_available():
        if parameters <= TINY:
            return torch.device("cpu")
        raise ConfigurationError(
            f"train split: {parameters / 1e6:,.0f} million parameters are too many for a CPU, and torch "
            f"{torch.__version__} finds no GPU; {wanted} is needed"
        )
    memory = torch.cuda.get_device_properties(0).total_memory / _GIB
    if memory < needed:
        raise ConfigurationError(
            f"train split: {torch.cuda.get_device_name(0)} has {memory:.0f} GiB of memory; {wanted} is needed"
        )
    return torch.device("cuda")


def _some(features_NTE: npt.NDArray[np.float32]) -> torch.Tensor:
    """Tokens of clips spread evenly over all, [N, E]."""
    clips, tokens, _ = features_NTE.shape
    step = max(1, clips * tokens // _BEGINS_WITH)
    return torch.from_numpy(np.array(features_NTE[::step])).flatten(0, 1)
