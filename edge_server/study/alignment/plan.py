"""What a comparison of alignments may spend, on what, and how closely it looks."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_server.training.loop import Schedule
from edge_server.training.reading import ReadingTraining


@dataclass(frozen=True)
class Plan:
    """The comparison.

    Attributes:
        seeds: of training.
        budget_s: processor time of both stages together, of every system alike [s].
        stage_1_share: of the budget, for a system that aligns.
        tuning_share: of the steps of both stages, while rates are chosen.
        tuning_seed: of training while rates are chosen; none of ``seeds``.
        rates: learning rates tried for each stage; more beyond them while the best is the last.
        most_further: how many more, at most.
        noted_clips: clips whose captions the foundation takes notes of; it costs time of stage 1.
        least_sure: of a word of a note, below which it says nothing.
        clips: a round of stage 2, and those of a step of stage 1 that are captioned or asked about.
        questions: about a clip of a round, at most.
        token_length: tokens per modality when asked.
        looks: at the validation split on the way through stage 2.
        cost_steps: steps of each stage whose cost is measured.
        val_clips: of the validation split.
        val_snrs_db: at which it is asked about [dB]; the mean decides.
        test_clips: of the test split.
        snrs_db: at which it is asked about [dB], AWGN.
        bank_scenes: scenes from which texts of questions are drawn for distillation.
        reading: text alone, before everything; every system has it.
        seed: of captions, bank and reading.
    """

    seeds: tuple[int, ...] = (1, 2, 3)
    budget_s: float = 200.0
    stage_1_share: float = 0.45
    tuning_share: float = 0.15
    tuning_seed: int = 11
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3)
    most_further: int = 2
    noted_clips: int = 3000
    least_sure: float = 0.6
    clips: int = 8
    questions: int = 4
    token_length: int = 16
    looks: int = 4
    cost_steps: int = 16
    val_clips: int = 200
    val_snrs_db: tuple[float, ...] = (0.0,)
    test_clips: int = 200
    snrs_db: tuple[float, ...] = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
    bank_scenes: int = 400
    reading: ReadingTraining = field(
        default_factory=lambda: ReadingTraining(Schedule(400, 1e-3, warmup_steps=30))
    )
    seed: int = 1


#: Shows that it works; learns nothing worth keeping.
QUICK = Plan(
    seeds=(1,),
    budget_s=0.4,
    tuning_share=0.5,
    most_further=0,
    noted_clips=4,
    clips=2,
    questions=2,
    looks=1,
    cost_steps=1,
    val_clips=2,
    val_snrs_db=(10.0,),
    test_clips=2,
    snrs_db=(10.0,),
    bank_scenes=6,
    reading=ReadingTraining(Schedule(2, 1e-3, warmup_steps=1), batch_size=2, questions=2),
)
