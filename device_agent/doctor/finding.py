"""What ``device-agent doctor`` and ``edge-server check`` find, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the thing; a setting where one is at fault.
        state: ``failure`` keeps questions from being answered, ``warning`` does not.
        found: what is.
        advice: what to do about it; empty when there is nothing to do.
        where: file and line, variable or flag of a setting at fault; empty where that is not known.
    """

    name: str
    state: State
    found: str
    advice: str = ""
    where: str = ""
