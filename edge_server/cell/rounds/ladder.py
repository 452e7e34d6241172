"""What to ask a device for next, of a question that comes in rounds.

    arrived too noisy to be read? ──yes──▶ the same tokens again (combined with what arrived of them)
              │ no
    answer not sure enough ──▶ the next tokens of the modality that helps most, by its measured loss

A modality helps by how much the model's measured loss on questions about it alone falls with more of its
tokens, at the SNR that it arrived with, over the channel uses that these take. What a question is about is
not known here. Where no modality helps by what was measured, all that are shortest are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_server.cell.allocation.loss import LossSurface

MOST_REPEATS = 3
"""So often the same tokens are asked for again; what is lost then is answered from as it is."""


@dataclass(frozen=True)
class Arrived:
    """What is there of one modality.

    Attributes:
        slot: what it fills.
        token_length: tokens of it.
        snr_db: Es/N0 after equalisation of the tokens that came last, all receptions of them combined [dB].
        repeats: how often these were asked for again.
    """

    slot: str
    token_length: int
    snr_db: float
    repeats: int = 0


@dataclass(frozen=True)
class Ladder:
    """How far a question can climb, and by what it is told where to.

    Attributes:
        token_lengths: a modality can be brought to, rising.
        nested: whether more tokens come behind those that are there; else in their place.
        outage_snr_db: below this, tokens are lost [dB].
        loss: measured, by mix of slots; of single slots here.
    """

    token_lengths: Sequence[int]
    nested: bool
    outage_snr_db: float
    loss: Mapping[str, LossSurface]

    def lost(self, arrived: Mapping[str, Arrived]) -> dict[str, int]:
        """What has to come again before anything can be read of it.

        Args:
            arrived: by modality.

        Returns:
            By modality the length that it has: the same tokens again.
        """
        return {
            modality: each.token_length
            for modality, each in arrived.items()
            if each.snr_db < self.outage_snr_db and each.repeats < MOST_REPEATS
        }

    def next(self, arrived: Mapping[str, Arrived]) -> dict[str, int]:
        """What would make the answer surer; nothing at the ladder's end.

        Returns:
            By modality the length that it is to have.
        """
        further = {
            modality: [length for length in self.token_lengths if length > each.token_length]
            for modality, each in arrived.items()
        }
        open_ = {modality: lengths for modality, lengths in further.items() if lengths}
        if not open_:
            return {}
        helps = {modality: self._helps(arrived[modality], lengths) for modality, lengths in open_.items()}
        best = max(helps, key=lambda modality: helps[modality])
        if helps[best] > 0.0:
            return {best: open_[best][0]}
        shortest = min(arrived[modality].token_length for modality in open_)
        return {
            modality: lengths[0]
            for modality, lengths in open_.items()
            if arrived[modality].token_length == shortest
        }

    def _helps(self, arrived: Arrived, lengths: Sequence[int]) -> float:
        """How fast loss falls with tokens sent, towards the length where it falls fastest."""
        surface = self.loss.get(arrived.slot)
        if surface is None:
            return 0.0
        gamma = 10.0 ** (arrived.snr_db / 10.0)
        now = float(surface.at(gamma, arrived.token_length))
        return max(
            (now - float(surface.at(gamma, length)))
            / (length - arrived.token_length if self.nested else length)
            for length in lengths
        )
