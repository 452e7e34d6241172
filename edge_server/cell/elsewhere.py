"""The other doors of a cell, as its allocator sees them: one door shares the cell out for all.

every door ── its sessions ──▶ the one that decides ── shares ──▶ every door, for its own sessions
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

#: A share that moved by less is not told.
_TELLING = 0.005


class Reckonable(Protocol):
    """What an allocation knows of a session."""

    @property
    def session_id(self) -> str:
        """Names it in the cell."""

    @property
    def snr_db(self) -> float:
        """What its device reported last [dB]."""

    @property
    def mix(self) -> tuple[str, ...]:
        """Slots of the media that its last question brought; empty before the first."""

    @property
    def symbols_per_token(self) -> float:
        """Complex symbols that it took per unit of token length; 0 before the first."""

    @property
    def deadline_s(self) -> float:
        """Within which its answer was wanted, from when it was asked [s]; 0: it was not told."""

    @property
    def encode_s(self) -> float:
        """What making its tokens took [s]; 0: it was not told."""

    @property
    def bundle_hash(self) -> str:
        """Of the bundle that its device runs."""


@dataclass(frozen=True)
class Away:
    """A session of another door; see :class:`Reckonable`."""

    session_id: str
    snr_db: float
    mix: tuple[str, ...]
    symbols_per_token: float
    bundle_hash: str
    deadline_s: float = 0.0
    encode_s: float = 0.0


@dataclass(frozen=True)
class Share:
    """What one device has of the cell.

    Attributes:
        bandwidth_hz: [Hz].
        power: 1 is what Es = 1 takes at the cell's ``bandwidth_hz``.
        token_length: tokens per modality.
    """

    bandwidth_hz: float
    power: float
    token_length: int

    def tx_power_db(self, reference_hz: float) -> float:
        """The gain on each symbol's energy that this power is, over this bandwidth [dB]."""
        return 10.0 * math.log10(self.power * reference_hz / self.bandwidth_hz)

    def is_near(self, other: Share) -> bool:
        """Whether it is not worth telling the difference."""
        return self.token_length == other.token_length and all(
            math.isclose(mine, theirs, rel_tol=_TELLING)
            for mine, theirs in ((self.bandwidth_hz, other.bandwidth_hz), (self.power, other.power))
        )


class Elsewhere(Protocol):
    """The port to the other doors."""

    @property
    def decides(self) -> bool:
        """Whether this door is the one."""

    @property
    def sessions(self) -> Sequence[Away]:
        """Those of the other doors, as far as this one has heard."""

    @property
    def told(self) -> Mapping[str, Share]:
        """What whoever decides has told last, by session; that may have been this door."""

    @property
    def devices(self) -> int:
        """Among how many that was."""

    async def tell(self, sessions: Sequence[Reckonable]) -> None:
        """Tell what this door has."""

    async def give(self, shares: Mapping[str, Share]) -> None:
        """Tell what was decided, for all sessions."""
