"""How a peer's server is set up; handed to its process in one environment variable."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

Forward: TypeAlias = Literal["lent", "library"]
VARIABLE = "TOKENLINK_PEER"


@dataclass(frozen=True)
class Settings:
    """One server's setup.

    Attributes:
        model: folder of the model.
        port: of its HTTP door, on the loopback interface.
        workers: copies of the model, in processes of their own where the library has such.
        threads: of each copy's operators.
        max_batch: questions that are answered together.
        wait_s: how long a batch waits for more of them, where the library waits [s].
        forward: what computes: the edge server's own forward pass, lent, or Hugging Face's class.
    """

    model: str
    port: int
    workers: int
    threads: int
    max_batch: int
    wait_s: float
    forward: Forward = "lent"

    def to_environment(self) -> dict[str, str]:
        """As a variable of the environment."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """What this process was started with.

        Raises:
            KeyError: nothing; it was started by hand.
        """
        return cls(**json.loads(environment[VARIABLE]))
