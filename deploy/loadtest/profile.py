"""What a load test does, as data: TOML in ``profiles/``, or a file of one's own.

profile ─┬─ groups of users: how many, how fast, over what radio
         └─ phases, one after the other: closed or open loop, how long, what has to hold
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

PROFILES = Path(__file__).resolve().parent / "profiles"

Modality: TypeAlias = Literal["image", "video", "audio"]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Seconds: TypeAlias = Annotated[float, Field(gt=0)]


class ProfileError(Exception):
    """A profile that cannot be read; names the field, what was found and what is allowed."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Group(_Part):
    """Users that are alike."""

    name: str = "users"
    count: Annotated[int, Field(ge=1, le=100_000)]
    """How many."""
    in_flight: Annotated[int, Field(ge=1, le=256)] = 1
    """Questions that each has on the way at once, in a closed loop."""
    share: Annotated[float, Field(gt=0)] | None = None
    """Weight of the group in an open loop's rate; none: its count."""
    think_s: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (0.0, 0.0)
    """Between an answer and the next question, uniform from the first to the second [s]."""
    questions: Annotated[tuple[str, ...], Field()] = ()
    """What they ask; none: the questions about the demo's clips."""
    modalities: Annotated[tuple[tuple[Modality, ...], ...], Field(min_length=1)] = (
        ("video", "audio"),
        ("video", "audio"),
        ("video", "audio"),
        ("audio",),
    )
    """Of the blocks that go with a question; one of these at random. Empty: a question in words only."""
    token_lengths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (8, 16, 32)
    """Of the blocks; the better a user's link is just now, the fewer tokens it sends."""
    snr_db: tuple[float, float] = (0.0, 20.0)
    """Between these each user's SNR walks, on a trace of its own [dB]."""
    snr_step_s: Seconds = 1.0
    """How often it changes [s]."""
    max_new_tokens: Annotated[int, Field(ge=0)] = 0
    """0: the server's default."""
    deadline_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    """0: the server's default [s]."""


class Thresholds(_Part):
    """What has to hold; None: nothing."""

    max_p50_s: Seconds | None = None
    """Median latency [s]."""
    max_p99_s: Seconds | None = None
    """99th percentile of latency [s]."""
    max_failed_share: Share | None = 0.0
    """Of the questions sent: those that failed or expired."""
    max_refused_share: Share | None = None
    """Of the questions sent: those that were turned away for good."""
    min_goodput_of_capacity: Annotated[float, Field(ge=0)] | None = None
    """Answers per second, over those of the phase that measured the capacity."""
    max_dropped_share: Share | None = None
    """Of the questions offered: those that the generator did not manage to send."""
    refusals_say_when: bool = True
    """Every refusal comes with a retry delay."""


class Phase(_Part):
    """One run of the generator, over all groups at once."""

    name: str
    mode: Literal["closed", "open"]
    seconds: Seconds
    """How long questions are begun [s]."""
    ramp_s: Annotated[float, Field(ge=0)] = 0.0
    """Within which users begin, or the rate grows [s]."""
    rate_hz: Annotated[float, Field(gt=0)] | None = None
    """Open loop: questions per second of all groups."""
    rate_of_capacity: Annotated[float, Field(gt=0)] | None = None
    """Open loop: the same as a multiple of the measured capacity."""
    measures_capacity: bool = False
    """Whether this phase's answers per second are the capacity from here on."""
    patience_s: Annotated[float, Field(ge=0)] = 30.0
    """How long after its time a refused question is tried again; 0: not at all [s]."""
    obeys: bool = True
    """A user that was turned away asks nothing until the delay is over."""
    most_outstanding: Annotated[int, Field(ge=1)] = 8192
    """Open loop: questions that arrive while so many are on their way are dropped."""
    thresholds: dict[str, Thresholds] = {}
    """By name of the group; ``all`` for all together."""

    @model_validator(mode="after")
    def _one_rate(self) -> Phase:
        rates = [rate for rate in (self.rate_hz, self.rate_of_capacity) if rate is not None]
        if len(rates) != (self.mode == "open"):
            raise ValueError(
                f"phase {self.name!r}: an open loop needs rate_hz or rate_of_capacity, a closed one neither"
            )
        if self.measures_capacity and self.mode == "open":
            raise ValueError(f"phase {self.name!r}: only a closed loop measures the capacity")
        return self


class Profile(_Part):
    """A whole load test."""

    summary: str
    transport: Literal["grpc", "rest", "agents"] = "grpc"
    """Converse streams with questions made before the run; ``/v1/infer``; device agents in this process."""
    users_per_channel: Annotated[int, Field(ge=1)] = 8
    """gRPC: sessions that share one HTTP/2 connection."""
    max_connect_p99_s: Seconds | None = None
    """All users connect at once, before the first phase: 99th percentile of the time it takes [s]."""
    groups: Annotated[tuple[Group, ...], Field(min_length=1)]
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_fit(self) -> Profile:
        names = [group.name for group in self.groups]
        if len({*names, "all"}) != len(names) + 1:
            raise ValueError(f"groups are named {', '.join(names)}; names must differ, and not be 'all'")
        measured = False
        for phase in self.phases:
            for name in phase.thresholds.keys() - {*names, "all"}:
                raise ValueError(f"phase {phase.name!r}: thresholds for {name!r}, which is no group")
            relative = phase.rate_of_capacity is not None or any(
                limits.min_goodput_of_capacity is not None for limits in phase.thresholds.values()
            )
            if relative and not measured:
                raise ValueError(f"phase {phase.name!r}: no phase before it measures the capacity")
            measured = measured or phase.measures_capacity
        return self

    @property
    def users(self) -> int:
        """Users of all groups."""
        return sum(group.count for group in self.groups)


def shipped() -> tuple[str, ...]:
    """Names of the profiles that come along."""
    return tuple(sorted(path.stem for path in PROFILES.glob("*.toml")))


def read_profile(name: str) -> Profile:
    """A shipped profile by its name, or one from a TOML file.

    Raises:
        ProfileError: there is none, or it cannot be understood.
    """
    path = PROFILES / f"{name}.toml" if name in shipped() else Path(name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProfileError(f"profile {name!r}: no such file, and none of {', '.join(shipped())}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"profile {path}: cannot be read: {error}") from error
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ProfileError(f"profile {path}: {where}: {first['msg']}") from error
