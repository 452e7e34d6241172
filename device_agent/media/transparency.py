"""Animations in AVIF: how much of each picture is seen stands in a track of its own, of grey pictures.

    pictures ──▶ wait ─┬─▶ pictures with what shines through
    grey     ──────────┘      in the same order

Source: AV1 Image File Format (AVIF), 4.1: auxiliary image sequences; ISO/IEC 14496-12, 12.1.3: ``auxv``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import Any

import av
import numpy as np

MAX_WAITING = 16
"""Pictures for which the grey one of the same time has not come yet."""


def alpha_of(streams: Iterable[Any], video: Any, alphas: Collection[int]) -> Any:
    """The track that says how much of another's pictures is seen; None where there is none.

    Args:
        streams: of pictures, of a file.
        video: that which is shown.
        alphas: numbers of tracks that say so of some other.
    """

    def shape(stream: Any) -> tuple[int, int, int]:
        # Pictures of a file that are no track have numbers too, of their own count.
        return (stream.frames, stream.codec_context.width, stream.codec_context.height)

    like = [stream for stream in streams if stream.id in alphas and stream.codec_context is not None]
    return next((stream for stream in like if shape(stream) == shape(video)), None)


def side_by_side(packets: Iterable[Any]) -> list[Any]:
    """Packets of both tracks in the order of their times: files hold one track behind the other."""

    def time_of(packet: Any) -> float:
        time = packet.dts if packet.dts is not None else packet.pts
        return float("inf") if time is None else float(time * packet.time_base)

    return sorted(packets, key=time_of)


class AlphaJoin:
    """Puts together pictures and what of them is seen, by their times."""

    def __init__(self) -> None:
        self._pictures: deque[Any] = deque()
        self._seen: deque[Any] = deque()

    def picture(self, frame: Any) -> list[Any]:
        """A picture was decoded; those that are complete, in order."""
        self._pictures.append(frame)
        return self._complete(MAX_WAITING)

    def seen(self, frame: Any) -> list[Any]:
        """A grey one was decoded; those that are complete, in order."""
        self._seen.append(frame)
        if len(self._seen) > MAX_WAITING:
            self._seen.popleft()
        return self._complete(MAX_WAITING)

    def finish(self) -> list[Any]:
        """What still waits, as it is."""
        return self._complete(0)

    def _complete(self, most_waiting: int) -> list[Any]:
        complete = []
        while self._pictures:
            time = self._pictures[0].pts
            while self._seen and (time is None or (self._seen[0].pts or 0) < time):
                self._seen.popleft()
            if self._seen and self._seen[0].pts == time:
                complete.append(_joined(self._pictures.popleft(), self._seen[0]))
            elif self._seen or len(self._pictures) > most_waiting:
                complete.append(self._pictures.popleft())  # nothing is said of it
            else:
                break
        return complete


def _joined(picture: Any, seen: Any) -> Any:
    """A picture as an ``av.VideoFrame`` in RGBA, at its own time."""
    rgba_HW4 = picture.reformat(format="rgba").to_ndarray()
    alpha_HW = seen.reformat(width=picture.width, height=picture.height, format="gray").to_ndarray()
    rgba_HW4[..., 3] = alpha_HW
    joined = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgba_HW4), format="rgba")
    joined.pts, joined.time_base = picture.pts, picture.time_base
    joined.duration = picture.duration
    return joined
