"""Sources to scenes: a window now and then, judged, encoded, into the outbox, stored at the edge.

source ─▶ window due? ─▶ gate ─▶ transmitter, channel ─▶ budget ─▶ outbox ─▶ edge: stored ─▶ reported

A source that goes away is waited for, and that is said once; the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent.agent import Agent
from device_agent.bundle.bundle import load_bundle
from device_agent.compose import open_spooler, spooled
from device_agent.config import DeviceSettings
from device_agent.errors import ConfigurationError, MediaError, OutboxFullError, TransmitterError
from device_agent.lasting import LastingClock
from device_agent.media.clip import Clip, MediaSpec
from device_agent.media.sandbox import MediaPool
from device_agent.outbox.outbox import Outbox
from device_agent.outbox.records import Delivery
from device_agent.outbox.relay import Spooler, together
from device_agent.outbox.store import Spool
from device_agent.sharing.budget import Budget
from device_agent.sharing.gate import Gate, When
from device_agent.sharing.thumbnail import thumbnail_of
from device_agent.sources.file import File
from device_agent.sources.folder import Folder, Watcher
from device_agent.sources.looped import Looped, Windows
from device_agent.sources.registry import Source, open_source, schemes
from device_agent.sources.watching import until_signal
from device_agent.uplink.backoff import Backoff
from protos.names import check_device_name

logger = logging.getLogger(__name__)

AWAY = Backoff(retries=2**31, base_s=1.0, cap_s=60.0)
"""Between two looks for a source that went away."""
_FULL_DISK_S = 2.0
_BUDGET_NOTE = "share_budget"
_NAME = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})=(?P<source>.+)", re.DOTALL)

Report = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Shared:
    """What to share, and how often.

    Attributes:
        sources: each ``[NAME=]SOURCE``.
        every_s: from one window of a source to the next [s].
        when: which windows are worth it.
        bytes_per_hour: of all sources; None: not bounded.
        thumbnails: whether a small picture for people goes with each.
    """

    sources: Sequence[str]
    every_s: float = 10.0
    when: When = "always"
    bytes_per_hour: int | None = None
    thumbnails: bool = False


def named_sources(texts: Sequence[str], device: str) -> list[tuple[str, str]]:
    """What each source's scenes are called, and the source.

    Args:
        texts: each ``[NAME=]SOURCE``; one alone goes by the device's name, of several each has its own.
        device: what this device is called.

    Raises:
        ConfigurationError: none is given, two have one name, or one has none that scenes can be called by.
    """
    if not texts:
        raise ConfigurationError("source: is missing; such as --source camera:/dev/video0")
    named: list[tuple[str, str]] = []
    for number, text in enumerate(texts, 1):
        found = _NAME.fullmatch(text)
        if found is not None and text.partition(":")[0] not in schemes():
            named.append((f"{device}/{found['name']}", found["source"]))
        elif len(texts) == 1:
            named.append((device, text))
        else:
            scheme = text.partition(":")[0] if text.partition(":")[0] in schemes() else "file"
            named.append((f"{device}/{scheme}-{number}", text))
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"source: two are called {name!r}; name them NAME=SOURCE")
        try:
            check_device_name(name)
        except ValueError as error:
            raise ConfigurationError(f"source: scenes would be called {name!r}; {error}") from error
    return named


async def share_sources(settings: DeviceSettings, shared: Shared, report: Report) -> None:
    """Share windows of sources until SIGINT or SIGTERM, or until all have ended and all is stored.

    Args:
        settings: as for a question.
        shared: what, and how often.
        report: called with the name and the outcome of each scene, once, in the order of sharing.

    Raises:
        ConfigurationError, BundleError, OutboxError: nothing can be shared at all.
    """
    bundle = load_bundle(settings.bundle)
    spec = bundle.media_spec()
    credentials = settings.credentials()
    device = (credentials.device_id if credentials is not None else None) or settings.device_id
    clock = LastingClock()
    async with (
        contextlib.AsyncExitStack() as leaving,
        Outbox(settings.outbox_path(), settings.bounds(), clock=clock) as outbox,
        open_spooler(settings, bundle, outbox, clock) as (agent, spooler),
    ):
        files = leaving.enter_context(MediaPool(1, settings.media))
        opened = []
        for name, text in named_sources(shared.sources, device):
            source = open_source(text, spec, files)
            if isinstance(source, File | Looped) and not Path(source.where).is_file():
                raise ConfigurationError(f"source: there is no file {source.where}")
            if isinstance(source, File):
                source = Windows(source.where, spec, files)
            opened.append((name, source))
        sharer = Sharer(agent, spooler, Budget(shared.bytes_per_hour, clock), clock, shared)
        await sharer.resume()

        async def all_shared() -> None:
            await asyncio.gather(*(sharer.share(name, source) for name, source in opened))
            while await outbox.call(lambda spool: spool.counts()["waiting"]):
                await asyncio.sleep(0.2)
            # What came home last is shown before this ends.
            for name, _ in opened:
                await spooler.deliver_ready(_source(name), _shown(report))

        delivering = [spooler.deliver(_source(name), _shown(report)) for name, _ in opened]
        await until_signal(
            together(spooler.send(), all_shared(), *delivering), f"sharing {len(opened)} sources"
        )


def _source(name: str) -> str:
    return f"share {name}"


def _shown(report: Report) -> Callable[[Delivery], None]:
    def show(delivery: Delivery) -> None:
        report(delivery.label, delivery.to_json())

    return show


class Sharer:
    """Makes scenes of sources.

    Args:
        agent: encodes, and emulates the radio.
        spooler: holds the outbox.
        budget: of all sources.
        clock: says when windows began; goes on across restarts.
        shared: how often, and which.
        rng: jitter.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        agent: Agent,
        spooler: Spooler,
        budget: Budget,
        clock: Callable[[], float],
        shared: Shared,
        *,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._agent = agent
        self._spooler = spooler
        self._budget = budget
        self._clock = clock
        self._shared = shared
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._over_budget = False

    async def resume(self) -> None:
        """Go on with what earlier processes spent of the hour."""
        self._budget.resume(await self._spooler.outbox.call(lambda spool: spool.file.note(_BUDGET_NOTE, b"")))

    async def share(self, name: str, source: Source) -> None:
        """Share a source's windows until it ends; one that goes away is waited for."""
        if isinstance(source, Folder):
            return await self._share_folder(name, source)
        gate, retry = Gate(self._shared.when), 0
        due_s = self._clock()
        while True:
            clips = source.clips()
            try:
                while True:
                    # Before the window is taken: what is live is of the time at which it is asked for.
                    await self._sleep(max(due_s - self._clock(), 0.0))
                    try:
                        clip = await anext(clips)
                    except StopAsyncIteration:
                        return
                    if retry:
                        logger.warning("share: %s is back", source.where)
                        retry = 0
                    length_s = _length_s(clip, source.spec)
                    start_s = self._clock() - length_s
                    due_s = max(due_s + self._shared.every_s, self._clock() - length_s)
                    await self._take(name, gate, clip, start_s, length_s)
            except (MediaError, TransmitterError) as error:
                retry += 1
                if retry == 1:
                    logger.warning("share: %s; waiting for it", error)
                await self._sleep(AWAY.delay_s(retry, self._rng, floor_s=min(self._shared.every_s, 1.0)))
            finally:
                if isinstance(clips, AsyncGenerator):
                    await clips.aclose()

    async def _share_folder(self, name: str, source: Folder) -> None:
        """Share every file that is in a folder or appears, each once, whatever is restarted meanwhile."""
        gate, outbox = Gate(self._shared.when), self._spooler.outbox
        folder = Path(source.where)
        watcher = Watcher(folder, await outbox.call(Spool.seen, _source(name)), poll_s=source.poll_s)
        with source.files() as files:
            async for path, stamp in watcher.files():
                try:
                    clip = await asyncio.to_thread(files.clip_from_file, path, spec=source.spec)
                    length_s = _length_s(clip, source.spec)
                    await self._take(name, gate, clip, self._clock() - length_s, length_s)
                except (MediaError, TransmitterError) as error:
                    logger.warning("share: %s", error)
                watcher.remember(path.name, stamp)
                await outbox.call(Spool.see, _source(name), {path.name: stamp})
                await self._sleep(self._shared.every_s)

    async def _take(self, name: str, gate: Gate, clip: Clip, start_s: float, length_s: float) -> None:
        if not await asyncio.to_thread(gate.passes, clip):
            return
        grant = await self._spooler.grant(self._agent.grant, self._agent.usual_grant())
        picture = await asyncio.to_thread(thumbnail_of, clip) if self._shared.thumbnails else b""
        prepared = await self._agent.prepare_share(clip, grant, name, start_s, length_s, picture)
        size_bytes = prepared.question.ByteSize()
        # One at a time: two that are allowed alone may be too much together.
        async with self._turn:
            if not self._budget.allows(size_bytes):
                if not self._over_budget:
                    logger.warning(
                        "share: %s bytes an hour are spent; windows are left out until there is room again",
                        self._shared.bytes_per_hour,
                    )
                self._over_budget = True
                return
            self._over_budget = False
            self._budget.spend(size_bytes)
            question = spooled(prepared, clip, _source(name), name, question="")

            def put(spool: Spool) -> None:
                # Noted first: a kill in between costs a window, never the budget.
                if self._shared.bytes_per_hour is not None:
                    spool.file.take_note(_BUDGET_NOTE, self._budget.note())
                spool.put(question)

            while True:
                # An hour later there is room for it again: an hour after it went in, whatever it waited for.
                self._budget.postpone()
                try:
                    await self._spooler.outbox.call(put)
                    self._budget.postpone()
                    break
                except OutboxFullError as error:
                    logger.warning("share: %s; trying again", error)
                    await self._sleep(_FULL_DISK_S)
        gate.shared(clip)


def _length_s(clip: Clip, spec: MediaSpec) -> float:
    """How long a window is [s]; 0: a still."""
    if clip.window is not None:
        return max(clip.window.end_s - clip.window.start_s, 0.0)
    if clip.pcm_S is not None:
        return len(clip.pcm_S) / spec.sample_rate_hz
    if clip.frames_THWC is not None and not clip.is_image:
        return len(clip.frames_THWC) / spec.frame_rate_hz
    return 0.0
