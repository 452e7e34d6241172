"""The composition root: an engine for each model that is served, and the doors that open on them.

              ┌─ gRPC ─────────▶┐
    Server ───┤                 ├─▶ cell ─▶ EngineClient ─▶ what computes
              └─ REST ─▶ ingest ▶┘      and a page for browsers, where that is installed

:mod:`edge_server.server.process` runs it until it is told to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from device_agent.lasting import boot_clock
from edge_server.cell import BackendRegistry
from edge_server.engine import EngineClient
from edge_server.errors import ConfigurationError
from edge_server.frontdoor.backend import Backends, EngineBackend, Served
from edge_server.frontdoor.http.asking import Asker
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.tracing import Tracing
from edge_server.server.addresses import Addresses
from edge_server.server.beside import check_beside
from edge_server.server.bounds import bounds_of
from edge_server.server.builders import (
    Security,
    Surroundings,
    build_allocator,
    build_answers,
    build_backend,
    build_call_gate,
    build_cell,
    build_connection,
    build_desk,
    build_grpc_door,
    build_limits,
    build_rest_app,
    build_rest_door,
    build_shared_access,
    build_shared_cell,
    build_shared_scenes,
    build_standing,
)
from edge_server.server.config import ServerConfig
from edge_server.server.exposure import check_exposure
from edge_server.server.front_doors import Place
from edge_server.server.rest_server import listen
from edge_server.server.revocation import RevocationWatch
from edge_server.server.rollout import Rollout
from edge_server.server.security import credential_store_of, enrolment_door_of, rest_speaks_tls, tls_of
from edge_server.ui.gate import Gate, KeyGate, OpenGate

if TYPE_CHECKING:
    from edge_server.server.page import PageBuilder

_GRACE_S = 2.0


class Server:
    """Engines with their two doors, on the running event loop; a third where devices can enrol.

    Args:
        config: settings.
        served: what to serve.
        beside: other models, which are asked by name or by their bundles.
        clock: monotonic seconds; those of sleep count too: a grant ends with its time, whatever slept.
        wall_clock: seconds since the Unix epoch; certificates expire by it.
        tracing: begins spans; None: there are none.
        with_page: serve the page for browsers too; one server of a process can.
        gate: who may look at the page and ask from it; None: whoever the REST doors let in.
        place: which of several front doors this is; None: it is the only one.

    Raises:
        ConfigurationError: what others could reach is not protected, or a file of certificates or keys cannot
            be read.
    """

    def __init__(
        self,
        config: ServerConfig,
        served: Served,
        *,
        beside: Sequence[Served] = (),
        clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], float] = time.time,
        tracing: Tracing | None = None,
        with_page: bool = False,
        gate: Gate | None = None,
        place: Place | None = None,
    ) -> None:
        check_exposure(config)
        self._place = place
        around = Surroundings(version("tokenlink"), clock, wall_clock, tracing)
        self._config, self._around = config, around
        self._connection = build_connection(config)
        with_page = with_page and not config.cluster.computes_only
        builder = _page_builder(config, around) if with_page else None
        self.metrics = (
            builder.metrics
            if builder is not None
            else Metrics(version=around.release, outage_snr_db=config.cell.outage_snr_db)
        )
        if self._connection is not None:
            self.metrics.describe_node(self._connection.node, config.cluster.role)
        self.answers, self._answer_file = build_answers(config, self.metrics, wall_clock, self._connection)
        check_beside(served, beside)
        first, *others = (
            build_backend(config, each, around, self.metrics, self._connection) for each in (served, *beside)
        )
        self.backends: Backends = BackendRegistry(first, others)
        self._credentials = credential_store_of(config, wall_clock)
        self.bounds = bounds_of(config)
        limits = build_limits(config, clock, place)
        security = Security(tls_of(config), self._credentials, limits, self.bounds)
        self._shared_cell = build_shared_cell(config, self._connection)
        self._allocator = build_allocator(config, self.backends, self.metrics, clock, self._shared_cell)
        self.cell = build_cell(
            config, self.backends, self.answers, self.metrics, security, clock, self._allocator
        )
        self._rollout = Rollout(
            self.backends,
            self.cell,
            keep_s=config.server.old_model_s,
            max_old=config.server.old_models,
            clock=clock,
            on_change=self._describe,
        )
        self._describe()
        self._call_gate = build_call_gate(self.cell, self.metrics, security)
        self.desk, store = build_desk(config, self.backends, self.metrics, security, around)
        self._grpc = build_grpc_door(
            config,
            self.cell,
            self.backends,
            self.metrics,
            security,
            self._call_gate,
            around,
            self.desk,
            shares_port=place is not None,
        )
        self.revocation = (
            RevocationWatch(self._credentials, (self.cell.end_revoked, self._call_gate.end_revoked))
            if self._credentials is not None
            else None
        )
        self._shared_access = build_shared_access(config, self._connection, place)
        self._shared_scenes = build_shared_scenes(config, self._connection, self.desk, place)
        self._enrolment = enrolment_door_of(config, self.metrics, clock, wall_clock)
        asker = Asker(self.cell, self.backends, self.metrics, self.desk, tracing)
        # Of several doors, one asks; it finds in the file what came to the others.
        asks = place is None or place.number == 0
        self._standing = build_standing(self.desk, store, asker) if asks else None
        if gate is None and self._credentials is not None:
            gate = KeyGate(self._credentials, security.limits, self.metrics.rejected)
        self._page = None if builder is None else builder.build(asker, self.cell, gate or OpenGate())
        self.rest_app = build_rest_app(config, asker, self.metrics, security, around, self._page)
        self._rest = build_rest_door(config, self.rest_app, security, self.metrics.rejected)
        self._rest_task: asyncio.Task[None] | None = None
        self._to_close = contextlib.AsyncExitStack()
        self._count_status()

    @property
    def engine(self) -> EngineClient:
        """Of the current model."""
        return self.backends.current.engine

    def _count_status(self) -> None:
        """Show how the engines do in the metrics."""
        self.metrics.watch(
            ready=lambda: self.engine.status.ready,
            draining=lambda: self.engine.status.draining,
            waiting=lambda: sum(backend.engine.status.waiting for backend in self.backends),
            running=lambda: sum(backend.engine.status.running for backend in self.backends),
            queue_capacity=self._config.engine.max_queue,
            max_sessions=self._config.cell.max_sessions,
        )

    async def start(self) -> Addresses:
        """Open both doors.

        Raises:
            ConfigurationError: an address cannot be bound.
        """
        config = self._config
        socks = [listen(config.server.host, config.rest.port, shared=self._place is not None)]
        enrol_port = None
        try:
            if self._place is not None:
                socks.append(listen(config.server.host, self._place.own_port, setting="door_port"))
            for backend in self.backends:
                await backend.engine.start()
            if self._enrolment is not None and config.security.enrol_port is not None:
                enrol_port = await self._enrolment.start(config.server.host, config.security.enrol_port)
            await self._to_close.enter_async_context(self.desk.running())
            if self._shared_scenes is not None:
                await self._to_close.enter_async_context(self._shared_scenes.running())
            if self._standing is not None:
                await self._to_close.enter_async_context(self._standing.running())
            if self._page is not None:
                self._rest.config.load()  # the page looks for its server among those that have loaded theirs
                await self._to_close.enter_async_context(self._page.running())
            if self._shared_cell is not None:
                await self._to_close.enter_async_context(self._shared_cell.running())
            if self._allocator is not None:
                running = self._allocator.running(self.cell.open_sessions)
                await self._to_close.enter_async_context(running)
            if self._shared_access is not None:
                await self._to_close.enter_async_context(self._shared_access.running())
            if self.revocation is not None:
                await self._to_close.enter_async_context(self.revocation.running())
            grpc_port = 0
            if not config.cluster.computes_only:
                grpc_port = await self._grpc.start(config.server.host, config.grpc.port)
        except BaseException:
            for sock in socks:
                sock.close()
            if self._enrolment is not None and enrol_port is not None:
                await self._enrolment.stop(0.0)
            for backend in self.backends:
                await backend.engine.stop()
            await self._close_answers()
            await self._to_close.aclose()
            raise
        self._rest_task = asyncio.create_task(self._rest.serve(sockets=socks), name="tokenlink-rest")
        while not self._rest.started and not self._rest_task.done():
            await asyncio.sleep(0.005)
        return Addresses(
            config.server.host,
            grpc_port,
            socks[0].getsockname()[1],
            enrol_port,
            "https" if rest_speaks_tls(config) else "http",
            socks[-1].getsockname()[1],
        )

    async def drain(self) -> None:
        """Accept nothing new; return when everything that was accepted has ended."""
        await self._grpc.announce_draining()
        await self._rollout.drain()

    async def replace(self, served: Served, after: EngineBackend | None = None) -> None:
        """Serve another model, beside the present one for as long as devices run its bundle.

        Args:
            served: the new one.
            after: in whose place, of those that are served beside one another; None: the current one's.

        Raises:
            CanaryError: it does not answer what it must; what is served stays.
            ConfigurationError: it would be mistaken for another one that is served.
        """
        after = after or self.backends.current
        others = [backend.served for backend in self.backends.newest if backend is not after]
        try:
            check_beside(served, others)
        except ConfigurationError:
            # What is not taken up is let go, as a rollout does with what does not answer its canaries.
            await asyncio.to_thread(served.close)
            raise
        await self._rollout.replace(
            build_backend(self._config, served, self._around, self.metrics, self._connection),
            served.canaries,
            after,
        )

    async def stop(self) -> None:
        """Close both doors; what is unanswered fails."""
        self._rest.should_exit = True
        await self._rollout.stop()
        if self._enrolment is not None:
            await self._enrolment.stop(0.0)
        await self._grpc.stop(_GRACE_S)
        await self._close_answers()
        if self._rest_task is not None:
            await self._rest_task
        await self._to_close.aclose()
        if self._credentials is not None:
            self._credentials.close()

    async def _close_answers(self) -> None:
        answer_file, self._answer_file = self._answer_file, None
        if answer_file is not None:
            await asyncio.to_thread(answer_file.close)

    def _describe(self) -> None:
        self.metrics.describe([(backend.model.name, backend.bundle_hashes) for backend in self.backends])


def _page_builder(config: ServerConfig, around: Surroundings) -> PageBuilder:
    # The page's libraries: a server without it never has them in memory.
    from edge_server.server.page import PageBuilder

    return PageBuilder(config, around.release, around.clock)
