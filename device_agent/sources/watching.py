"""A question about every file that appears: the watcher's files into the outbox, outcomes out of it."""

from __future__ import annotations

import asyncio
import logging
import signal
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from device_agent.agent import Agent, check_question
from device_agent.bundle.bundle import load_bundle
from device_agent.compose import open_spooler, spooled
from device_agent.config import DeviceSettings
from device_agent.errors import DeviceAgentError, MediaError, OutboxFullError, TransmitterError
from device_agent.media.loading import clip_from_file
from device_agent.outbox.outbox import Outbox
from device_agent.outbox.records import Delivery, OutboxEnd, Stamp
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

    Raises:
        ConfigurationError, BundleError, OutboxError: nothing can be asked at all.
    """
    check_folder(folder)
    check_question(question)
    bundle = load_bundle(settings.bundle)
    source = f"watch {folder.resolve()}"
    beside_state = settings.outbox is None and state is not None
    path = state.with_name("outbox.db") if beside_state and state is not None else settings.outbox_path()
    async with (
        Outbox(path, settings.bounds()) as outbox,
        open_spooler(settings, bundle, outbox) as (agent, spooler),
    ):
        await outbox.call(Spool.see, source, read_state(state or folder / STATE_NAME))
        watcher = Watcher(folder, await outbox.call(Spool.seen, source), poll_s=poll_s)

        def show(delivery: Delivery) -> None:
            report(folder / delivery.label, delivery.to_json())

        await _until_signal(
            together(
                spooler.send(),
                spooler.deliver(source, show),
                _take_in(agent, spooler, watcher, source, question, context, report),
            ),
            f"watching {folder}",
        )


async def _until_signal(work: Awaitable[None], what: str) -> None:
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


async def _take_in(
    agent: Agent,
    spooler: Spooler,
    watcher: Watcher,
    source: str,
    question: str,
    context: str | None,
    report: Report,
) -> None:
    full = False
    unreadable: set[tuple[str, Stamp]] = set()

    async def ended(name: str, stamp: Stamp, outcome: OutboxEnd, reason: str) -> None:
        await spooler.outbox.call(Spool.put_ended, uuid.uuid4().hex, source, name, stamp, outcome, reason)

    async for path, stamp in watcher.files():
        try:
            try:
                clip = await asyncio.to_thread(clip_from_file, path, spec=agent.media_spec)
                grant = await spooler.grant(agent.grant, agent.usual_grant())
                prepared = await agent.prepare(question, clip, grant, context=context)
            except MediaError as error:
                if isinstance(error.__cause__, OSError) or not path.is_file():
                    # The disk's fault, not the file's: it stays where it is, and comes again.
                    if (path.name, stamp) not in unreadable:
                        logger.warning("watch: %s; trying again", error)
                        unreadable.add((path.name, stamp))
                    continue
                await ended(path.name, stamp, "refused", str(error))
            except TransmitterError as error:
                await ended(path.name, stamp, "failed", str(error))
            except DeviceAgentError:
                raise
            except Exception as error:
                # Whatever is wrong with this one, the next one is not to wait for it for ever.
                logger.warning("watch: %r failed", path.name, exc_info=logger.isEnabledFor(logging.DEBUG))
                await ended(path.name, stamp, "failed", f"{type(error).__name__}: {error}")
            else:
                await spooler.outbox.call(Spool.put, spooled(prepared, source, path.name, stamp))
        except OutboxFullError as error:
            # The file stays where it is, and comes again at the next look.
            if not full:
                report(path, {"error": f"{error}; trying again"})
            full = True
            await asyncio.sleep(_FULL_DISK_S)
        else:
            full = False
            watcher.remember(path.name, stamp)
