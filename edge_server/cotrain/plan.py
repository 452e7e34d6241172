"""What a co-training round is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from edge_server.errors import ConfigurationError
from protos.gradients import GRADIENT_DTYPES
from protos.names import DTYPES
from protos.tokenlink.v1 import cotrain_pb2 as cpb

HeadsName: TypeAlias = Literal["personal", "shared", "frozen"]
"""Each device keeps its own head; heads are averaged now and then; heads do not learn."""
AggregateName: TypeAlias = Literal["mean", "trimmed"]
"""How devices' gradients become one: the mean, weighted by examples; the mean of what is left when the
largest and the smallest are left out, value by value."""

HEAD_POLICIES: Mapping[HeadsName, cpb.HeadPolicy] = {
    "personal": cpb.HEAD_POLICY_PERSONAL,
    "shared": cpb.HEAD_POLICY_SHARED,
    "frozen": cpb.HEAD_POLICY_FROZEN,
}


REHEARSE_SHARE = 0.5
"""Of what is rehearsed, where anything is: chosen on validation clips, by row ``tuning`` of the study."""


@dataclass(frozen=True)
class Plan:
    """A round.

    Raises:
        ConfigurationError: names the field, what was found and what is allowed.
    """

    rounds: int = 300
    """Steps; the paper's rounds."""
    min_devices: int = 3
    """No step is made with fewer devices connected, those that were left out aside."""
    max_devices: int = 64
    """More are turned away."""
    heads: HeadsName = "personal"
    """What becomes of the devices' heads."""
    edge_learns: bool = True
    """Whether receivers and LoRA learn; without, heads alone do."""
    average_every: int = 20
    """With shared heads: steps between two averages."""
    aggregate: AggregateName = "mean"
    """How devices' gradients become one."""
    learning_rate: float = 3e-4
    """Peak, at the edge."""
    head_rate: float = 1.0
    """Heads learn so many times as fast."""
    keep_edge: float = 0.0
    """At the end the edge's weights go back so much of their way."""
    keep_heads: float = 0.0
    """So do the heads."""
    rehearse_share: float = 0.0
    """Part that what was learned before has in each of the edge's steps; 0: nothing is rehearsed."""
    rehearse_clips: int = 8
    """Clips rehearsed a step."""
    rehearse_questions: int = 4
    """Questions about each."""
    align: float = 0.0
    """How far personal heads begin aligned to what their devices see, from 0 to 1; needs old clips, which say
    what is usual."""
    warmup_steps: int = 20
    """Linear warm-up."""
    weight_decay: float = 0.01
    """Decoupled, on matrices only."""
    clip_norm: float = 1.0
    """Largest norm of a step's gradient, of each half by itself."""
    clips: int = 6
    """Clips a device sends a step."""
    questions: int = 4
    """Questions about each."""
    held_out: int = 64
    """Held-out clips that each device is examined with, at most."""
    token_lengths: tuple[int, ...] = (4, 8, 16, 32)
    """One is drawn for each transmitter and step."""
    payload: str = "float16"
    """How tokens go up."""
    gradient: str = "int8"
    """How gradients come down."""
    deadline_s: float = 5.0
    """A step goes on without devices that have not sent by then [s]."""
    patience: int = 3
    """A device that missed so many steps in a row is not waited for until it is in time again."""
    late_steps: int = 20
    """A batch that comes at most so many steps late counts in the step that is open then."""
    catch_up: int = 4
    """A device that missed steps is asked for as many times the clips of one, at most, and its heads learn as
    many times as fast (the linear scaling rule, Goyal et al. 2017). 1: it learns as little as it comes."""
    seed: int = 1
    """Everything random follows from it."""

    def __post_init__(self) -> None:
        for name, least in (
            ("rounds", 1),
            ("min_devices", 1),
            ("max_devices", self.min_devices),
            ("average_every", 1),
            ("clips", 1),
            ("questions", 1),
            ("held_out", 1),
            ("patience", 1),
            ("rehearse_clips", 1),
            ("rehearse_questions", 1),
            ("late_steps", 0),
            ("catch_up", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; at least {least}")
        for name in ("keep_edge", "keep_heads", "rehearse_share"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; at least 0, less than 1")
        if not 0.0 <= self.align <= 1.0:
            raise ConfigurationError(f"align is {self.align}; 0 to 1")
        for name in ("learning_rate", "head_rate", "clip_norm", "deadline_s"):
            if not 0.0 < getattr(self, name) < 1e6:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; a finite number above 0")
        choices: tuple[tuple[str, tuple[str, ...]], ...] = (
            ("heads", tuple(HEAD_POLICIES)),
            ("aggregate", ("mean", "trimmed")),
            ("gradient", GRADIENT_DTYPES),
            ("payload", ("float32", "float16", "int8")),
        )
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
        if not self.token_lengths:
            raise ConfigurationError("token_lengths is empty; at least one")
        if self.heads == "frozen" and not self.edge_learns:
            raise ConfigurationError("heads is frozen and so is the edge: nothing would learn")

    def joined(self, round_id: str, usual: Mapping[str, cpb.UsualFeatures] | None = None) -> cpb.Joined:
        """What a device is told; with what is usual, by slot, where that is known."""
        aligned = self.align if self.heads == "personal" and usual else 0.0
        return cpb.Joined(
            round_id=round_id,
            rounds=self.rounds,
            heads=HEAD_POLICIES[self.heads],
            seed=self.seed,
            clip_norm=self.clip_norm,
            weight_decay=self.weight_decay,
            payload=DTYPES[self.payload],
            gradient=DTYPES[self.gradient],
            usual=usual if aligned else None,
            align=aligned,
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Plan:
        """From what :meth:`to_json` gave.

        Raises:
            ConfigurationError: it is not that.
        """
        try:
            return cls(**{**told, "token_lengths": tuple(told["token_lengths"])})
        except (TypeError, KeyError) as error:
            raise ConfigurationError(f"the round's plan cannot be read: {error}") from error

    def text(self) -> str:
        """Canonical JSON."""
        return json.dumps(self.to_json(), sort_keys=True)
