"""The recipe ``paper``: published encoders and foundation, recorded data, the paper's sizes.

    Qwen2.5-1.5B, ViViT-B/16x2, AST (Hugging Face folders) ─▶ link ──────┐
    VALOR, MUSIC-AVQA ─▶ every file looked at once ─▶ encoded clips ─▶ alignment ─▶ finetune ─▶ RUN/model

Both stages are those of every other recipe; here they learn from captions and questions that people wrote.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from edge_server.data import music_avqa, valor
from edge_server.data.authors_layout import MediaFolder, Survey
from edge_server.data.music_avqa import load_music_avqa
from edge_server.data.valor import load_valor
from edge_server.errors import ConfigurationError
from edge_server.model.config import HeadConfig, LoraTraining, ReceiverConfig
from edge_server.model.description import LinkConfig
from edge_server.model.foundation_classes import foundation_class
from edge_server.model.link import Link, Parts
from edge_server.model.modality import SLOTS
from edge_server.model.provenance import current_commit
from edge_server.model.published.encoders import audio_from, visual_from
from edge_server.model.published.foundation import foundation_from
from edge_server.training.alignment import Alignment, AlignmentTraining
from edge_server.training.card import RECORD, Origin, write_record
from edge_server.training.clips import EncodedClips, encode_clips
from edge_server.training.finetune import Finetune, FinetuneTraining
from edge_server.training.forward import UplinkTraining
from edge_server.training.loop import Schedule, run_stage
from edge_server.training.paper_needs import Batch, choose_device, needs_of
from edge_server.training.radio import RadioTraining
from edge_server.training.recorded import (
    ENCODER_BATCH,
    AskedSplit,
    CaptionedSplit,
    media_of,
    remembered_survey,
)
from edge_server.training.split import TrainingSplit

#: Language tokens that a recorded question with its answer takes, on the long side.
_QUESTION_TOKENS = 40
_ANSWER_TOKENS = 4
_GIB = 2**30


@dataclass(frozen=True)
class PaperRecipe:
    """Every number of a run at the paper's scale, but for those that checkpoints and data bring along."""

    name: str
    """Name of the model, and of its folder under ``runs/``."""
    token_lengths: tuple[int, ...]
    """Token lengths that a device may choose from; the longest is what encoders give."""
    channel_dim: int
    """Reals per sent token."""
    head: HeadConfig
    """The heads."""
    receiver: ReceiverConfig
    """The receivers."""
    lora: LoraTraining
    """LoRA of the foundation."""
    max_positions: int
    """Longest prompt with its answer that is served [language and feature tokens]."""
    alignment: AlignmentTraining
    """Stage 1."""
    finetune: FinetuneTraining
    """Stage 2."""

    @property
    def batch(self) -> Batch:
        """The larger batch of the foundation: stage 2's."""
        questions = self.finetune.questions
        slots = len(SLOTS) * (2 + self.token_lengths[-1])
        return Batch(
            self.finetune.batch_size, 1 + slots + questions * _QUESTION_TOKENS, questions * _ANSWER_TOKENS
        )


def paper() -> PaperRecipe:
    """128 tokens per modality, receivers of two linear layers, LoRA of rank 4 on q and v."""
    uplink = UplinkTraining(RadioTraining(), ((16, 0.1), (32, 0.1), (64, 0.2), (128, 0.6)))
    return PaperRecipe(
        name="paper",
        token_lengths=(16, 32, 64, 128),
        channel_dim=32,
        head=HeadConfig(),
        receiver=ReceiverConfig(kind="mlp", film=False, width=1024),
        lora=LoraTraining(rank=4, alpha=8, targets=("q_proj", "v_proj")),
        max_positions=1024,
        alignment=AlignmentTraining(
            Schedule(3000, 3e-4),
            uplink,
            contrastive_weight=1.0,
            reconstruction_weight=1.0,
            dictation_weight=0.0,
        ),
        finetune=FinetuneTraining(
            Schedule(3000, 2e-4), uplink, batch_size=16, questions=4, describe_odds=0.0
        ),
    )


@dataclass(frozen=True)
class Checkpoints:
    """Local Hugging Face folders; nothing is ever fetched."""

    foundation: Path
    """Of a foundation class, with its tokenizer."""
    visual: Path
    """ViViT, with its image processor."""
    audio: Path
    """AST, with its feature extractor."""


