"""Recipes: functions that return every number of a training run.

A recipe is data. Two runs with the same recipe, seed and code give the same model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edge_server.model.config import (
    AudioConfig,
    FoundationConfig,
    HeadConfig,
    LoraTraining,
    ReceiverConfig,
    VisualConfig,
)
from edge_server.training.alignment import AlignmentTraining
from edge_server.training.finetune import FinetuneTraining
from edge_server.training.forward import UplinkTraining
from edge_server.training.loop import Schedule
from edge_server.training.pretrain_encoders import EncoderTraining
from edge_server.training.pretrain_foundation import FoundationTraining
from edge_server.training.radio import RadioTraining
from edge_server.training.rewording import RewordingTraining


@dataclass(frozen=True)
class Recipe:
    """A whole training run."""

    name: str
    """Name of the model, and of its folder under ``runs/``."""
    train_clips: int
    """Soundstage clips to train on."""
    val_clips: int
    """Clips for the figures shown on the way."""
    vocab_size: int
    """Language tokens, at most; the tokenizer stops earlier where the world has no more to merge."""
    tokenizer_scenes: int
    """Scenes whose text the tokenizer is learned from."""
    foundation: Callable[[int], FoundationConfig]
    """Size of the foundation, from the tokenizer's vocabulary size."""
    visual: VisualConfig
    """The visual encoder."""
    audio: AudioConfig
    """The audio encoder."""
    receiver: ReceiverConfig
    """The receivers."""
    lora: LoraTraining
    """LoRA of the foundation."""
    channel_dim: int
    """Reals per sent token."""
    foundation_training: FoundationTraining
    """Pretraining of the foundation."""
    visual_training: EncoderTraining
    """Pretraining of the visual encoder."""
    audio_training: EncoderTraining
    """Pretraining of the audio encoder."""
    alignment: AlignmentTraining | None
    """Stage 1; None to leave it out."""
    finetune: FinetuneTraining
    """Stage 2."""
    rewording: RewordingTraining | None = field(default=None, metadata={"identity_if_set": True})
    """Other wordings, and when to be not sure; None to leave it out."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The heads."""
    shares_pretraining: str | None = None
    """The recipe whose encoders, foundation and encoded clips this one takes; None for its own."""
    shares_alignment: str | None = None
    """The recipe whose stage 1 (of the same seed) this one takes; None for its own."""


def soundstage_small() -> Recipe:
    """The model that ships: trained from nothing on two cores."""
    uplink = UplinkTraining(RadioTraining())
    return Recipe(
        name="soundstage-small",
        train_clips=20_000,
        val_clips=400,
        vocab_size=640,
        tokenizer_scenes=3_000,
        foundation=lambda vocab_size: FoundationConfig(vocab_size),
        visual=VisualConfig(),
        audio=AudioConfig(),
        receiver=ReceiverConfig(),
        lora=LoraTraining(),
        channel_dim=32,
        foundation_training=FoundationTraining(
            warmup=Schedule(150, 2e-3, warmup_steps=50, final_fraction=0.5),
            schedule=Schedule(2600, 1.5e-3),
            batch_size=16,
        ),
        visual_training=EncoderTraining(Schedule(1500, 1e-3)),
        audio_training=EncoderTraining(Schedule(3500, 1e-3)),
        alignment=AlignmentTraining(Schedule(2000, 1e-3), uplink),
        finetune=FinetuneTraining(Schedule(2000, 1e-3), uplink),
        rewording=RewordingTraining(
            text=Schedule(600, 1.2e-3, warmup_steps=20, log_every=10, checkpoint_every=50),
            clips=Schedule(400, 8e-4, warmup_steps=20, log_every=10, checkpoint_every=50),
            polish=Schedule(1400, 6e-4, warmup_steps=20, log_every=10, checkpoint_every=50),
            settle=Schedule(1300, 4e-4, warmup_steps=20, log_every=10, checkpoint_every=50),
            uplink=uplink,
        ),
    )


def smoke() -> Recipe:
    """Every stage for a few steps: shows that a run works, learns nothing worth keeping."""
    short = Schedule(3, 1e-3, warmup_steps=1, log_every=1, checkpoint_every=2)
    uplink = UplinkTraining(RadioTraining())
    return Recipe(
        name="smoke",
        train_clips=24,
        val_clips=8,
        vocab_size=640,
        tokenizer_scenes=200,
        foundation=lambda vocab_size: FoundationConfig(
            vocab_size, hidden_size=32, layers=2, heads=2, intermediate_size=64
        ),
        visual=VisualConfig(),
        audio=AudioConfig(),
        receiver=ReceiverConfig(width=32, heads=2, query_layers=1, num_queries=4),
        lora=LoraTraining(rank=2, alpha=4),
        channel_dim=16,
        foundation_training=FoundationTraining(
            warmup=short, schedule=short, batch_size=4, micro_batch_size=2
        ),
        visual_training=EncoderTraining(short, batch_size=4),
        audio_training=EncoderTraining(short, batch_size=4),
        alignment=AlignmentTraining(short, uplink, batch_size=4, caption_weight=1.0),
        finetune=FinetuneTraining(short, uplink, batch_size=4),
        rewording=RewordingTraining(
            text=short,
            clips=short,
            polish=short,
            settle=short,
            uplink=uplink,
            text_batch_size=4,
            batch_size=4,
            strangers=4,
        ),
    )
