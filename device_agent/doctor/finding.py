"""What the doctor finds, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        state: ``failure`` keeps questions from being answered, ``warning`` does not.
        found: what is.
        advice: what to do about it; empty when there is nothing to do.
    """

    name: str
    state: State
    found: str
    advice: str = ""
