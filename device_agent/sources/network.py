"""A camera of the network as a source, over RTSP (RFC 7826), such as ``rtsp://user:secret@camera/stream``.

Who may watch is often told in the address: nothing of it but the host is ever said.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

import av
import av.error

from device_agent.errors import ConfigurationError, MediaError
from device_agent.media.clip import Clip, MediaSpec
from device_agent.media.decoding import decode_container
from device_agent.media.limits import MediaLimits
from device_agent.media.sandbox import MediaPool
from device_agent.sources.registry import Source, register


@register
class Rtsp(Source):
    """Windows from a camera of the network, with its sound where it has some."""

    scheme: ClassVar[str] = "rtsp"
    live: ClassVar[bool] = True
    timeout_s: ClassVar[float] = 10.0
    """Longest time in which nothing comes [s]."""

    def __init__(self, where: str, spec: MediaSpec, files: MediaPool | None = None) -> None:
        self._url = f"{self.scheme}:{where}"
        super().__init__(host_of(self._url), spec, files)

    async def clips(self) -> AsyncIterator[Clip]:
        """One window after another."""
        while True:
            yield await asyncio.to_thread(self._window)

    def _window(self) -> Clip:
        # Over TCP: behind a router nothing else arrives, and a lost packet shows what is not there.
        options = {"rtsp_transport": "tcp"}
        asked_s, is_open = time.monotonic(), False
        try:
            container: Any = av.open(self._url, mode="r", options=options, timeout=(self.timeout_s,) * 2)
            is_open = True
            with container:
                found = decode_container(container, self.where, self.spec, MediaLimits(), None, live=True)
        except (av.error.FFmpegError, ValueError) as error:
            # Not chained, and not its own words: both hold the address.
            reason = getattr(error, "strerror", None) or type(error).__name__
            # While a stream is opened FFmpeg tells an end of its patience in other words.
            in_vain = not is_open and time.monotonic() - asked_s >= self.timeout_s
            if in_vain or isinstance(error, av.error.ExitError):
                reason = f"nothing came for {self.timeout_s:g} s"
            raise MediaError(self.where, f"cannot be watched ({reason})") from None
        return Clip(found.frames_THWC, found.pcm_S)


def host_of(url: str) -> str:
    """What an address may be called.

    Raises:
        ConfigurationError: it names no host.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    # With a secret that was not written as addresses are, the host seems to end within it.
    if not host or "@" in parts.fragment or (not parts.path and "@" in parts.query):
        raise ConfigurationError(
            "source: rtsp: names no host; rtsp://USER:SECRET@HOST/STREAM is needed, with # ? / [ ] @ and % "
            "of user and secret as %23 %3F %2F %5B %5D %40 and %25"
        )
    if "@" in parts.path and "@" not in parts.netloc:
        port = None  # may be of digits of a secret, up to a slash in it
    name = f"[{host}]" if ":" in host else host
    return f"rtsp://{name}" + (f":{port}" if port else "")
