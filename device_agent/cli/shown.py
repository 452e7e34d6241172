"""What a question of the command line is about: files, recordings, other sources."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from device_agent.errors import ConfigurationError
from device_agent.media.clip import Clip, MediaKind, MediaSpec, join
from device_agent.media.sandbox import MediaPool
from device_agent.media.windows import Asked, Loader
from device_agent.sources.file import File
from device_agent.sources.registry import Source, first_clip, open_source

_FIELD = "question"


@dataclass(frozen=True)
class Named:
    """What somebody named.

    Attributes:
        files: each as a function that reads a part of it.
        others: what has no parts: it gives one clip as it is asked.
    """

    files: Sequence[Loader]
    others: Sequence[Source]


def named_media(
    inputs: Sequence[str],
    by_kind: Mapping[MediaKind, Path | None],
    recorders: Mapping[str, str | None],
    spec: MediaSpec,
    decoding: MediaPool,
) -> Named:
    """Make sense of the command line.

    Args:
        inputs: files, or sources as ``scheme:where``.
        by_kind: files that have to be of a kind.
        recorders: devices by the scheme of their source.
        spec: rates and window at which media is decoded.
        decoding: decodes files.

    Raises:
        ConfigurationError: a source that cannot be.
    """
    sources = [open_source(text, spec, decoding) for text in inputs]
    paths: list[tuple[Path, MediaKind | None]] = [
        (Path(s.where), None) for s in sources if isinstance(s, File)
    ]
    paths += [(path, kind) for kind, path in by_kind.items() if path is not None]
    others = [source for source in sources if not isinstance(source, File)]
    others += [
        open_source(f"{scheme}:{device}", spec, decoding)
        for scheme, device in recorders.items()
        if device is not None
    ]
    return Named([_loader(decoding, path, kind, spec) for path, kind in paths], others)


def clips_of(named: Named, asked: Asked, spec: MediaSpec) -> Iterator[Clip]:
    """A clip for each question to ask; one without anything where nothing is named.

    Raises:
        ConfigurationError: a part is asked for of what has none.
        MediaError: a file or a source gives no clip.
    """
    if asked != Asked() and (named.others or not named.files):
        raise ConfigurationError("window: --window and --every are parts of files; none is given")
    if named.others:
        stored = [load(0.0, None) for load in named.files]
        yield join([*stored, *asyncio.run(_take(named.others))], _FIELD)
    elif named.files:
        yield from asked.clips(named.files, spec.window_s, _FIELD)
    else:
        yield Clip()


async def _take(sources: Sequence[Source]) -> list[Clip]:
    """One clip of each: what is stored first, then what happens, all at once."""
    stored = [await first_clip(source) for source in sources if not source.live]
    return stored + await asyncio.gather(*(first_clip(source) for source in sources if source.live))


def _loader(decoding: MediaPool, path: Path, kind: MediaKind | None, spec: MediaSpec) -> Loader:
    def load(start_s: float, length_s: float | None) -> Clip:
        return decoding.clip_from_file(path, kind=kind, spec=spec, start_s=start_s, length_s=length_s)

    return load
