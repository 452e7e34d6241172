"""The composition root: an engine for each model that is served, and the doors that open on them.

              ┌─ gRPC ─▶ cell ─┐
    Server ───┤                ├─▶ Engine ─▶ ModelRunner
              └─ REST ─▶ ingest┘      and a page for browsers, where that is installed

:mod:`edge_server.server.process` runs it until it is told to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Generic

import uvicorn

from device_agent.lasting import LastingClock, boot_clock
from edge_server.access.identity import peer_of_certificate
from edge_server.cell import AnswerFile, BackendRegistry, Cell, KeptAnswers, Limits
from edge_server.engine import Engine
from edge_server.engine.ports import StateT
from edge_server.frontdoor.backend import Backends, EngineBackend
from edge_server.frontdoor.grpc.server import GrpcServer
from edge_server.frontdoor.grpc.service import TokenLinkService
from edge_server.frontdoor.http.asking import Asker
from edge_server.frontdoor.http.rest import build_app
from edge_server.frontdoor.http.slow_connections import bounded_protocol
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.tls import TlsFiles
from edge_server.frontdoor.tracing import Tracing
from edge_server.server.addresses import Addresses
from edge_server.server.config import ServerConfig
from edge_server.server.exposure import check_exposure
from edge_server.server.rest_server import RestServer, listen
from edge_server.server.rollout import Rollout
from edge_server.server.security import credential_store_of, enrolment_door_of, rest_speaks_tls, tls_of
from edge_server.server.served import Served
from edge_server.ui.gate import Gate, KeyGate, OpenGate

logger = logging.getLogger(__name__)

_GRACE_S = 2.0


class Server(Generic[StateT]):
    """Engines with their two doors, on the running event loop; a third where devices can enrol.

    Args:
        config: settings.
        served: what to serve.
        clock: monotonic seconds; those of sleep count too: a grant ends with its time, whatever slept.
        wall_clock: seconds since the Unix epoch; certificates expire by it.
        tracing: begins spans; None: there are none.
        with_page: serve the page for browsers too; one server of a process can.
        gate: who may look at the page and ask from it; None: whoever the REST doors let in.

    Raises:
        ConfigurationError: what others could reach is not protected, or a file of certificates or keys cannot
            be read.
    """

    def __init__(
        self,
        config: ServerConfig,
        served: Served[StateT],
        *,
        clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], float] = time.time,
        tracing: Tracing | None = None,
        with_page: bool = False,
        gate: Gate | None = None,
    ) -> None:
        check_exposure(config)
        release = version("tokenlink")
        builder = None
        if with_page:
            # The page's libraries: a server without it never has them in memory.
            from edge_server.server.page import PageBuilder

            builder = PageBuilder(config, release, clock)
        self.metrics = (
            Metrics(version=release, outage_snr_db=config.outage_snr_db)
            if builder is None
            else builder.metrics
        )
        answers_clock = LastingClock(wall_clock=wall_clock)
        self._answer_file = (
            AnswerFile(config.answers, self.metrics.answers_not_written, timekeeper=answers_clock)
            if config.answers is not None
            else None
        )
        self.answers = KeptAnswers(
            config.answers_kept,
            config.answers_kept_in_all,
            config.answers_kept_s,
            clock=answers_clock,
            store=self._answer_file,
            restored=self._answer_file.restored() if self._answer_file is not None else (),
            observer=self.metrics,
        )
        self._config = config
        self._clock = clock
        self.backends: Backends = BackendRegistry(self._backend(served))
        limits = Limits(config.limits(), clock)
        self._credential_store = credential_store_of(config, wall_clock)
        tls = tls_of(config)
        asks_devices = tls is not None and tls.client_ca is not None
        self.cell = Cell(
            self.backends,
            config.cell(),
            clock=clock,
            observer=self.metrics,
            answers=self.answers,
            access=self._credential_store if asks_devices else None,
            limits=limits,
        )
        self._rollout = Rollout(
            self.backends, self.cell, keep_s=config.old_model_s, clock=clock, on_change=self._describe
        )
        self._describe()
        self.metrics.watch(
            ready=lambda: self.engine.ready,
            draining=lambda: self.engine.draining,
            waiting=lambda: sum(backend.engine.waiting for backend in self.backends),
            running=lambda: sum(backend.engine.running for backend in self.backends),
            queue_capacity=config.max_queue,
            max_sessions=config.max_sessions,
        )
        self._grpc = GrpcServer(
            TokenLinkService(
                self.cell,
                self.backends,
                self.metrics,
                version=release,
                wall_clock=wall_clock,
                identify=peer_of_certificate if asks_devices else None,
                tracing=tracing,
            ),
            max_message_bytes=config.max_grpc_message_bytes,
            max_calls=config.max_grpc_calls,
            max_streams=config.max_grpc_streams,
            receive_s=config.receive_s,
            refused=self.metrics.rejected,
            tls=tls,
        )
        self._enrolment = enrolment_door_of(config, self.metrics, clock, wall_clock)
        asker = Asker(self.backends, self.metrics, tracing)
        if gate is None and self._credential_store is not None:
            gate = KeyGate(self._credential_store, limits)
        self._page = None if builder is None else builder.build(asker, self.cell, gate or OpenGate())
        self._to_close = contextlib.AsyncExitStack()
        self.rest_app = build_app(
            asker,
            self.metrics,
            max_body_bytes=config.max_rest_body_bytes,
            receive_s=config.receive_s,
            limits=limits,
            keys=self._credential_store,
            metrics_open=config.metrics_open,
            version=release,
            wall_clock=wall_clock,
            new_id=lambda: secrets.token_hex(12),
            page=self._page,
        )
        self._rest = RestServer(
            uvicorn.Config(
                self.rest_app,
                log_config=None,
                # At INFO it logs the page's WebSockets with the ids that open them, which are secrets.
                log_level=logging.WARNING,
                access_log=False,
                lifespan="off",
                server_header=False,
                http=bounded_protocol(config.receive_s, self.metrics.rejected),
                ssl_certfile=config.tls_cert if rest_speaks_tls(config) else None,
                ssl_keyfile=config.tls_key if rest_speaks_tls(config) else None,
            ),
            handshake_s=config.receive_s,
            tls=TlsFiles(tls.certificate, tls.key) if tls is not None and rest_speaks_tls(config) else None,
        )
        self._rest_task: asyncio.Task[None] | None = None

    @property
    def engine(self) -> Engine[StateT]:
        """Of the current model."""
        return self.backends.current.engine

    async def start(self) -> Addresses:
        """Open both doors.

        Raises:
            ConfigurationError: an address cannot be bound.
        """
        config = self._config
        sock = listen(config.host, config.rest_port)
        enrol_port = None
        try:
            await self.engine.start()
            if self._enrolment is not None and config.enrol_port is not None:
                enrol_port = await self._enrolment.start(config.host, config.enrol_port)
            if self._page is not None:
                self._rest.config.load()  # the page looks for its server among those that have loaded theirs
                await self._to_close.enter_async_context(self._page.running())
            grpc_port = await self._grpc.start(config.host, config.grpc_port)
        except BaseException:
            sock.close()
            if self._enrolment is not None and enrol_port is not None:
                await self._enrolment.stop(0.0)
            await self.engine.stop()
            await self._close_answers()
            await self._to_close.aclose()
            raise
        self._rest_task = asyncio.create_task(self._rest.serve(sockets=[sock]), name="tokenlink-rest")
        while not self._rest.started and not self._rest_task.done():
            await asyncio.sleep(0.005)
        return Addresses(
            config.host,
            grpc_port,
            sock.getsockname()[1],
            enrol_port,
            "https" if rest_speaks_tls(config) else "http",
        )

    async def drain(self) -> None:
        """Accept nothing new; return when everything that was accepted has ended."""
        await self._grpc.announce_draining()
        await self._rollout.drain()

    async def replace(self, served: Served[Any]) -> None:
        """Serve another model, beside the present one for as long as devices run its bundle.

        Raises:
            CanaryError: it does not answer what it must; what is served stays.
        """
        await self._rollout.replace(self._backend(served), served.canaries)

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
        if self._credential_store is not None:
            self._credential_store.close()
        await self._to_close.aclose()

    async def _close_answers(self) -> None:
        answer_file, self._answer_file = self._answer_file, None
        if answer_file is not None:
            await asyncio.to_thread(answer_file.close)

    def _describe(self) -> None:
        self.metrics.describe(
            [(backend.engine.model.name, backend.bundle_hashes) for backend in self.backends]
        )

    def _backend(self, served: Served[StateT]) -> EngineBackend[StateT]:
        return EngineBackend(
            engine=Engine(
                served.model,
                self._config.engine(),
                runner_of=served.runner_of,
                clock=self._clock,
                observer=self.metrics,
            ),
            ingest=served.ingest,
            shape=served.shape,
            token_lengths=served.token_lengths,
            bundles=served.bundles,
            digest=served.digest,
            close=served.close,
        )
