"""The packets that a few seconds of a clip are made of: found, read and counted before any is decoded."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import av
import av.error

from device_agent.errors import MediaLimitError
from device_agent.media.clip import MediaSpec
from device_agent.media.limits import MediaLimits

_REORDERED_S = 1.0
"""Packets come in the order of decoding, which runs ahead of that of showing by less, at usual rates."""
_REORDERED = 16
"""Pictures by which it runs ahead at any rate: no codec holds back more."""
_LEAD_IN_S = 0.5
"""Sound is decoded from a little before the window on: codecs need what came before."""
_FIRST_PACKETS = 8
"""Of these one is the first of the track that begins first."""
_SEEKABLE = {
    **dict.fromkeys(
        ("mov", "matroska", "avi", "ogg", "flac", "wav", "w64", "aiff", "caf", "flv"), _LEAD_IN_S
    ),
    "mpegts": 12.0,
}
"""Formats in which FFmpeg finds a time exactly, and how much before the window it is sent [s]: of a transport
stream it does not know where key frames are. Others are read from their beginning."""


class PacketWindow:
    """The packets between two times of a clip, with those before them that decoding needs.

    Args:
        field: what to call the media in errors.
        spec: the length of the window.
        limits: what decoding may cost.
        after_s: when it begins, after the clip does [s].
    """

    def __init__(self, field: str, spec: MediaSpec, limits: MediaLimits, after_s: float = 0.0) -> None:
        self._field, self._spec, self._limits, self._after_s = field, spec, limits, after_s
        self._zero_s: float | None = None
        self._past: set[int] = set()
        self._late: dict[int, int] = {}
        self._alone = True
        self._begin_s = 0.0
        self._kept_bytes = 0
        self._kept: list[Any] = []
        self._pictures = 0

    @property
    def start_s(self) -> float:
        """When the window begins, by the clip's own timestamps; known once packets were read [s]."""
        return (self._zero_s or 0.0) + self._after_s

    def packets(self, container: Any, streams: Sequence[Any]) -> list[Any]:
        """In the order of decoding; ends with the flush packets where the file ended first.

        Raises:
            MediaLimitError: more pictures than may be decoded, or more bytes than a file may have.
        """
        if container.start_time is not None:
            self._zero_s = container.start_time / av.time_base
        packets, is_sought = self._demuxed(container, streams)
        self._keep(container, streams, packets)
        if is_sought and self._begins_within():
            # Its key frames lie further apart than it was sent back.
            with contextlib.suppress(av.error.FFmpegError):
                container.seek(round(self._begin_s * av.time_base))
                self._past, self._late = set(), {}
                self._kept, self._kept_bytes, self._pictures = [], 0, 0
                self._keep(container, streams, iter(container.demux(streams)))
        return self._kept

    def _keep(self, container: Any, streams: Sequence[Any], packets: Iterator[Any]) -> None:
        read_bytes = 0
        # A container may compress what it holds: codecs have left nothing to gain by that.
        most_bytes = 2 * max(container.size, 0) + 2**20
        for packet in packets:
            read_bytes += packet.size
            self._take(packet)
            if read_bytes > most_bytes or self._kept_bytes > self._limits.max_bytes:
                raise MediaLimitError(
                    self._field,
                    f"its packets take more than the {min(most_bytes, self._limits.max_bytes)} bytes "
                    "that are allowed (media.max_bytes)",
                )
            if len(self._past) == len(streams):
                break

    def _begins_within(self) -> bool:
        """Whether nothing that was kept shows what is on show when the window begins."""
        first = next((each for each in self._kept if each.stream.type == "video" and each.size), None)
        if first is None:
            return False
        since_s = self._since_start(first)
        return not first.is_keyframe or (since_s is not None and since_s > 0)

    def _demuxed(self, container: Any, streams: Sequence[Any]) -> tuple[Iterator[Any], bool]:
        """Packets from about the window on; whether what comes before was passed over."""
        packets = container.demux(streams)
        first = list(itertools.islice(packets, _FIRST_PACKETS))
        decoded = [float(each.dts * each.time_base) for each in first if each.dts is not None]
        self._begin_s = min(decoded, default=self._zero_s or 0.0)
        for packet in first:
            # Without a decoder FFmpeg can miss when a track begins, and take another's begin for the file's.
            # Sound can begin earlier by right: with what its codec needs and nobody hears.
            if packet.stream.type != "video" or packet.pts is None or packet.is_discard:
                continue
            begins_s = float(packet.pts * packet.time_base)
            if 0 <= begins_s < (self._zero_s or 0.0):
                self._zero_s = begins_s
        if self._after_s > 0 and self._seek(container):
            return iter(container.demux(streams)), True
        return itertools.chain(first, packets), False

    def _seek(self, container: Any) -> bool:
        """Whether it goes on from another place."""
        lead_in_s = next(
            (lead_in_s for name, lead_in_s in _SEEKABLE.items() if name in container.format.name.split(",")),
            None,
        )
        if lead_in_s is None or self._after_s <= lead_in_s:
            return False
        zero_s = self._zero_s or 0.0
        try:
            container.seek(round((zero_s + self._after_s - lead_in_s) * av.time_base))
        except av.error.FFmpegError:
            return False  # it has no index: read from the beginning
        self._zero_s = zero_s
        return True

    def _take(self, packet: Any) -> None:
        since_s = self._since_start(packet)
        is_video = packet.stream.type == "video"
        # Where each picture stands for itself none is put in order.
        self._alone = self._alone and (not is_video or not packet.size or packet.is_keyframe)
        if since_s is not None:
            if since_s > self._spec.window_s + _REORDERED_S and (not is_video or self._ends(packet)):
                self._past.add(packet.stream.index)
            if is_video and since_s <= 0 and packet.is_keyframe and self._after_s > 0:
                self._drop_pictures()
            if not is_video and since_s < -_LEAD_IN_S:
                return
        if is_video and packet.size and (since_s is None or since_s <= self._spec.window_s):
            self._pictures += 1
            if self._pictures > self._limits.max_frames:
                raise MediaLimitError(
                    self._field,
                    f"has more than {self._limits.max_frames} frames to decode (media.max_frames)",
                )
        self._kept_bytes += packet.size
        self._kept.append(packet)

    def _ends(self, packet: Any) -> bool:
        """Whether no picture of the window comes after one that is past it.

        A film of a picture in some seconds has, between two packets, more time than a codec ever reorders.
        """
        late = self._late[packet.stream.index] = self._late.get(packet.stream.index, 0) + 1
        return packet.pts is None or self._alone or late > _REORDERED

    def _drop_pictures(self) -> None:
        """What comes before a key frame is not needed for what comes after it."""
        self._kept = [packet for packet in self._kept if packet.stream.type != "video"]
        self._kept_bytes = sum(packet.size for packet in self._kept)
        self._pictures = 0

    def _since_start(self, packet: Any) -> float | None:
        """When a packet is shown, or heard, after the window's begin, as far as its timestamps tell [s]."""
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            return None
        time_s = float(time * packet.time_base)
        if self._zero_s is None:
            self._zero_s = time_s
        return time_s - self.start_s
