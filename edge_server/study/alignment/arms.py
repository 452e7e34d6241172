"""The systems that are compared: how each is aligned, and what it sees of a clip while it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from edge_server.training.alignment import AlignmentTraining
from edge_server.training.forward import UplinkTraining
from edge_server.training.loop import Schedule
from edge_server.training.radio import RadioTraining

Sees = Literal["nothing", "captions", "labels"]
Beside = Literal["distillation", "matching"]

#: Steps and rate come from budget and tuning.
_ANY = Schedule(1, 1e-3)
_UPLINK = UplinkTraining(RadioTraining())
_CONTRASTIVE = AlignmentTraining(_ANY, _UPLINK, contrastive_weight=1.0, dictation_weight=0.0)
# Each clip says 26 words of its own, and none is told from the others: few a step do.
_DICTATED = AlignmentTraining(_ANY, _UPLINK, batch_size=12, contrastive_weight=0.0, reconstruction_weight=0.0)


@dataclass(frozen=True)
class Arm:
    """A compared system.

    Attributes:
        name: of it.
        how: in words, for the page.
        alignment: stage 1; None for none.
        sees: what stage 1 sees of a clip, beside the clip.
        beside: a loss of captions beside those of ``alignment``.
        notes: whether dictation takes its words from notes of captions.
        caption_odds: how often a clip of stage 2 is to be captioned too.
    """

    name: str
    how: str
    alignment: AlignmentTraining | None = None
    sees: Sees = "captions"
    beside: Beside | None = None
    notes: bool = False
    caption_odds: float = 0.1


NONE, AUXILIARY, CONTRASTIVE, CAPTIONING = "no-alignment", "captions-beside", "contrastive", "captioning"
DISTILLATION, MATCHING, NOTES, DICTATION = "distillation", "matching", "notes", "dictation"

ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(NONE, "stage 2 alone", sees="nothing"),
        Arm(
            AUXILIARY,
            "stage 2 alone; every clip of a round is to be captioned too",
            sees="nothing",
            caption_odds=1.0,
        ),
        Arm(CONTRASTIVE, "the paper's: InfoNCE between means", _CONTRASTIVE),
        Arm(
            CAPTIONING,
            "the frozen foundation writes the caption from the tokens; InfoNCE beside",
            replace(_CONTRASTIVE, caption_weight=1.0, caption_clips=8),
        ),
        Arm(
            DISTILLATION,
            "what the foundation answers about the caption, it is to answer about the tokens; InfoNCE beside",
            _CONTRASTIVE,
            beside="distillation",
        ),
        Arm(
            MATCHING,
            "optimal transport between slots and the caption's words, in the foundation's second block; "
            "InfoNCE beside",
            replace(_CONTRASTIVE, contrastive_weight=0.3),
            beside="matching",
        ),
        Arm(
            NOTES,
            "the foundation takes notes of the caption; slots are to say them, word by word",
            _DICTATED,
            notes=True,
        ),
        Arm(DICTATION, "slots are to say the scene's labels, word by word", _DICTATED, sees="labels"),
    )
}
"""By name."""

#: Those whose stage 1 sees clips and free captions, and nothing else.
CAPTION_ONLY = tuple(
    arm.name for arm in ARMS.values() if arm.alignment is not None and arm.sees == "captions"
)
