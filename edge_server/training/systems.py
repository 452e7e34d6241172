"""The systems that are compared, as recipes on top of one pretraining.

All share encoders, foundation and clips with a base recipe, so that what differs is the link and how it was
trained. Between the scheme that the paper's authors published and ours lies a ladder, one change a rung:

    authors ─▶ +window pooling ─▶ +query receiver ─▶ +full LoRA ─▶ +random channel, SNR told
            ─▶ +random token length ─▶ +dictation = two-stage
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_server.model.config import TOKEN_LENGTHS, HeadConfig, LoraTraining, ReceiverConfig
from edge_server.training.alignment import AlignmentTraining
from edge_server.training.finetune import FinetuneTraining
from edge_server.training.forward import UplinkTraining
from edge_server.training.loop import Schedule
from edge_server.training.radio import RadioTraining
from edge_server.training.recipes import Recipe

#: The rungs between the authors' scheme and ours, first to last.
LADDER = ("authors", "rung-pooling", "rung-receiver", "rung-lora", "rung-channel", "rung-length", "two-stage")
#: Contrastive temperatures compared, on the last rung whose stage 1 is the paper's own.
TEMPERATURES = (0.03, 0.07, 0.13)
#: Token lengths at which fine-tuning alone is compared.
FIXED_LENGTHS = (2, 4, 8, 16)
#: Widths of a sent token compared [reals].
CHANNEL_DIMS = (8, 16, 32, 64)
#: The system whose tokens are nested.
NESTED = "two-stage-nested"
USUAL_TEMPERATURE, USUAL_DIM = 0.07, 32


@dataclass(frozen=True)
class Budget:
    """How much each stage may do; a round is a step with ``questions`` about each of ``clips`` clips."""

    alignment_steps: int = 1000
    """Steps of stage 1."""
    rounds: int = 300
    """Rounds of stage 2: the paper's budget."""
    long_rounds: int = 3000
    """Rounds of stage 2 where there is time."""
    clips: int = 8
    """Clips a round."""
    questions: int = 4
    """Questions about a clip, at most."""
    token_length: int = 16
    """Tokens per modality, where a system is trained for one."""
    snr_db: float = 10.0
    """SNR, where a system is trained at one [dB]."""

    # Chosen for each kind among 1e-4, 3e-4 and 1e-3, on the validation split with one seed: what is aligned
    # well is spoilt by a rate below which what is not aligned hardly learns.
    dictated_rate: float = 1e-4
    """Learning rate of stage 2 after a stage 1 with dictation."""
    contrastive_rate: float = 3e-4
    """After a stage 1 without it."""
    unaligned_rate: float = 1e-3
    """After no stage 1."""

    def finetune(self, rate: float, uplink: UplinkTraining, *, long: bool = False) -> FinetuneTraining:
        """Stage 2 at a learning rate."""
        schedule = _schedule(self.long_rounds if long else self.rounds, rate)
        return FinetuneTraining(schedule, uplink, self.clips, self.questions)


