"""What a step of the recipe ``paper`` takes: both stages at the paper's sizes, with random weights.

    python -m tests.benchmarks.paper_scale --out docs/results/paper_scale.json

    python -m tests.benchmarks.paper_scale --save build/paper-random
    python -m tests.benchmarks.forward_pass --device cuda --model build/paper-random --out ...

Clips are random features, captions and questions words of the generated world: nothing is learned, time and
memory are those of training. Needs a CUDA GPU, as the recipe does; ``--tiny`` runs anywhere.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ASTConfig, Qwen2Config, VivitConfig

from edge_server.data.annotations import Caption
from edge_server.data.soundstage.captions import describe
from edge_server.data.soundstage.questions import draw_questions
from edge_server.data.soundstage.scene import sample_scene
from edge_server.model import tokenizer as tk
from edge_server.model.description import LinkConfig
from edge_server.model.link import Link
from edge_server.model.modality import SLOTS
from edge_server.model.published.config import (
    CheckpointAudio,
    CheckpointFoundation,
    CheckpointVisual,
    FilterBankFormat,
    PictureFormat,
)
from edge_server.training.alignment import Alignment
from edge_server.training.clips import EncodedClips
from edge_server.training.finetune import Finetune
from edge_server.training.loop import Stage
from edge_server.training.paper import PaperRecipe, paper
from edge_server.training.paper_needs import choose_device, estimate
from edge_server.training.pretrain_foundation import world_texts

CLIPS = 64
_VOCABULARY = 640


@dataclass(frozen=True)
class Sizes:
    """Configurations of what is published."""

    foundation: Qwen2Config
    visual: VivitConfig
    audio: ASTConfig


def paper_sizes() -> Sizes:
    """Qwen2.5-1.5B, ViViT-B/16x2, AST."""
    foundation = Qwen2Config(
        vocab_size=151_936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return Sizes(foundation, VivitConfig(), ASTConfig())


def tiny_sizes() -> Sizes:
    """The same classes, for any machine."""
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    foundation = Qwen2Config(vocab_size=700, num_key_value_heads=2, tie_word_embeddings=True, **small)
    visual = VivitConfig(image_size=64, num_frames=8, tubelet_size=[2, 8, 8], **small)
    return Sizes(foundation, visual, ASTConfig(**small))


class RandomClips:
    """Implements the training split with texts of the generated world."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.scenes = [sample_scene(rng) for _ in range(CLIPS)]
        self.texts = [describe(scene, rng) for scene in self.scenes]

    def __len__(self) -> int:
        return len(self.scenes)

    def encode(self, link: Link, slot: str, begin: int, end: int) -> Tensor:
        """Not needed: features are random."""
        raise NotImplementedError

    def has(self, clip: int, slot: str) -> bool:
        """Always."""
        return True

    def caption(self, clip: int) -> Caption:
        """One text for picture and sound, as VALOR's."""
        return Caption(self.texts[clip], self.texts[clip], self.texts[clip])

    def dictated(self, clip: int, slot: str) -> Sequence[str]:
        """Not needed: the recipe does not dictate."""
        raise NotImplementedError

    def questions(self, clip: int, most: int, rng: np.random.Generator) -> list[tuple[str, str]]:
        """Questions about a scene."""
        return [(q.text, q.answer) for q in draw_questions(self.scenes[clip], most, rng)]

    def description(self, clip: int, rng: np.random.Generator) -> str:
        """Not needed: the recipe asks for none."""
        raise NotImplementedError


def random_link(sizes: Sizes, recipe: PaperRecipe, device: torch.device) -> Link:
    """A link of these sizes with random weights, as the recipe would train it."""
    tokenizer = tk.train_tokenizer(world_texts(100, seed=0), _VOCABULARY)
    side = int(sizes.visual.image_size)
    picture = PictureFormat(sizes.visual.num_frames, (side, side), side, (1.0,) * 3, (0.0,) * 3)
    bank = FilterBankFormat(16_000, sizes.audio.max_length, sizes.audio.num_mel_bins, 0.0, 0.5)
    windows = recipe.token_lengths[-1]
    config = LinkConfig(
        name=recipe.name,
        foundation=CheckpointFoundation(
            sizes.foundation.to_dict(), dtype="bfloat16" if device.type == "cuda" else "float32"
        ),
        visual=CheckpointVisual(sizes.visual.to_dict(), picture, windows),
        audio=CheckpointAudio(sizes.audio.to_dict(), bank, windows),
        head=recipe.head,
        receiver=recipe.receiver,
        lora=recipe.lora,
        channel_dim=recipe.channel_dim,
        token_lengths=recipe.token_lengths,
    )
    link = Link(config, tokenizer).to(device)
    link.save_memory()
    return link


