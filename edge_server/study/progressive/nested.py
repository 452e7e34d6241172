"""What nested tokens are worth: two systems, trained alike, one of which sends in rounds what is new alone.

Both have the shipped model's encoders and foundation, and the same clips, steps and draws in both stages.
Each is calibrated on the validation split, where its threshold is chosen too, for each channel and SNR, so
that nothing is lost there to its own full length at once. Each round meets a gain of its own; of the nested
system a block is what all rounds brought.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.channel import Channel, ChannelConfig
from edge_server.cell.rounds import ReceivedBlock, Segment
from edge_server.data.soundstage.dataset import load_split
from edge_server.engine.calibration import Calibration
from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.evaluation.accuracy import Evaluator, Said, say_all
from edge_server.evaluation.calibrate import Answered, expected_error, fit
from edge_server.evaluation.held_out import HeldOut
from edge_server.evaluation.progressive import Rounds, best_ladder
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.study.progressive.compare import costs_of
from edge_server.training.import_pretrained import import_pretrained
from edge_server.training.loop import cpu_s_of
from edge_server.training.registry import BASES
from edge_server.training.run import Run
from edge_server.training.run_identity import ensure_identity
from edge_server.training.systems import Budget, rounds_systems
from protos.names import clamp_snr_db

RUNGS = (2, 4, 16)
"""The ladder of both."""


@dataclass(frozen=True)
class Plan:
    """What both are given.

    Attributes:
        base: recipe whose pretraining they share; its parts come from the shipped model.
        budget: of both stages; half of the study's, or less.
        snrs_db: of each channel [dB].
        questions: of each split.
        seeds: of training, and of channel realisations.
    """

    base: str = "soundstage-small"
    budget: Budget = field(default_factory=lambda: Budget(alignment_steps=500, rounds=150))
    snrs_db: tuple[float, ...] = (-5.0, 5.0, 20.0)
    questions: int = 240
    seeds: tuple[int, ...] = (1,)


#: Shows that it works; learns nothing worth keeping.
QUICK = Plan(budget=Budget(alignment_steps=2, rounds=2), snrs_db=(5.0,), questions=8)


def compare(
    model: Path, data: Path, runs: Path, plan: Plan, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Train both with every seed, ask both; JSON. What an earlier call trained stays.

    Args:
        model: folder of the shipped model.
        data: Soundstage, all splits.
        runs: folder of runs.
        plan: what both are given.
        tell: told what is done next.
    """
    rows = []
    for name, recipe in rounds_systems(BASES[plan.base](), plan.budget).items():
        for seed in plan.seeds:
            run = Run.among(runs, recipe, seed, data, jobs=1)
            tell(f"{name}, seed {seed}")
            ensure_identity(run)
            import_pretrained(model, run)
            if not (run.model / "training.json").exists():
                run.join()
            trained_s = sum(cpu_s_of(run.stage(stage)) for stage in ("alignment", "finetune"))
            link = Link.load(run.model)
            link.merge_lora()
            splits = {
                split: Evaluator(link, HeldOut.of_soundstage(load_split(data, split)), plan.questions)
                for split in ("val", "test")
            }
            found = judged(splits["val"], splits["test"], plan.snrs_db, seed)
            rows.append({"system": name, "seed": seed, "trained_cpu_s": trained_s, **found})
    return {
        "ladder": list(RUNGS),
        "clips": len(load_split(data, "train").scenes),
        "plan": asdict(plan),
        "systems": rows,
    }


