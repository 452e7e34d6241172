"""A media file as a source: one clip."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

from device_agent.media.clip import Clip
from device_agent.sources.registry import Source, register


@register
class File(Source):
    """One file, by its path; its first window."""

    scheme: ClassVar[str] = "file"

    async def clips(self) -> AsyncIterator[Clip]:
        """The file's clip."""
        with self.files() as files:
            yield await asyncio.to_thread(files.clip_from_file, Path(self.where), spec=self.spec)
