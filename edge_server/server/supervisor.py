"""``serve --front-doors N``: N doors on the same ports and the engine behind them, each a process.

    SIGTERM ─▶ doors drain ─▶ engine drains ─▶ end
    SIGHUP  ─▶ engine loads another model beside the present one ─▶ doors do
    one dies ─▶ another takes its place, and serves what the others do

The ports are held here, bound and not listened on: whoever else would take them is told at the start, and a
door that comes anew finds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_server.cell.shared_accounts import make_shared_accounts
from edge_server.errors import ConfigurationError
from edge_server.server.config import ServerConfig
from edge_server.server.front_doors import Place, check_front_doors, of_door, of_engine, ready_file
from edge_server.server.logs import IN_WORDS
from edge_server.server.member_process import LOOK_S, MemberProcess
from edge_server.server.ready import write_ready
from edge_server.server.rest_server import listen
from edge_server.server.telling import ModelIdentity

logger = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-m", "edge_server.server.member")
_AGAIN_S, _AGAIN_MOST_S, _DOUBLED_MOST = 0.5, 10.0, 8
_LIVED_S = 60.0
"""Whoever has lived so long begins anew at once when it dies."""
_SETTLE_S = 5.0


class Supervisor:
    """Starts the processes, puts others in the place of those that die, ends them in order.

    Args:
        config: of all of them.
        program: of a member.
        scratch: a folder for as long as they live.
        tell: is told what they say of themselves, as one, whenever that changes.
    """

    def __init__(
        self,
        config: ServerConfig,
        program: Sequence[str],
        scratch: Path,
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._tell = tell
        accounts = scratch / "accounts"
        make_shared_accounts(accounts)
        self._following: asyncio.Task[None] | None = None
        self._engine: list[MemberProcess] = []
        if config.cluster.role == "both":
            own, ready = of_engine(config, scratch), ready_file(scratch, None)
            self._engine.append(MemberProcess("engine", program, own, None, ready))
        self._doors: list[MemberProcess] = []
        for number in range(config.server.front_doors):
            first = config.server.door_port
            place = Place(number, accounts, first + number if first else 0)
            own, ready = of_door(config, number, scratch), ready_file(scratch, number)
            self._doors.append(MemberProcess(f"door {number}", program, own, place, ready))

    @property
    def _members(self) -> list[MemberProcess]:
        return [*self._engine, *self._doors]

    async def start(self) -> None:
        """Start all of them.

        Raises:
            ConfigurationError: one of them ended at once; it has said why.
        """
        for member in self._members:
            await member.begin()
        for member in self._members:
            await member.until_ready()
        for member in self._members:
            member.watch = asyncio.create_task(self._keep(member), name=f"tokenlink-{member.name}")
        facts = self._facts()
        if facts is not None:
            self._tell(facts)

    async def reload(self) -> None:
        """The engine takes up another model, then the doors: their questions find it there. Without an engine
        the first door goes first."""
        first = self._members[0]
        before = first.model
        first.signal(signal.SIGHUP)
        # One that has what is in the folder already changes nothing; what the others serve shows it.
        while first.model is None or (first.model == before and not self._differ()):
            await asyncio.sleep(LOOK_S)
        await self._follow()

    async def _follow(self) -> None:
        """The doors take up what is in the folder, which the engine has."""
        for door in self._doors:
            door.signal(signal.SIGHUP)
        while self._facts() is None or self._differ():
            await asyncio.sleep(LOOK_S)
        self._changed()

    def _differ(self) -> bool:
        """Whether those that serve do not all serve the same."""
        return len({each.model for each in self._members} - {None}) > 1

    async def end(self, hurry: asyncio.Event) -> None:
        """End the doors, then the engine, each with its questions answered; at once where told to hurry."""
        # Nobody is begun anew from here on, not even one that has died a moment ago.
        watches = [watch for watch in (self._following, *(each.watch for each in self._members)) if watch]
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        for members in (self._doors, self._engine):
            for member in members:
                member.signal(signal.SIGTERM)
            ended = asyncio.create_task(self._ended(members))
            hurried = asyncio.create_task(hurry.wait())
            await asyncio.wait({ended, hurried}, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            if not ended.done():
                for member in self._members:
                    member.signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended, _SETTLE_S)
        for member in self._members:
            member.signal(signal.SIGKILL)

    async def _keep(self, member: MemberProcess) -> None:
        """Whoever dies has a successor."""
        while True:
            began = time.monotonic()
            code = await member.ended()
            member.died = 0 if time.monotonic() - began > _LIVED_S else member.died + 1
            logger.error("%s ended and is begun anew", member.name, extra={"code": code})
            await self._begin_anew(member)

    async def _begin_anew(self, member: MemberProcess) -> None:
        while True:
            times = min(max(member.died - 1, 0), _DOUBLED_MOST)
            await asyncio.sleep(min(_AGAIN_S * 2**times, _AGAIN_MOST_S))
            try:
                await member.begin(self._meant_for(member))
                break
            except OSError as error:
                member.died += 1
                logger.error("%s cannot be started and is tried again: %s", member.name, error)
        with contextlib.suppress(ConfigurationError):  # it has died again, and is begun again
            await member.until_ready()
            if self._differ():
                logger.warning("%s serves another model than others, which take it up", member.name)
                self._let_follow()
            self._changed()

    async def _ended(self, members: Sequence[MemberProcess]) -> None:
        for member in members:
            await member.ended()

    def _meant_for(self, member: MemberProcess) -> ModelIdentity | None:
        """What a successor has to serve: a door, what the others do, or its questions had no engine. An
        engine takes what the folder holds, as what was served is nowhere any more; the doors follow it."""
        if member in self._engine:
            return None
        others = (each.model for each in self._members if each is not member)
        return next((model for model in others if model is not None), None)

    def _let_follow(self) -> None:
        if self._following is not None:
            self._following.cancel()
        self._following = asyncio.create_task(self._follow(), name="tokenlink-doors-follow")

    def _changed(self) -> None:
        facts = self._facts()
        if facts is None:
            return
        try:
            self._tell(facts)
        except ConfigurationError as error:
            # As it could at the start; no reason to serve no longer.
            logger.error("what changed is not told: %s", error)

    def _facts(self) -> dict[str, Any] | None:
        """What they say of themselves, as one; None while one of them is not ready."""
        # Each is read once: another look may find its successor.
        engines, doors = ([each.facts for each in members] for members in (self._engine, self._doors))
        if not all((*engines, *doors)):
            return None
        kept = ("own_rest", "pid")
        return {
            **doors[0],
            "pid": os.getpid(),
            "doors": [{name: door[name] for name in kept} for door in doors],
            "engines": [{name: engine[name] for name in kept} for engine in engines],
        }


@contextlib.contextmanager
def _reserved(config: ServerConfig) -> Iterator[ServerConfig]:
    """The settings with ports that are ours: nobody else listens there, and doors can."""
    host, sections, held = config.server.host, {}, list[socket.socket]()
    try:
        for section, setting in (("grpc", "grpc_port"), ("rest", "rest_port")):
            told = getattr(config, section)
            if told.port:
                listen(host, told.port, setting=setting).close()  # alone: whoever listens there would be seen
            held.append(listen(host, told.port, shared=True, setting=setting))
            sections[section] = told.model_copy(update={"port": held[-1].getsockname()[1]})
        yield config.model_copy(update=sections)
    finally:
        for sock in held:
            sock.close()


async def supervise(config: ServerConfig, program: Sequence[str] = PROGRAM) -> None:
    """Serve with several doors until SIGTERM or SIGINT.

    Args:
        config: settings, of all of them.
        program: of a member.

    Raises:
        ConfigurationError: it cannot be served so, a port is taken, or a member does not start.
    """
    check_front_doors(config)
    asked_to_end, asked_again, asked_to_reload = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(
            number, lambda: (asked_again if asked_to_end.is_set() else asked_to_end).set()
        )
    loop.add_signal_handler(signal.SIGHUP, asked_to_reload.set)
    with _reserved(config) as ours, tempfile.TemporaryDirectory(prefix="tokenlink-doors-") as scratch:
        ready = config.server.ready_file

        def tell(facts: dict[str, Any]) -> None:
            _say(facts)
            if ready is not None:
                write_ready(ready, facts)

        supervisor = Supervisor(ours, program, Path(scratch), tell)
        reloading = None
        try:
            starting = asyncio.create_task(supervisor.start())
            ending = asyncio.create_task(asked_to_end.wait())
            await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                reloading = asyncio.create_task(_reload_on(asked_to_reload, supervisor))
                await ending
            starting.cancel()
            await asyncio.wait({starting})
        finally:
            if reloading is not None:
                reloading.cancel()
            await supervisor.end(asked_again)
            if ready is not None:
                ready.unlink(missing_ok=True)
    logger.info("stopped")


async def _reload_on(asked: asyncio.Event, supervisor: Supervisor) -> None:
    while True:
        await asked.wait()
        asked.clear()
        reloading = asyncio.create_task(supervisor.reload())
        again = asyncio.create_task(asked.wait())
        try:
            # What could not be loaded changed nothing, and is waited for no longer once another is asked for.
            await asyncio.wait({reloading, again}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reloading.cancel()
            again.cancel()


def _say(facts: Mapping[str, Any]) -> None:
    doors = len(facts["doors"])
    words = f"serving {facts['model_name']} with {doors} front doors: REST at {facts['rest']}, gRPC at "
    logger.info("serving", extra={**facts, IN_WORDS: f"{words}{facts['grpc']}; Ctrl-C ends it"})


def run(config: ServerConfig) -> None:
    """Serve with several doors; returns when all have drained.

    Raises:
        ConfigurationError: as :func:`supervise`.
    """
    asyncio.run(supervise(config))
