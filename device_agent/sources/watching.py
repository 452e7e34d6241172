"""A question about every file that appears: the watcher's files into the outbox, outcomes out of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent.agent import Agent, check_question
from device_agent.bundle.bundle import load_bundle
from device_agent.compose import open_spooler, spooled
from device_agent.config import DeviceSettings
from device_agent.errors import DeviceAgentError, MediaError, OutboxFullError, TransmitterError
from device_agent.media.clip import Clip
from device_agent.media.sandbox import MediaPool
from device_agent.media.windows import Asked, asked_for
from device_agent.outbox.outbox import Outbox
from device_agent.outbox.records import Delivery, NewQuestion, OutboxEnd, Stamp
from device_agent.outbox.relay import Spooler, together
from device_agent.outbox.store import Spool
from device_agent.sources.folder import STATE_NAME, Watcher, check_folder, read_state
from device_agent.systemd import supervised

logger = logging.getLogger(__name__)

Report = Callable[[Path, dict[str, Any]], None]

_FULL_DISK_S = 2.0
"""Between two tries to put a question into an outbox whose disk is full [s]."""


async def watch_folder(
    settings: DeviceSettings,
    folder: Path,
    question: str,
    report: Report,
    *,
    context: str | None = None,
    state: Path | None = None,
    poll_s: float = 0.5,
    window: str | None = None,
    every: bool = False,
) -> None:
    """Ask about every file in a folder until SIGINT or SIGTERM.

    A file becomes a question in the outbox as soon as it is complete, whether there is a network or not. Its
    outcome is reported once, and files are reported in the order in which they were asked about. What is no
    media, is refused, or is dropped by a bound of the outbox, is reported in its turn too; so is a file on
    which something fails that should not: the next one is asked about all the same. A folder that is not
    there is waited for.
    A service manager that started this process is told when it watches, that it lives, and when it ends.

    Args:
        settings: as for a question.
        folder: to watch; need not be there yet.
        question: asked about every file.
        report: called with each file and its outcome as JSON values; ``{"error": message}`` where it is none.
        context: text that goes with the question.
        state: a file in which agents before there was an outbox remembered; what it holds still counts, and
            the outbox is kept beside it unless the settings name one. None: looked for in the folder.
        poll_s: between two looks [s].
        window: which part of each file is asked about, ``START..END``; None: its beginning.
        every: ask about one window after the other, to the end of each file; each answer is an outcome.

    Raises:
        ConfigurationError, BundleError, OutboxError: nothing can be asked at all.
    """
    check_folder(folder)
    check_question(question)
    bundle = load_bundle(settings.bundle)
    asked = asked_for(window, every, bundle.media_spec().window_s)
    source = f"watch {folder.resolve()}"
    beside_state = settings.outbox is None and state is not None
    path = state.with_name("outbox.db") if beside_state and state is not None else settings.outbox_path()
    async with (
        contextlib.AsyncExitStack() as leaving,
        Outbox(path, settings.bounds()) as outbox,
        open_spooler(settings, bundle, outbox) as (agent, spooler),
    ):
        await outbox.call(Spool.see, source, read_state(state or folder / STATE_NAME))
        watcher = Watcher(folder, await outbox.call(Spool.seen, source), poll_s=poll_s)
        files = leaving.enter_context(MediaPool(1, settings.media))
        taker = _Taker(agent, spooler, files, asked, source, question, context)

        def show(delivery: Delivery) -> None:
            report(folder / delivery.label, delivery.to_json())

        await until_signal(
            together(
                spooler.send(),
                spooler.deliver(source, show),
                taker.take_in(watcher, report),
            ),
            f"watching {folder}",
        )


async def until_signal(work: Awaitable[None], what: str) -> None:
    """Do something until it is done, or SIGINT or SIGTERM ends it.

    Args:
        work: to do.
        what: for the service manager that started this process, where one did.
    """
    working = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, working.cancel)
    try:
        async with supervised(what):
            await asyncio.wait([working])
        if not working.cancelled():
            working.result()
    finally:
        working.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@dataclass
class _Taker:
    """Makes questions of files.

    Attributes:
        agent: encodes, and emulates the radio.
        spooler: holds the outbox.
        files: decodes them.
        asked: which part of each.
        source: with whose outcomes theirs are put in order.
        question: asked about every part.
        context: text that goes with it.
    """

    agent: Agent
    spooler: Spooler
    files: MediaPool
    asked: Asked
    source: str
    question: str
    context: str | None

    async def take_in(self, watcher: Watcher, report: Report) -> None:
        """Put a question about each file into the outbox, for ever."""
        full = False
        unreadable: set[tuple[str, Stamp]] = set()
        async for path, stamp in watcher.files():
            try:
                await self._take(path, stamp)
            except _PassingError as error:
                # The disk's fault, not the file's: it stays where it is, and comes again.
                if (path.name, stamp) not in unreadable:
                    logger.warning("watch: %s; trying again", error)
                    unreadable.add((path.name, stamp))
            except OutboxFullError as error:
                # The file stays where it is, and comes again at the next look.
                if not full:
                    report(path, {"error": f"{error}; trying again"})
                full = True
                await asyncio.sleep(_FULL_DISK_S)
            else:
                full = False
                watcher.remember(path.name, stamp)

    async def _take(self, path: Path, stamp: Stamp) -> None:
        """Raises what does not lie at the file."""
        made: list[NewQuestion] = []
        try:
            await self._questions(path, stamp, made)
        except MediaError as error:
            if isinstance(error.__cause__, OSError) or not path.is_file():
                raise _PassingError(str(error)) from error
            await self._end(made, path.name, stamp, "refused", str(error))
        except TransmitterError as error:
            await self._end(made, path.name, stamp, "failed", str(error))
        except DeviceAgentError:
            raise
        except Exception as error:
            # Whatever is wrong with this one, the next one is not to wait for it for ever.
            logger.warning("watch: %r failed", path.name, exc_info=logger.isEnabledFor(logging.DEBUG))
            await self._end(made, path.name, stamp, "failed", f"{type(error).__name__}: {error}")
        else:
            # The file counts as dealt with when all that is asked about it is kept.
            await self.spooler.outbox.call(Spool.put_all, made)

    async def _questions(self, path: Path, stamp: Stamp, made: list[NewQuestion]) -> None:
        spec = self.agent.media_spec

        def load(start_s: float, length_s: float | None) -> Clip:
            return self.files.clip_from_file(path, spec=spec, start_s=start_s, length_s=length_s)

        clips = self.asked.clips([load], spec.window_s, str(path))
        while (clip := await asyncio.to_thread(next, clips, None)) is not None:
            grant = await self.spooler.grant(self.agent.grant, self.agent.usual_grant())
            prepared = await self.agent.prepare_for_later(self.question, clip, grant, context=self.context)
            made.append(spooled(prepared, clip, self.source, path.name, self.question, stamp))

    async def _end(
        self, made: list[NewQuestion], name: str, stamp: Stamp, outcome: OutboxEnd, reason: str
    ) -> None:
        """Of a file that is at fault: what could be asked about it stays."""
        if made:
            await self.spooler.outbox.call(Spool.put_all, made)
        await self.spooler.outbox.call(
            Spool.put_ended, uuid.uuid4().hex, self.source, name, stamp, outcome, reason
        )


class _PassingError(Exception):
    """A file cannot be read now."""