@dataclass(frozen=True)
class PaperRun:
    """One run of the recipe.

    Attributes:
        recipe: what to train.
        seed: everything random follows from it.
        directory: where features, checkpoints, logs and the model go.
        checkpoints: what it is built on.
        data: folder of VALOR/ and MUSIC-AVQA/ in the authors' layout.
        jobs: clips that are decoded at once.
    """

    recipe: PaperRecipe
    seed: int
    directory: Path
    checkpoints: Checkpoints
    data: Path
    jobs: int = 1

    @property
    def model(self) -> Path:
        """Folder of the model, once the run has ended."""
        return self.directory / "model"

    def all(self) -> Path:
        """Run everything that has not run yet; returns the model folder.

        Raises:
            ConfigurationError: this machine is too small.
            ModelError: a checkpoint cannot be read.
            DatasetError: a data set cannot, or has too many bad rows.
        """
        named = self.checkpoints
        # First of all: nobody should wait for a model to load to hear that it does not fit.
        device = choose_device(needs_of(named.foundation, named.visual, named.audio, self.recipe.batch))
        torch.manual_seed(self.seed)
        # Asked now: the checkout may move on before the run ends.
        origin = Origin(self.recipe.name, self.seed, current_commit(), self._options())
        link = self.untrained_link(device)
        self.directory.mkdir(parents=True, exist_ok=True)
        captioned, asked = self.splits(link)
        recipe = self.recipe
        alignment = Alignment(link, self._encoded(link, captioned, "captioned"), recipe.alignment, self.seed)
        run_stage("alignment", alignment, recipe.alignment.schedule, self.directory / "alignment")
        finetune = Finetune(link, self._encoded(link, asked, "asked"), recipe.finetune, self.seed)
        run_stage("finetune", finetune, recipe.finetune.schedule, self.directory / "finetune")
        link.save(self.model)
        stages = {name: self.directory / name for name in ("alignment", "finetune")}
        sizes = write_record(link, origin, json.loads(self._report.read_text()), stages, self.model)
        (self.model / "README.md").write_text(_card(link, origin, sizes))
        return self.model

    def untrained_link(self, device: torch.device) -> Link:
        """A link around the checkpoints, with new heads and receivers, ready to be trained on a device."""
        recipe, folders = self.recipe, self.checkpoints
        windows = recipe.token_lengths[-1]
        foundation, model, tokenizer = foundation_from(
            folders.foundation, "bfloat16" if device.type == "cuda" else "float32", recipe.max_positions
        )
        known = foundation_class(model.config.model_type)
        visual, audio = visual_from(folders.visual, windows), audio_from(folders.audio, windows)
        config = LinkConfig(
            name=recipe.name,
            foundation=foundation,
            visual=visual.config,
            audio=audio.config,
            head=recipe.head,
            receiver=recipe.receiver,
            lora=replace(recipe.lora, targets=known.lora_targets(recipe.lora.targets)),
            channel_dim=recipe.channel_dim,
            token_lengths=recipe.token_lengths,
        )
        link = Link(config, tokenizer, Parts({"visual": visual, "audio": audio}, model)).to(device)
        link.save_memory()
        return link

    def splits(self, link: Link) -> tuple[CaptionedSplit, AskedSplit]:
        """The training splits of both stages; which rows were left out is printed and written down."""

        def found(name: str) -> tuple[MediaFolder, str, Survey]:
            media = media_of(link, self.data / name)
            return media, "train", remembered_survey(self.directory / f"{name}.json", self.jobs)

        captions = load_valor(*found(valor.FOLDER))
        questions = load_music_avqa(*found(music_avqa.FOLDER))
        reports = [captions.report, questions.report]
        for report in reports:
            print(report)
        self._report.write_text(json.dumps([report.to_json() for report in reports], indent=2) + "\n")
        return CaptionedSplit.of(captions, self.jobs), AskedSplit.of(questions, self.jobs)

    @property
    def _report(self) -> Path:
        return self.directory / "data.json"

    def _encoded(self, link: Link, split: TrainingSplit, name: str) -> EncodedClips[TrainingSplit]:
        folder = self.directory / "features" / name
        folder.mkdir(parents=True, exist_ok=True)
        encoders = [(slot, link.encoder(slot)) for slot in SLOTS]
        # Two bytes a value.
        wanted = sum(
            2 * len(split) * encoder.patches * encoder.hidden_size
            for slot, encoder in encoders
            if not (folder / f"{slot}.npy").exists()
        )
        free = shutil.disk_usage(folder).free
        if wanted > free:
            raise ConfigurationError(
                f"{folder}: encoded clips take {wanted / _GIB:.1f} GiB, {free / _GIB:.1f} GiB are free"
            )
        return encode_clips(link, split, folder, name, ENCODER_BATCH)

    def _options(self) -> str:
        named = self.checkpoints
        return (
            f"--foundation {named.foundation.name} --visual {named.visual.name} --audio {named.audio.name} "
            f"--data {self.data.name}"
        )


def _card(link: Link, origin: Origin, sizes: dict[str, int]) -> str:
    parameters = "\n".join(f"| {part} | {count:,} |" for part, count in sizes.items())
    return f"""# {link.config.name}

Answers questions about videos with sound, from tokens that came over a noisy channel. Encoders and foundation
are published checkpoints, frozen but for the foundation's LoRA; heads and receivers were trained on VALOR's
captions and MUSIC-AVQA's questions, by

    {origin.command}

at commit `{origin.commit}`, seed {origin.seed}. Rows of the data that were left out, steps and times of each
stage: `{RECORD}`.

| part | parameters |
|---|---|
{parameters}

A token on air has {link.config.channel_dim} reals; a modality sends
{", ".join(map(str, link.config.token_lengths))} of them. The licences of the checkpoints and of the data sets
hold for this model too.
"""
