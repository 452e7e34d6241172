"""The time within which an answer is of use, and what to say when it has passed.

A question waits to be let in, is encoded, sent, and waited for, all within one deadline. What is under way as
it passes was too slow for it: a server that was never asked is not to blame.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from device_agent.errors import DeadlineError, TooSlowError

Doing: TypeAlias = Literal["encoding", "sending"]
"""What a device does of a question: make its tokens, and hold them for as long as the radio takes."""

_MOST = 0.5
"""Of the deadline, what something must have had to count as too slow for all of it."""


class Deadline:
    """Of one question, or of a window that is shared.

    Args:
        within_s: from now on [s].
        encode_s: what making the tokens took before [s].
        clock: monotonic seconds.

    Attributes:
        within_s: as given.
    """

    def __init__(
        self, within_s: float, *, encode_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.within_s = within_s
        self._encode_s = encode_s
        self._clock = clock
        self._ends_s = clock() + within_s
        self._doing: Doing | None = None
        self._had_s = 0.0

    @property
    def left_s(self) -> float:
        """Until it passes [s]; 0: it has."""
        return max(self._ends_s - self._clock(), 0.0)

    @contextmanager
    def during(self, doing: Doing) -> Iterator[None]:
        """While this device does something; what is cut short counts as under way for good."""
        self._doing, self._had_s = doing, self.left_s
        yield
        if doing == "encoding":
            self._encode_s += self._had_s - self.left_s
        self._doing = None

    @property
    def late_s(self) -> float | None:
        """What making the tokens takes, where the deadline passed before they were sent [s].

        Of tokens that were not made in time that is all of the deadline, at the least.

        Returns:
            None where it passed otherwise, or before it could be known.
        """
        if self._doing == "sending":
            return self._encode_s
        enough = self._doing == "encoding" and self._had_s >= _MOST * self.within_s
        return self.within_s if enough else None

    def passed(self, no_answer: str) -> DeadlineError | TooSlowError:
        """What to say now that it has passed.

        Args:
            no_answer: where it was not this device that was too slow.
        """
        if self._doing is None:
            return DeadlineError(no_answer)
        within = f"{self.within_s:g} s (deadline_s)"
        if self._had_s < _MOST * self.within_s:
            within = f"the {self._had_s:.2g} s that were left of {within}"
        return TooSlowError(f"{self._doing} takes longer than {within}")
