"""Which packets of a video need not be decoded in full, for what is kept of it to stay the same.

A model looks at a few frames a second; a phone films up to 960. A frame that is not kept is decoded only
where others are made from it: those that nothing refers to are passed over by the decoder (``skip_frame``),
and where each stands for itself the decoder gets none of the others.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

from device_agent.media.clip import MediaSpec

PASSES_OVER = frozenset({"h264", "hevc", "mpeg2video", "mpeg4", "vp8"})
"""Decoders of FFmpeg that tell, before they decode it, that no other frame needs one."""

_EPSILON_S = 1e-3
_KEPT_AT_THE_END = 2
"""How long the last frame is shown may be told by the time between these."""


class Skipping:
    """What to do with each packet of a track.

    Args:
        packets: of the track, in the order of decoding, without those that hold nothing.
        codec: FFmpeg's name.
        start_s: when the window begins, by the track's timestamps [s].
        spec: rates and window.
    """

    def __init__(self, packets: Sequence[Any], codec: str, start_s: float, spec: MediaSpec) -> None:
        self._kept: set[int] | None = None
        self._alone = all(packet.is_keyframe for packet in packets)
        self._codec = codec
        if any(packet.pts is None for packet in packets) or not packets:
            return
        numbers = [packet.pts for packet in packets]
        times = sorted((number, float(number * packets[0].time_base) - start_s) for number in set(numbers))
        seconds = [at_s for _, at_s in times]
        kept = {times[0][0], *(number for number, _ in times[-_KEPT_AT_THE_END:])}
        for tick in range(round(spec.window_s * spec.frame_rate_hz)):
            on_show = bisect.bisect_right(seconds, tick / spec.frame_rate_hz + _EPSILON_S) - 1
            kept.add(times[max(on_show, 0)][0])
        # Recordings behind one another, each with a clock of its own, are put in order as they are decoded.
        if len(set(numbers)) == len(numbers) and all(
            packet.time_base == packets[0].time_base for packet in packets
        ):
            self._kept = kept

    def is_decoded(self, packet: Any) -> bool:
        """Whether the decoder is to get it."""
        return self._kept is None or not self._alone or packet.pts in self._kept

    def how(self, packet: Any) -> str:
        """What the decoder's ``skip_frame`` is to be."""
        if self._kept is None or self._codec not in PASSES_OVER or packet.pts is None:
            return "DEFAULT"
        return "DEFAULT" if packet.pts in self._kept else "NONREF"
