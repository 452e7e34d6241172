"""A question about every file that appears: the watcher's files, one after another, to the agent."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device_agent.agent import Agent
from device_agent.bundle import load_bundle
from device_agent.compose import open_agent
from device_agent.config import DeviceSettings
from device_agent.errors import BundleMismatchError, MediaError, RefusedError, UplinkError
from device_agent.media import MediaSpec, clip_from_file
from device_agent.supervision import supervised
from device_agent.watch import Watcher

Report = Callable[[Path, dict[str, Any]], None]


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

    A file that is no media, or that the server refuses, is reported and remembered. One that the server
    could not answer (unreachable, full, too slow) is reported and asked again at the next look.
    A service manager that started this process is told when it watches, that it lives, and when it ends.

    Args:
        settings: as for a question.
        folder: to watch.
        question: asked about every file.
        report: called with each file and its outcome as JSON values, or ``{"error": message}``.
        context: text that goes with the question.
        state: where to remember; None: in the folder.
        poll_s: between two looks [s].

    Raises:
        ConfigurationError, BundleError: nothing can be asked at all.
    """
    watcher = Watcher(folder, state=state, poll_s=poll_s)
    bundle = load_bundle(settings.bundle)
    async with open_agent(settings, bundle) as agent:
        work = asyncio.create_task(
            _answer_files(agent, watcher, bundle.media_spec(), question, context, report)
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, work.cancel)
        try:
            async with supervised(f"watching {folder}"):
                await asyncio.wait([work])
            if not work.cancelled():
                work.result()
        finally:
            work.cancel()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


async def _answer_files(
    agent: Agent, watcher: Watcher, spec: MediaSpec, question: str, context: str | None, report: Report
) -> None:
    troubled: dict[Path, str] = {}
    async for path in watcher.files():
        try:
            clip = await asyncio.to_thread(clip_from_file, path, spec=spec)
            outcome = await agent.ask(question, clip, context=context)
        except (MediaError, RefusedError) as error:
            record = {"error": str(error)}
            watcher.remember(path, record)
            report(path, record)
        except BundleMismatchError:
            raise
        except UplinkError as error:
            if troubled.get(path) != str(error):  # the same trouble, look after look, is said once
                troubled[path] = str(error)
                report(path, {"error": f"{error}; trying again"})
        else:
            troubled.pop(path, None)
            record = outcome.to_json()
            watcher.remember(path, {"question": question, **record})
            report(path, record)