def compared_systems(base: Recipe, budget: Budget) -> dict[str, Recipe]:
    """Every compared system by name.

    Args:
        base: the recipe whose pretraining they share; its two stages are replaced.
        budget: what they may spend.
    """
    anything = UplinkTraining(RadioTraining())
    one_length = _only(anything, budget.token_length)
    one_channel = replace(
        one_length, radio=RadioTraining((budget.snr_db, budget.snr_db), (("awgn", "block", 1.0),))
    )
    dictated = AlignmentTraining(_schedule(budget.alignment_steps, 1e-3), anything)
    papers = replace(dictated, contrastive_weight=1.0, dictation_weight=0.0, temperature=USUAL_TEMPERATURE)
    authors = replace(
        base,
        name="authors",
        channel_dim=USUAL_DIM,
        head=HeadConfig("linspace"),
        receiver=ReceiverConfig(kind="mlp", film=False, width=1024),
        lora=LoraTraining(rank=4, alpha=8, targets=("q_proj", "v_proj")),
        alignment=replace(papers, uplink=one_channel),
        finetune=budget.finetune(budget.contrastive_rate, one_channel),
        rewording=None,
        shares_pretraining=base.name,
    )
    pooling = replace(authors, name="rung-pooling", head=base.head)
    receiver = replace(pooling, name="rung-receiver", receiver=replace(base.receiver, film=False))
    lora = replace(receiver, name="rung-lora", lora=base.lora)
    channel = replace(
        lora,
        name="rung-channel",
        receiver=base.receiver,
        alignment=replace(papers, uplink=one_length),
        finetune=budget.finetune(budget.contrastive_rate, one_length),
    )
    contrastive = budget.finetune(budget.contrastive_rate, anything)
    length = replace(channel, name="rung-length", alignment=papers, finetune=contrastive)
    finetune = budget.finetune(budget.dictated_rate, anything)
    two_stage = replace(length, name="two-stage", alignment=dictated, finetune=finetune)
    long_finetune = budget.finetune(budget.dictated_rate, anything, long=True)
    from_nothing, long_from_nothing = (
        budget.finetune(budget.unaligned_rate, anything, long=long) for long in (False, True)
    )
    unaligned = replace(two_stage, name="no-alignment", alignment=None, finetune=from_nothing)
    again = replace(two_stage, shares_alignment=two_stage.name)
    systems = [
        two_stage,
        unaligned,
        authors,
        replace(again, name="two-stage-long", finetune=long_finetune),
        replace(unaligned, name="no-alignment-long", finetune=long_from_nothing),
        *(
            replace(again, name=fixed_length(n), finetune=replace(finetune, uplink=_only(anything, n)))
            for n in FIXED_LENGTHS
        ),
        *(pooling, receiver, lora, channel, length),
        *(
            replace(two_stage, name=of_width(dim), channel_dim=dim)
            for dim in CHANNEL_DIMS
            if dim != USUAL_DIM
        ),
        replace(two_stage, name="two-stage-linspace", head=HeadConfig("linspace")),
        replace(two_stage, name="two-stage-queries", head=HeadConfig("queries")),
        *(
            replace(length, name=of_temperature(t), alignment=replace(papers, temperature=t))
            for t in TEMPERATURES
            if t != USUAL_TEMPERATURE
        ),
        replace(
            length,
            name="captioning",
            alignment=replace(papers, caption_weight=1.0, caption_clips=budget.clips),
        ),
    ]
    return {system.name: system for system in systems}


def rounds_systems(base: Recipe, budget: Budget) -> dict[str, Recipe]:
    """The two-stage system as it is, and with nested tokens: in rounds, what is sent again, or sent once.

    Both are trained alike, over token lengths drawn anew each step: of the nested one, a random prefix.
    """
    usual = compared_systems(base, budget)["two-stage"]
    nested = replace(usual, name=NESTED, head=HeadConfig("nested"))
    return {usual.name: usual, nested.name: nested}


def fixed_length(token_length: int) -> str:
    """Name of the system that is fine-tuned at one token length."""
    return f"two-stage-{token_length}-tokens"


def of_width(channel_dim: int) -> str:
    """Name of the two-stage system whose tokens have so many reals."""
    return "two-stage" if channel_dim == USUAL_DIM else f"two-stage-{channel_dim}-reals"


def of_temperature(temperature: float) -> str:
    """Name of the system whose contrastive stage 1 has this temperature."""
    return "rung-length" if temperature == USUAL_TEMPERATURE else f"temperature-{temperature:g}"


def _schedule(steps: int, rate: float) -> Schedule:
    return Schedule(steps, rate, warmup_steps=min(100, max(1, steps // 10)))


def _only(uplink: UplinkTraining, token_length: int) -> UplinkTraining:
    assert token_length in TOKEN_LENGTHS  # noqa: S101 - a constant of this module
    return replace(uplink, token_lengths=((token_length, 1.0),))
