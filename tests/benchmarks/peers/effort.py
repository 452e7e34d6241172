"""How closely the comparison looks."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.peers.contestants import CORES


@dataclass(frozen=True)
class Effort:
    """How closely to look."""

    users: int = 64
    rounds: int = 3
    warm_s: float = 3.0
    """Before every measurement [s]."""
    closed_s: float = 8.0
    """Of every closed loop [s]."""
    open_s: float = 15.0
    """Of every open loop [s]."""
    trial_s: float = 4.0
    """Of every choice of every peer; 0: the first is taken, with one copy of the model [s]."""
    threads: int = CORES
    """Of the operators of the limit's model."""
    groups: int | None = None
    """Of questions; None: all."""
    limit_batches: tuple[int, ...] = (32, 64)
    """Sizes of the limit's batches; the faster counts."""


QUICK = Effort(
    users=8,
    rounds=1,
    warm_s=0.3,
    closed_s=1.0,
    open_s=1.0,
    trial_s=0.0,
    threads=1,
    groups=2,
    limit_batches=(8,),
)
