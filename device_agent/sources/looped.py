"""A file as a source of windows: one after another, to its end; or again and again from the beginning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

from device_agent.errors import WindowError
from device_agent.media.clip import Clip
from device_agent.sources.registry import Source, register

_SLIVER_S = 0.1


class Windows(Source):
    """A file's windows, to its end."""

    scheme: ClassVar[str] = "windows"
    again: ClassVar[bool] = False
    """Whether it begins again behind its end."""

    async def clips(self) -> AsyncIterator[Clip]:
        """One window after another."""
        with self.files() as files:
            start_s = 0.0
            while True:
                try:
                    clip = await asyncio.to_thread(
                        files.clip_from_file, Path(self.where), spec=self.spec, start_s=start_s
                    )
                except WindowError:
                    if start_s == 0.0:
                        raise
                    clip = None
                if clip is not None:
                    yield clip
                window = None if clip is None else clip.window
                start_s = 0.0 if window is None else window.end_s
                if window is not None and window.duration_s is not None:
                    start_s = 0.0 if window.duration_s - window.end_s < _SLIVER_S else start_s
                if start_s == 0.0 and not self.again:
                    return


@register
class Looped(Windows):
    """A file's windows for ever, such as ``loop:demo.mp4``."""

    scheme: ClassVar[str] = "loop"
    again: ClassVar[bool] = True
