"""Sources of clips by scheme: ``camera:/dev/video0``, ``folder:/var/clips``; a plain path is a file.

A source is a class: it is told where, and gives clips, one after another, for as long as there are any. Its
module is loaded when it is first asked for, so that a device pays for what it uses.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, TypeVar

from device_agent.errors import ConfigurationError, MediaError
from device_agent.media.clip import Clip, MediaSpec
from device_agent.media.sandbox import MediaPool

_FILE = "file"

_MODULES = MappingProxyType(
    {
        _FILE: "device_agent.sources.file",
        "folder": "device_agent.sources.folder",
        "camera": "device_agent.sources.capture",
        "microphone": "device_agent.sources.capture",
        "v4l2": "device_agent.sources.capture",
        "alsa": "device_agent.sources.capture",
        "rtsp": "device_agent.sources.network",
        "loop": "device_agent.sources.looped",
    }
)
"""Where the sources of this package are registered."""


class Source(ABC):
    """A place that clips come from.

    Args:
        where: what follows the scheme.
        spec: rates and window at which media is decoded.
        files: decodes files; None: the source has one of its own while it reads.
    """

    scheme: ClassVar[str]
    """What stands before the colon."""
    live: ClassVar[bool] = False
    """Whether a clip is of the time at which it is asked for: several such are taken at once."""

    def __init__(self, where: str, spec: MediaSpec, files: MediaPool | None = None) -> None:
        self.where = where
        self.spec = spec
        self._files = files

    @contextmanager
    def files(self) -> Iterator[MediaPool]:
        """What decodes files: nobody knows who made them."""
        if self._files is not None:
            yield self._files
        else:
            with MediaPool(1) as files:
                yield files

    @abstractmethod
    def clips(self) -> AsyncIterator[Clip]:
        """Clips, one after another; ends where there are no more.

        Raises:
            MediaError: names what gave no clip.
            ConfigurationError: there can be no such source.
        """


_MOST_SHOWN = 32
_SOURCES: dict[str, type[Source]] = {}
_Kind = TypeVar("_Kind", bound=type[Source])


def register(kind: _Kind) -> _Kind:
    """Make a source known (a class decorator).

    Raises:
        ValueError: its scheme is taken.
    """
    if _SOURCES.setdefault(kind.scheme, kind) is not kind:
        raise ValueError(f"source {kind.scheme!r} is registered already")
    return kind


def unregister(scheme: str) -> None:
    """Forget a source that :func:`register` made known."""
    del _SOURCES[scheme]


def schemes() -> tuple[str, ...]:
    """Every scheme that there is."""
    return tuple(dict.fromkeys((*_MODULES, *_SOURCES)))


def open_source(text: str, spec: MediaSpec, files: MediaPool | None = None) -> Source:
    """The source that somebody names.

    Args:
        text: a file, or ``scheme:where`` of one of :func:`schemes`.
        spec: rates and window at which media is decoded.
        files: decodes files; None: each source has one of its own while it reads.

    Raises:
        ConfigurationError: a scheme with nothing behind it, or the address of something that is no source.
    """
    scheme, colon, where = text.partition(":")
    if where.startswith("//") and scheme not in schemes() and not _is_there(text):
        # Not told whole: who may watch is often told in an address.
        raise ConfigurationError(
            f"source: {scheme[:_MOST_SHOWN]}: is no kind of source; there are {', '.join(schemes())}"
        )
    if not colon or scheme not in schemes() or _is_there(text):
        scheme, where = _FILE, text
    if not where:
        raise ConfigurationError(f"{text}: names no {scheme}; write {scheme}:WHERE")
    if scheme not in _SOURCES:
        importlib.import_module(_MODULES[scheme])
    return _SOURCES[scheme](where, spec, files)


async def first_clip(source: Source) -> Clip:
    """One clip of a source.

    Raises:
        MediaError: it has none.
    """
    clips = source.clips()
    try:
        async for clip in clips:
            return clip
    finally:
        # A generator goes on in its clean-up; what only iterates has none.
        if isinstance(clips, AsyncGenerator):
            await clips.aclose()
    raise MediaError(source.where, f"gave no clip ({source.scheme})")


def _is_there(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False