def random_features(link: Link) -> EncodedClips[RandomClips]:
    """Clips as encoders of this link might give them."""
    rng = np.random.default_rng(0)
    features = {
        slot: rng.standard_normal(
            (CLIPS, link.encoder(slot).patches, link.encoder(slot).hidden_size), np.float32
        ).astype(np.float16)
        for slot in SLOTS
    }
    return EncodedClips(features, RandomClips())


def time_stage(
    stage: Stage, counted: Sequence[nn.Module], steps: int, device: torch.device
) -> dict[str, Any]:
    """Step time, tokens per second and peak memory of a stage, its first step left out.

    Args:
        stage: aligned or fine-tuned.
        counted: modules whose tokens are counted, [B, T, ...] as they come out.
        steps: that are timed.
        device: where it runs.
    """
    tokens = 0

    def count(module: nn.Module, inputs: object, out: Any) -> None:
        nonlocal tokens
        first = out if isinstance(out, Tensor) else out[0]
        tokens += first.shape[0] * first.shape[1]

    hooks = [module.register_forward_hook(count) for module in counted]
    parameters = list(stage.trainable().values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    elapsed_s = []
    for step in range(steps + 1):
        if step == 1:
            tokens = 0
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
        wait()
        began_s = time.perf_counter()
        loss, _ = stage.loss(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        wait()
        elapsed_s.append(time.perf_counter() - began_s)
    for hook in hooks:
        hook.remove()
    return {
        "steps": steps,
        "step_s": round(statistics.median(elapsed_s[1:]), 4),
        "tokens_per_s": round(tokens / sum(elapsed_s[1:])),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    }


def measure(sizes: Sizes, recipe: PaperRecipe, steps: int) -> dict[str, Any]:
    """Time both stages.

    Raises:
        ConfigurationError: this machine is too small for these sizes.
    """
    needs = estimate(sizes.foundation, sizes.visual, sizes.audio, recipe.batch)
    device = choose_device(needs)
    torch.manual_seed(0)
    link = random_link(sizes, recipe, device)
    clips = random_features(link)
    alignment = Alignment(link, clips, recipe.alignment, 1)
    sent = [*link.heads.values(), link.text_head]
    rows = {"alignment": time_stage(alignment, sent, steps, device)}
    finetune = Finetune(link, clips, recipe.finetune, 1)
    decoder = link.foundation.get_base_model().model
    rows["finetune"] = time_stage(finetune, [decoder], steps, device)
    return {
        "device": torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "weights": link.config.foundation.dtype,  # type: ignore[union-attr]
        "needs": asdict(needs),
        "clips_per_step": {
            "alignment": recipe.alignment.batch_size,
            "finetune": recipe.finetune.batch_size,
        },
        "tokens_counted": {
            "alignment": "feature and text tokens sent",
            "finetune": "positions of the foundation",
        },
        "stages": rows,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Time a step of the recipe `paper`.")
    parser.add_argument("--steps", type=int, default=20, help="that are timed, of each stage")
    parser.add_argument("--tiny", action="store_true", help="the same classes in sizes for any machine")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    parser.add_argument("--save", type=Path, help="write the link here instead, to time how it is served")
    chosen = parser.parse_args(arguments)
    recipe = paper()
    if chosen.tiny:
        recipe = replace(
            recipe,
            alignment=replace(recipe.alignment, batch_size=4),
            finetune=replace(recipe.finetune, batch_size=2),
        )
    sizes = tiny_sizes() if chosen.tiny else paper_sizes()
    if chosen.save is not None:
        device = choose_device(estimate(sizes.foundation, sizes.visual, sizes.audio, recipe.batch))
        random_link(sizes, recipe, device).save(chosen.save)
        return
    report = measure(sizes, recipe, chosen.steps)
    print(json.dumps(report, indent=2))
    if chosen.out is not None:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
