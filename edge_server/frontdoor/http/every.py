"""A question asked about each window of media, one after the other, to its end."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Protocol, TypeVar

from edge_server.errors import InvalidQuestionError, QuestionTooLargeError
from edge_server.frontdoor.ports import MediaWindow, RawMedia

_SLIVER_S = 0.1
"""What a container says of its length is rounded up; nothing is asked about less than this at the end."""


class Part(Protocol):
    """A part of media."""

    @property
    def start_s(self) -> float:
        """When it begins [s]."""

    @property
    def end_s(self) -> float:
        """When it ends [s]."""

    @property
    def duration_s(self) -> float | None:
        """Of the whole, where its container tells [s]."""


class AboutPart(Protocol):
    """An answer that says what it is about."""

    @property
    def window(self) -> Part | None:
        """The part; None: the media has no time."""


_Found = TypeVar("_Found", bound=AboutPart)


async def about_every(
    answer: Callable[[tuple[RawMedia, ...]], Awaitable[_Found]],
    media: tuple[RawMedia, ...],
    count: Callable[[], None],
    most: int,
) -> AsyncGenerator[_Found]:
    """An answer about each window of media, to its end.

    Args:
        answer: asks about some.
        media: all of it; what has no time is in each window.
        count: called before each question but the first.
        most: windows.

    Raises:
        InvalidQuestionError: it has no time, or a window of its own.
        QuestionTooLargeError: more windows than that.
    """
    if any(part.window is not None for part in media):
        raise InvalidQuestionError("every", "goes without a window")
    start_s = 0.0
    for number in range(most + 1):
        windows = (MediaWindow(start_s, None, f"{part.field.removesuffix('.data')}.window") for part in media)
        shown = media if number == 0 else tuple(map(_within, media, windows))
        if number:
            count()
        try:
            found = await answer(shown)
        except InvalidQuestionError as error:
            if number and error.field.endswith(".window"):
                return  # it ended, and did not say before when
            raise
        window = found.window
        if window is None:
            raise InvalidQuestionError("every", "needs media that has a time")
        length_s = window.end_s - window.start_s
        windows_in_all = math.ceil(((window.duration_s or 0.0) - _SLIVER_S) / length_s) if length_s else 0
        if max(windows_in_all, number + 1) > most:
            raise QuestionTooLargeError(
                "every", f"is about more than {most} windows of {length_s:g} s (rest.max_windows)"
            )
        yield found
        start_s = window.end_s
        if window.duration_s is not None and window.duration_s - start_s < _SLIVER_S:
            return


def _within(part: RawMedia, window: MediaWindow) -> RawMedia:
    return part if part.modality == "image" else replace(part, window=window)