def judged(validation: Evaluator, test: Evaluator, snrs_db: Sequence[float], seed: int) -> dict[str, Any]:
    """What one system does in rounds, and at once with each length, over both channels.

    Args:
        validation: it is calibrated, and its thresholds are chosen, on this.
        test: it is judged on this.
        snrs_db: of each channel [dB].
        seed: of channel realisations.
    """
    channels = [
        ChannelConfig(model=model, fading="block", snr_db=snr_db)
        for model in ("awgn", "rayleigh")
        for snr_db in snrs_db
    ]
    nested = test.link.config.nested
    said = {
        split: [_asked(each, channel, seed, nested=nested) for channel in channels]
        for split, each in (("val", validation), ("test", test))
    }
    calibration = fit(
        [
            Answered(each, each.text == question.answer)
            for asked in said["val"]
            for length in asked.values()
            for each, question in zip(length, validation.questions, strict=True)
        ]
    )
    costs = costs_of(test.link)
    points, answers = [], []
    for index, channel in enumerate(channels):
        chosen_on = _rounds(validation, calibration, said["val"][index])
        rounds = _rounds(test, calibration, said["test"][index])
        ladder = best_ladder([chosen_on], RUNGS[-1], 0.0, costs, [RUNGS[:-1]])
        climbed = rounds.climb(ladder, costs)
        answers.append(rounds)
        points.append(
            {
                "channel": channel.model,
                "snr_db": channel.snr_db,
                "ladder": asdict(ladder),
                **asdict(climbed),
                "full_accuracy": rounds.one_shot(RUNGS[-1]),
                "of_length": {str(length): rounds.one_shot(length) for length in RUNGS},
            }
        )
    confidence = np.concatenate([each.confidence_LN.ravel() for each in answers])
    right = np.concatenate([each.right_LN.ravel() for each in answers])
    return {
        "nested": nested,
        "full_uses": RUNGS[-1] * costs.symbols,
        "points": points,
        "saved": 1.0 - float(np.mean([p["channel_uses"] for p in points])) / (RUNGS[-1] * costs.symbols),
        "lost": float(np.mean([p["full_accuracy"] - p["accuracy"] for p in points])),
        "accuracy": float(np.mean([p["accuracy"] for p in points])),
        "full_accuracy": float(np.mean([p["full_accuracy"] for p in points])),
        "calibration_error": expected_error(confidence, right),
    }


def _asked(
    evaluator: Evaluator, channel: ChannelConfig, seed: int, *, nested: bool
) -> Mapping[int, list[Said]]:
    """Every question at every rung: of a nested block with what came before, else with a block of its own."""
    link = evaluator.link
    sent = {(m.slot, rung): evaluator.sent(m.slot, rung) for m in link.config.modalities for rung in RUNGS}
    prompts: dict[int, list[Prompt]] = {rung: [] for rung in RUNGS}
    for index, question in enumerate(evaluator.questions):
        radio = Channel(channel, np.random.default_rng([seed, index]))
        ids = tuple(tk.encode(link.tokenizer, question.text))
        there: dict[str, ReceivedBlock] = {}
        for rung in RUNGS:
            for modality in link.config.modalities:
                slot = modality.slot
                before = there.get(slot) if nested else None
                begins = 0 if before is None else before.token_length
                reception = radio.transmit(sent[slot, rung][question.clip][begins:])
                segment = Segment(reception.x_TC, reception.effective_snr_db)
                there[slot] = ReceivedBlock((segment,)) if before is None else before.with_more(segment)
            blocks = tuple(
                FeatureBlock(m.of_clip, there[m.slot].tokens(), clamp_snr_db(there[m.slot].snr_db()))
                for m in link.config.modalities
            )
            prompts[rung].append(Prompt(blocks, ids))
    return {
        rung: [
            said
            for begin in range(0, len(made), evaluator.batch_size)
            for said in say_all(evaluator.served, made[begin : begin + evaluator.batch_size])
        ]
        for rung, made in prompts.items()
    }


def _rounds(evaluator: Evaluator, calibration: Calibration, said: Mapping[int, list[Said]]) -> Rounds:
    confidence, right = [], []
    for rung in RUNGS:
        judged_of = [calibration.judge(each.text, each.logprobs).confidence for each in said[rung]]
        confidence.append([1.0 if each is None else each for each in judged_of])
        right.append(
            [float(s.text == q.answer) for s, q in zip(said[rung], evaluator.questions, strict=True)]
        )
    return Rounds(RUNGS, np.array(confidence), np.array(right))
