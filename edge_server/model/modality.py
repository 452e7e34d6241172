"""Feature modalities, one record each: what is seen, what is heard. Light to import: no torch.

Loops over modalities run over :data:`MODALITIES`. What needs torch or data stands elsewhere, by the same
slot: :data:`edge_server.training.modality.TRAINING`, :data:`edge_server.export.graphs.GRAPHS`.
"""

from __future__ import annotations

from collections.abc import KeysView
from dataclasses import dataclass

from protos.names import SLOT_OF, ModalityName

#: The modality that carries a question itself, and where in a prompt it goes: not a slot.
TEXT = "text"
QUESTION = "question"


@dataclass(frozen=True)
class Modality:
    """What one transmitter sends, one receiver receives, and one slot of the prompt takes.

    Attributes:
        slot: its name: of its slot; of encoder, head and receiver in weights and ``model.json``; of
            transmitter and graph in a bundle; of its pretraining in a run.
        of_clip: what it is called on the wire when it comes from a clip that lasts.
        opens: field of :class:`edge_server.model.tokenizer.SpecialIds`, the token before its slot.
        closes: likewise, the one after.
        word: for what it is; a published foundation's new tokens begin as what this word means to it.
    """

    slot: str
    of_clip: ModalityName
    opens: str
    closes: str
    word: str

    @property
    def wire(self) -> tuple[ModalityName, ...]:
        """What may come over the wire for it, at most one in a question."""
        return tuple(name for name, slot in SLOT_OF.items() if slot == self.slot)


MODALITIES: dict[str, Modality] = {}
"""By slot, in the prompt's order."""

SLOTS: KeysView[str] = MODALITIES.keys()
"""Slots that feature tokens may fill, in the prompt's order."""


def register(modality: Modality) -> None:
    """Make a modality known.

    Raises:
        ValueError: its slot is taken, or nothing on the wire fills it.
    """
    if modality.slot in MODALITIES:
        raise ValueError(f"modality {modality.slot!r} is registered already")
    if modality.of_clip not in modality.wire:
        raise ValueError(f"modality {modality.slot!r}: {modality.of_clip!r} is not on the wire for its slot")
    MODALITIES[modality.slot] = modality


def place_of(modality: ModalityName) -> str | None:
    """The slot that a block fills, or :data:`QUESTION`; None: no model knows such a block."""
    return QUESTION if modality == TEXT else SLOT_OF.get(modality)


register(Modality("visual", of_clip="video", opens="visual", closes="visual_end", word="video"))
register(Modality("audio", of_clip="audio", opens="audio", closes="audio_end", word="sound"))
