"""Parts of files that are longer than what a model looks at: named by a person, or one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from device_agent.errors import ConfigurationError, WindowError
from device_agent.media.clip import Clip, join

_TIME = re.compile(r"(?:(?:(?P<hours>\d+):)?(?P<minutes>\d+):)?(?P<seconds>\d+(?:\.\d+)?)")
_SLIVER_S = 0.1
"""What a container says of its length is rounded up; nothing is asked about less than this at the end."""

Loader = Callable[[float, float | None], Clip]
"""Makes a clip of a file: from when on [s], and how long at most [s]."""


@dataclass(frozen=True)
class Asked:
    """Which part of files a question is about.

    Attributes:
        start_s: when it begins, after the file does [s].
        length_s: how long it is [s]; None: as long as the model looks at.
        every: not one part: one window after the other.
    """

    start_s: float = 0.0
    length_s: float | None = None
    every: bool = False

    def clips(self, loaders: Sequence[Loader], window_s: float, field: str) -> Iterator[Clip]:
        """One clip, or one of every window; arguments and errors as :func:`every_window`."""
        if self.every:
            yield from every_window(loaders, window_s, field)
        else:
            yield join([load(self.start_s, self.length_s) for load in loaders], field)


def asked_for(window: str | None, every: bool, longest_s: float) -> Asked:
    """What ``--window`` and ``--every`` say.

    Raises:
        ConfigurationError: both are given, or the window is none.
    """
    if every and window is not None:
        raise ConfigurationError("every: goes without --window; it asks about one window after the other")
    start_s, length_s = (0.0, None) if window is None else parse_window(window, longest_s)
    return Asked(start_s, length_s, every)


def parse_window(text: str, longest_s: float) -> tuple[float, float]:
    """Where a window begins, and how long it is [s].

    Args:
        text: ``START..END``, each in seconds or as ``minutes:seconds``; without an end the longest there is.
        longest_s: what the model looks at at a time.

    Raises:
        ConfigurationError: says what was found and what is allowed.
    """
    start_text, dots, end_text = text.partition("..")
    start_s, end_s = _seconds(start_text or "0"), _seconds(end_text) if end_text else None
    if not dots or start_s is None or (end_text and end_s is None):
        raise ConfigurationError(f"window: {text!r} is none; such as 12..16, 1:30..1:34 or 90.. are")
    if end_s is None:
        return start_s, longest_s
    if end_s <= start_s:
        raise ConfigurationError(f"window: {text!r} ends before it begins")
    if end_s - start_s > longest_s + 1e-6:
        raise ConfigurationError(
            f"window: {text!r} takes {end_s - start_s:g} s; the model looks at {longest_s:g} s at a time "
            "(--every asks about one such window after the other)"
        )
    return start_s, end_s - start_s


def every_window(loaders: Sequence[Loader], window_s: float, field: str) -> Iterator[Clip]:
    """Clips of one window after the other, until the longest file ends; stills are in each.

    Args:
        loaders: of each part of the question.
        window_s: the length of each [s].
        field: what to call the parts together in errors.

    Raises:
        MediaError: a part cannot be read.
    """
    for number in count():
        parts, lengths_s = [], []
        for load in loaders:
            try:
                parts.append(load(number * window_s, None))
            except WindowError:
                continue
            if (window := parts[-1].window) is not None:
                lengths_s.append(window.duration_s)
        if number and not lengths_s:
            return
        yield join(parts, field)
        next_s = (number + 1) * window_s
        if all(length_s is not None and length_s - next_s < _SLIVER_S for length_s in lengths_s):
            return


def _seconds(text: str) -> float | None:
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return None
    hours, minutes, seconds = (float(found[name] or 0) for name in ("hours", "minutes", "seconds"))
    return 3600 * hours + 60 * minutes + seconds
