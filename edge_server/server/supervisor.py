"""``serve --front-doors N``: N doors on the same ports and the engine behind them, each a process.

    SIGTERM ─▶ doors drain ─▶ engine drains ─▶ end
    SIGHUP  ─▶ engine loads another model beside the present one ─▶ doors do
    one dies ─▶ another takes its place

The ports are held here, bound and not listened on: whoever else would take them is told at the start, and a
door that comes anew finds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_server.cell.shared_accounts import make_shared_accounts
from edge_server.errors import ConfigurationError
from edge_server.server.config import ServerConfig
from edge_server.server.front_doors import Place, check_front_doors, of_door, of_engine, ready_file
from edge_server.server.logs import IN_WORDS
from edge_server.server.ready import write_ready
from edge_server.server.rest_server import listen
from edge_server.server.telling import told

logger = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-m", "edge_server.server.member")
_LOOK_S = 0.05
_AGAIN_S, _AGAIN_MOST_S = 0.5, 10.0
_LIVED_S = 60.0
"""Whoever has lived so long begins anew at once when it dies."""
_SETTLE_S = 5.0


@dataclass
class _Member:
    """A process, or the next one in its place."""

    name: str
    told: bytes
    ready: Path
    process: asyncio.subprocess.Process | None = None
    died: int = 0
    watch: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it says of itself; empty until it is ready."""
        with contextlib.suppress(OSError, ValueError):
            found: Mapping[str, Any] = json.loads(self.ready.read_text(encoding="utf-8"))
            return found
        return {}

    @property
    def model(self) -> tuple[str, str] | None:
        """What it serves; None while it does not."""
        facts = self.facts
        return (facts["bundle_hash"], facts["digest"]) if facts else None

    def signal(self, number: signal.Signals) -> None:
        """Tell it, if it lives."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


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
        self._program = tuple(program)
        self._tell = tell
        self._ending = False
        accounts = scratch / "accounts"
        make_shared_accounts(accounts)
        self._engine: list[_Member] = []
        if config.cluster.role == "both":
            as_told = told(of_engine(config, scratch), None)
            self._engine.append(_Member("engine", as_told, ready_file(scratch, None)))
        self._doors: list[_Member] = []
        for number in range(config.server.front_doors):
            first = config.server.door_port
            place = Place(number, accounts, first + number if first else 0)
            as_told = told(of_door(config, number, scratch), place)
            self._doors.append(_Member(f"door {number}", as_told, ready_file(scratch, number)))

    @property
    def _members(self) -> list[_Member]:
        return [*self._engine, *self._doors]

    async def start(self) -> None:
        """Start all of them.

        Raises:
            ConfigurationError: one of them ended at once; it has said why.
        """
        for member in self._members:
            await self._begin(member)
        for member in self._members:
            await self._until_ready(member)
        for member in self._members:
            member.watch = asyncio.create_task(self._keep(member), name=f"tokenlink-{member.name}")
        self._changed()

    async def reload(self) -> None:
        """The engine takes up another model, then the doors: their questions find it there."""
        for engine in self._engine:
            before = engine.model
            engine.signal(signal.SIGHUP)
            while engine.model in (before, None):
                await asyncio.sleep(_LOOK_S)
        for door in self._doors:
            door.signal(signal.SIGHUP)
        while any(door.model != self._doors[0].model for door in self._doors) or self._stale():
            await asyncio.sleep(_LOOK_S)
        self._changed()

    def _stale(self) -> bool:
        """Whether the doors do not serve yet what the engine does."""
        return any(door.model != engine.model for engine in self._engine for door in self._doors)

    async def end(self, hurry: asyncio.Event) -> None:
        """End the doors, then the engine, each with its questions answered; at once where told to hurry."""
        self._ending = True
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
            if member.watch is not None:
                member.watch.cancel()

    async def _begin(self, member: _Member) -> None:
        member.ready.unlink(missing_ok=True)
        # Of a session of its own: Ctrl-C ends the doors first, and this tells them.
        member.process = await asyncio.create_subprocess_exec(
            *self._program, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        assert member.process.stdin is not None  # noqa: S101 (it was asked for)
        member.process.stdin.write(member.told)
        with contextlib.suppress(ConnectionError):
            await member.process.stdin.drain()

    async def _until_ready(self, member: _Member) -> None:
        process = member.process
        while not member.facts:
            if process is not None and process.returncode is not None:
                raise ConfigurationError(f"front_doors: {member.name} did not start; its lines above say why")
            await asyncio.sleep(_LOOK_S)

    async def _keep(self, member: _Member) -> None:
        """Whoever dies has a successor."""
        while True:
            began = time.monotonic()
            assert member.process is not None  # noqa: S101 (it was begun)
            code = await member.process.wait()
            if self._ending:
                return
            member.died = 0 if time.monotonic() - began > _LIVED_S else member.died + 1
            logger.error("%s ended and is begun anew", member.name, extra={"code": code})
            await asyncio.sleep(min(_AGAIN_S * 2 ** max(member.died - 1, 0), _AGAIN_MOST_S))
            await self._begin(member)
            with contextlib.suppress(ConfigurationError):  # it has died again, and is begun again
                await self._until_ready(member)
                self._changed()

    def _changed(self) -> None:
        told = [each.facts for each in self._members]
        if not all(told):
            return
        doors = [each.facts for each in self._doors]
        kept = ("own_rest", "pid")
        self._tell(
            {
                **doors[0],
                "pid": os.getpid(),
                "doors": [{name: door[name] for name in kept} for door in doors],
                "engines": [{name: each.facts[name] for name in kept} for each in self._engine],
            }
        )

    async def _ended(self, members: Sequence[_Member]) -> None:
        for member in members:
            if member.process is not None:
                await member.process.wait()


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
        # What could not be loaded changed nothing, and is waited for no longer once another is asked for.
        await asyncio.wait({reloading, again}, return_when=asyncio.FIRST_COMPLETED)
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
