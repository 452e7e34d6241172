"""A camera and a microphone as sources of clips, through FFmpeg's devices (Video4Linux, ALSA)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import av
import av.error

from device_agent.errors import MediaError
from device_agent.media.clip import Clip, MediaKind, MediaSpec, join
from device_agent.media.decoding import decode_container
from device_agent.media.limits import MediaLimits
from device_agent.sources.registry import Source, register

CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
MICROPHONE_FORMATS = {"linux": "alsa", "darwin": "avfoundation", "win32": "dshow"}
"""FFmpeg's names of the device inputs, by ``sys.platform``."""

_OPEN_TIMEOUT_S = 10.0


@register
class Camera(Source):
    """Windows from a camera, such as ``camera:/dev/video0``."""

    scheme: ClassVar[str] = "camera"
    live: ClassVar[bool] = True

    async def clips(self) -> AsyncIterator[Clip]:
        """One window after another."""
        while True:
            yield await asyncio.to_thread(record, self.where, None, spec=self.spec)


@register
class Microphone(Source):
    """Windows from a microphone, such as ``microphone:default``."""

    scheme: ClassVar[str] = "microphone"
    live: ClassVar[bool] = True

    async def clips(self) -> AsyncIterator[Clip]:
        """One window after another."""
        while True:
            yield await asyncio.to_thread(record, None, self.where, spec=self.spec)


@register
class Video4Linux(Camera):
    """The same by the name that FFmpeg has for it on Linux."""

    scheme: ClassVar[str] = "v4l2"


@register
class Alsa(Microphone):
    """Likewise."""

    scheme: ClassVar[str] = "alsa"


def record(
    camera: str | None,
    microphone: str | None,
    *,
    spec: MediaSpec | None = None,
    limits: MediaLimits | None = None,
) -> Clip:
    """Watch and listen for one window, both at a time.

    Args:
        camera: such as ``/dev/video0``; None: no picture.
        microphone: such as ``default``; None: no sound.
        spec: rates and window.
        limits: what decoding may cost.

    Raises:
        MediaError: names the device that cannot be opened or gave nothing.
    """
    spec, limits = spec or MediaSpec(), limits or MediaLimits()
    jobs: list[tuple[str, str, MediaKind]] = []
    if camera is not None:
        jobs.append((camera, CAMERA_FORMATS.get(sys.platform, "v4l2"), "video"))
    if microphone is not None:
        jobs.append((microphone, MICROPHONE_FORMATS.get(sys.platform, "alsa"), "audio"))
    if not jobs:
        raise MediaError("capture", "neither a camera nor a microphone is named")
    with ThreadPoolExecutor(len(jobs)) as pool:
        parts = [pool.submit(_record_one, *job, spec, limits) for job in jobs]
        return join([part.result() for part in parts], "capture")


def _record_one(
    device: str,
    format_name: str,
    kind: MediaKind,
    spec: MediaSpec,
    limits: MediaLimits,
) -> Clip:
    timeout = (_OPEN_TIMEOUT_S, _OPEN_TIMEOUT_S)
    try:
        container: Any = av.open(device, mode="r", format=format_name, timeout=timeout)
        with container:
            decoded = decode_container(container, device, spec, limits, kind, live=True)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(device, f"cannot be recorded from ({format_name}: {reason})") from error
    return Clip(decoded.frames_THWC, decoded.pcm_S)
