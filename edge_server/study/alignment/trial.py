"""Training one system: stage 1 and stage 2, for a number of steps each, and what they cost.

Checkpoints lie in a folder for each stage, named by what it was told, so that trials which share a stage 1
share it, and a comparison that was cut goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from device_agent.channel import ChannelConfig
from edge_server.data.soundstage.dataset import SplitName
from edge_server.evaluation.accuracy import Score, Setting
from edge_server.model.link import Link
from edge_server.study.alignment.arms import Arm
from edge_server.study.alignment.plan import Plan
from edge_server.study.alignment.world import World
from edge_server.study.teacher_forced import TeacherForcedQuestions, over_channel
from edge_server.training.alignment import Alignment
from edge_server.training.caption_loss import CaptionLoss
from edge_server.training.clips import EncodedClips
from edge_server.training.distillation import Distillation, DistillationTraining, question_bank
from edge_server.training.finetune import Finetune, FinetuneTraining
from edge_server.training.forward import UplinkTraining
from edge_server.training.loop import LOG, Examine, Schedule, cpu_s_of, run_stage
from edge_server.training.matching import Matching, MatchingTraining
from edge_server.training.radio import RadioTraining
from edge_server.training.split import TrainingSplit


@dataclass(frozen=True)
class Told:
    """What one system is trained with.

    Attributes:
        alignment_steps: of stage 1; 0 for a system that has none.
        alignment_rate: its learning rate; None there.
        rounds: of stage 2.
        finetune_rate: its learning rate.
        seed: of training.
    """

    alignment_steps: int
    alignment_rate: float | None
    rounds: int
    finetune_rate: float
    seed: int


@dataclass(frozen=True)
class Trained:
    """A trained system.

    Attributes:
        link: the system.
        alignment_cpu_s: processor time of stage 1, that of notes included [s].
        finetune_cpu_s: of stage 2 [s].
        finetuned: folder of stage 2.
    """

    link: Link
    alignment_cpu_s: float
    finetune_cpu_s: float
    finetuned: Path


class Trials:
    """Trains systems in a shared world.

    Args:
        world: what they share.
        plan: how much.
        scratch: where checkpoints go.
    """

    def __init__(self, world: World, plan: Plan, scratch: Path) -> None:
        self.world, self.plan, self.scratch = world, plan, scratch
        self._bank = question_bank(plan.bank_scenes, plan.seed)

    def train(
        self,
        arm: Arm,
        told: Told,
        examine: Callable[[Link], Examine] = lambda link: lambda done: None,
    ) -> Trained:
        """Both stages.

        Args:
            arm: the system.
            told: steps, rates, seed.
            examine: for a link, what looks at it between rounds.
        """
        link = self.world.fresh(told.seed)
        name, first_s = "none", 0.0
        if arm.alignment is not None:
            folder = self._aligned(arm, link, told)
            name = folder.name
            first_s = cpu_s_of(folder) + self.notes_cpu_s(arm)
        torch.manual_seed(told.seed)  # the LoRA's start is the same whatever came before
        folder = self.folder(arm, told.seed) / f"{told.rounds}-rounds-at-{told.finetune_rate:g}-after-{name}"
        schedule = _schedule(told.rounds, told.finetune_rate)
        stage = self._finetune(arm, link, schedule, told.seed)
        run_stage("finetune", stage, schedule, folder, examine=examine(link))
        return Trained(link, first_s, cpu_s_of(folder), folder)

    def align(self, arm: Arm, told: Told) -> tuple[float, float]:
        """Stage 1 alone: its mean loss over the last quarter of its steps, and its processor time [s]."""
        folder = self._aligned(arm, self.world.fresh(told.seed), told)
        lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
        begin = min(0.75 * told.alignment_steps, told.alignment_steps - 1)
        last = [line["loss"] for line in lines if line["step"] >= begin]
        return sum(last) / len(last), cpu_s_of(folder)

    def _aligned(self, arm: Arm, link: Link, told: Told) -> Path:
        """Run stage 1 on a fresh link, or load what is left of it; its folder."""
        assert told.alignment_rate is not None  # noqa: S101 - asked of those that align
        name = f"alignment-{told.alignment_steps}-steps-at-{told.alignment_rate:g}"
        folder = self.folder(arm, told.seed) / name
        schedule = replace(_schedule(told.alignment_steps, told.alignment_rate), log_every=5)
        run_stage("alignment", self._alignment(arm, link, told.seed), schedule, folder)
        return folder

    def folder(self, arm: Arm, seed: int) -> Path:
        """Of everything that is kept of a system and a seed."""
        return self.scratch / f"{arm.name}-seed-{seed}"

    def notes_cpu_s(self, arm: Arm) -> float:
        """Processor time of the notes that a system's stage 1 needs [s]."""
        return self.world.notes_cpu_s if arm.notes else 0.0

    def step_cost_s(self, arm: Arm) -> tuple[float, float]:
        """Processor time of a step of stage 1, 0 where there is none, and of a round of stage 2 [s]."""
        link, seed, steps = self.world.fresh(0), 0, self.plan.cost_steps
        costs = [0.0, 0.0]
        schedule = _schedule(steps, 1e-4)
        with TemporaryDirectory() as scratch:
            if arm.alignment is not None:
                stage = self._alignment(arm, link, seed)
                begun_s = time.process_time()
                run_stage("cost of a step", stage, schedule, Path(scratch) / "1")
                costs[0] = (time.process_time() - begun_s) / steps
            rounds = self._finetune(arm, link, schedule, seed)
            begun_s = time.process_time()
            run_stage("cost of a round", rounds, schedule, Path(scratch) / "2")
            costs[1] = (time.process_time() - begun_s) / steps
        return costs[0], costs[1]

    def _alignment(self, arm: Arm, link: Link, seed: int) -> Alignment:
        assert arm.alignment is not None  # noqa: S101 - asked of those that align
        clips: EncodedClips[TrainingSplit]
        if arm.sees == "labels":
            clips = EncodedClips(self.world.clips.features, self.world.clips.split)
        else:
            alone = self.world.captions_alone(self.plan.least_sure if arm.notes else None)
            clips = EncodedClips(alone.features, alone.split)
        training = arm.alignment
        if training.caption_clips is not None:
            training = replace(training, caption_clips=self.plan.clips)
        return Alignment(link, clips, training, seed, self._beside(arm, link))

    def _beside(self, arm: Arm, link: Link) -> CaptionLoss | None:
        if arm.beside == "distillation":
            training = DistillationTraining(clips=self.plan.clips)
            most = min(training.questions, len(self._bank))
            return Distillation(link, self._bank, replace(training, questions=most))
        if arm.beside == "matching":
            return Matching(link, self.world.clips.split.captions, MatchingTraining())
        return None

    def _finetune(self, arm: Arm, link: Link, schedule: Schedule, seed: int) -> Finetune:
        training = FinetuneTraining(
            schedule,
            UplinkTraining(RadioTraining()),
            self.plan.clips,
            self.plan.questions,
            describe_odds=arm.caption_odds,
        )
        clips: EncodedClips[TrainingSplit] = EncodedClips(self.world.clips.features, self.world.clips.split)
        return Finetune(link, clips, training, seed)


class Asked:
    """Asks a link about a held-out split over AWGN."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world, self.plan = world, plan

    def validation(self, link: Link) -> float:
        """Mean accuracy over the plan's SNRs, on the validation split."""
        snrs_db = self.plan.val_snrs_db
        scores = [self._score(link, "val", self.plan.val_clips, snr_db) for snr_db in snrs_db]
        return sum(score.accuracy for score in scores) / len(scores)

    def test(self, link: Link) -> dict[str, dict[str, object]]:
        """Score on the test split by SNR [dB]."""
        return {
            f"{snr_db:g}": self._score(link, "test", self.plan.test_clips, snr_db).to_json()
            for snr_db in self.plan.snrs_db
        }

    def _score(self, link: Link, split: SplitName, clips: int, snr_db: float) -> Score:
        held_out = self.world.held_out[split]
        setting = Setting(ChannelConfig(model="awgn", snr_db=snr_db), self.plan.token_length)
        questions = TeacherForcedQuestions(held_out.split.split, clips)
        return questions.score(link, over_channel(link, held_out.features, setting))


def _schedule(steps: int, rate: float) -> Schedule:
    return Schedule(steps, rate, warmup_steps=min(50, max(1, steps // 10)))
