"""The composition root: an engine for each model that is served, and the doors that open on them.

              ┌─ gRPC ─▶ cell ─┐
    Server ───┤                ├─▶ Engine ─▶ Model
              └─ REST ─▶ ingest┘      and a page for browsers, where that is installed

On SIGTERM or SIGINT: health says NOT_SERVING, nothing new is accepted, accepted questions are answered,
the process exits with 0. A second signal does not wait for the answers.

On SIGHUP the model folder is read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Generic

import uvicorn

from device_agent.errors import DeviceAgentError
from device_agent.tracing import exporting_tracer
from edge_server.access.identity import peer_of_certificate
from edge_server.cell import AnswerFile, Cell, KeptAnswers, Limits, Lineup
from edge_server.config import ServerConfig
from edge_server.doors import doorkeeper_of, enrolment_door_of, rest_speaks_tls, tls_of
from edge_server.engine import Engine, Model
from edge_server.engine.model import StateT
from edge_server.errors import ConfigurationError
from edge_server.exposure import check_exposure
from edge_server.frontdoor.asking import Asker
from edge_server.frontdoor.backend import Backends, EngineBackend
from edge_server.frontdoor.grpc_server import GrpcServer
from edge_server.frontdoor.grpc_service import TokenLinkService
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.ports import BundleArchive, Ingest, LinkShape
from edge_server.frontdoor.rest import build_app
from edge_server.frontdoor.slow_connections import bounded_protocol
from edge_server.frontdoor.tracing import NotTraced, Traced, Tracing
from edge_server.rollout import Rollout
from edge_server.ui.extra import page_is_served
from edge_server.ui.gate import Gate, KeyGate, OpenGate

logger = logging.getLogger(__name__)

_GRACE_S = 2.0


@dataclass(frozen=True)
class Served(Generic[StateT]):
    """What a server serves.

    Attributes:
        model: answers.
        ingest: makes media of REST requests ready.
        shape: token blocks that the model takes.
        token_lengths: that it was trained for.
        bundles: given to devices that ask for one; the model answers for them all, and its own is first.
        close: frees what it holds beside its memory.
    """

    model: Model[StateT]
    ingest: Ingest
    shape: LinkShape
    token_lengths: tuple[int, ...]
    bundles: tuple[BundleArchive, ...] = ()
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Addresses:
    """Where the doors are open."""

    host: str
    grpc_port: int
    rest_port: int
    enrol_port: int | None = None
    rest_scheme: str = "http"

    @property
    def grpc(self) -> str:
        """Target of a gRPC channel."""
        return _at(self.host, self.grpc_port)

    @property
    def rest(self) -> str:
        """Base URL of the REST door."""
        return f"{self.rest_scheme}://{_at(self.host, self.rest_port)}"

    @property
    def enrol(self) -> str | None:
        """Target of a gRPC channel for enrolment, where that is open."""
        return None if self.enrol_port is None else _at(self.host, self.enrol_port)


class Server(Generic[StateT]):
    """Engines with their two doors, on the running event loop; a third where devices can enrol.

    Args:
        config: settings.
        served: what to serve.
        clock: monotonic seconds.
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
        clock: Callable[[], float] = time.monotonic,
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
            from edge_server.front_page import PageBuilder

            builder = PageBuilder(config, release, clock)
        self.metrics = (
            Metrics(version=release, outage_snr_db=config.outage_snr_db)
            if builder is None
            else builder.metrics
        )
        self._answer_file = (
            AnswerFile(config.answers, self.metrics.answers_not_written)
            if config.answers is not None
            else None
        )
        self.answers = KeptAnswers(
            config.answers_kept,
            config.answers_kept_in_all,
            config.answers_kept_s,
            store=self._answer_file,
            restored=self._answer_file.restored() if self._answer_file is not None else (),
            observer=self.metrics,
        )
        self._config = config
        self._clock = clock
        self.backends: Backends = Lineup(self._backend(served))
        limits = Limits(config.limits(), clock)
        self._doorkeeper = doorkeeper_of(config, wall_clock)
        tls = tls_of(config)
        asks_devices = tls is not None and tls.client_ca is not None
        self.cell = Cell(
            self.backends,
            config.cell(),
            clock=clock,
            observer=self.metrics,
            answers=self.answers,
            access=self._doorkeeper if asks_devices else None,
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
        if gate is None and self._doorkeeper is not None:
            gate = KeyGate(self._doorkeeper, limits)
        self._page = None if builder is None else builder.build(asker, self.cell, gate or OpenGate())
        self._to_close = contextlib.AsyncExitStack()
        self.rest_app = build_app(
            asker,
            self.metrics,
            max_body_bytes=config.max_rest_body_bytes,
            receive_s=config.receive_s,
            limits=limits,
            keys=self._doorkeeper,
            metrics_open=config.metrics_open,
            version=release,
            wall_clock=wall_clock,
            new_id=lambda: secrets.token_hex(12),
            page=self._page,
        )
        self._rest = _Uvicorn(
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
        sock = _listen(config.host, config.rest_port)
        try:
            await self.engine.start()
            enrol_port = None
            if self._enrolment is not None and config.enrol_port is not None:
                enrol_port = await self._enrolment.start(config.host, config.enrol_port)
            if self._page is not None:
                self._rest.config.load()  # the page looks for its server among those that have loaded theirs
                await self._to_close.enter_async_context(self._page.running())
            grpc_port = await self._grpc.start(config.host, config.grpc_port)
        except BaseException:
            sock.close()
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
        """Serve another model, beside the present one for as long as devices run its bundle."""
        await self._rollout.replace(self._backend(served))

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
        if self._doorkeeper is not None:
            self._doorkeeper.close()
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
            engine=Engine(served.model, self._config.engine(), clock=self._clock, observer=self.metrics),
            ingest=served.ingest,
            shape=served.shape,
            token_lengths=served.token_lengths,
            bundles=served.bundles,
            close=served.close,
        )


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to :func:`serve`, and gives TLS handshakes a deadline.

    Args:
        config: uvicorn's.
        handshake_s: time for a handshake [s].
    """

    def __init__(self, config: uvicorn.Config, *, handshake_s: float) -> None:
        super().__init__(config)
        self._handshake_s = handshake_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets that were passed."""
        config = self.config
        protocol: Any = config.http_protocol_class
        self.servers = [
            await asyncio.get_running_loop().create_server(
                lambda: protocol(config=config, server_state=self.server_state, app_state={}),
                sock=sock,
                ssl=config.ssl,
                ssl_handshake_timeout=self._handshake_s if config.ssl is not None else None,
                backlog=config.backlog,
            )
            for sock in sockets or []
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    config: ServerConfig,
    served: Served[Any],
    reload: Callable[[], Served[Any]] | None = None,
    tracing: Tracing | None = None,
    gate: Gate | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        config: settings.
        served: what to serve first.
        reload: loads what to serve from now on, after a SIGHUP. Called in a thread.
        tracing: begins spans; None: there are none.
        gate: who may look at the page; None: whoever the REST doors let in.

    Raises:
        ConfigurationError: an address cannot be bound.
    """
    asked_to_end, asked_again = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (asked_again if asked_to_end.is_set() else asked_to_end).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    server: Server[Any] = Server(
        config, served, tracing=tracing, with_page=page_is_served(config.ui), gate=gate
    )
    addresses = await server.start()
    reloading = asyncio.create_task(_reload(server, reload)) if reload is not None else None
    try:
        _announce(config, served, addresses)
        await asked_to_end.wait()
        logger.info("draining", extra={"unanswered": server.engine.unanswered})
        draining = asyncio.create_task(server.drain())
        hurrying = asyncio.create_task(asked_again.wait())
        await asyncio.wait({draining, hurrying}, timeout=config.drain_s, return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, hurrying):
            task.cancel()
    finally:
        if reloading is not None:
            loop.remove_signal_handler(signal.SIGHUP)
            reloading.cancel()
            await asyncio.wait({reloading})
        await server.stop()
        if config.ready_file is not None:
            config.ready_file.unlink(missing_ok=True)
    logger.info("stopped")


async def _reload(server: Server[Any], load: Callable[[], Served[Any]]) -> None:
    """Serve what the model folder holds at every SIGHUP; what cannot be loaded changes nothing."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    while True:
        await asked.wait()
        asked.clear()
        try:
            served = await asyncio.to_thread(load)
        except Exception as error:
            # Whatever it is, it is no reason to stop answering.
            logger.error("the model was not reloaded; the one that is served stays: %s", error)
            continue
        if served.model.bundle_hash == server.engine.model.bundle_hash:
            logger.info("the model's bundle is the one that is served; nothing changes")
            served.close()
            continue
        await server.replace(served)


def _announce(config: ServerConfig, served: Served[Any], addresses: Addresses) -> None:
    facts = {
        "grpc": addresses.grpc,
        "rest": addresses.rest,
        "grpc_port": addresses.grpc_port,
        "rest_port": addresses.rest_port,
        "model_name": served.model.name,
        "bundle_hash": served.model.bundle_hash,
        "enrol": addresses.enrol,
        "pid": os.getpid(),
    }
    logger.info("serving", extra=facts)
    if config.ready_file is not None:
        # Renamed into place: whoever waits for the file never reads half of it.
        draft = config.ready_file.with_name(f".{config.ready_file.name}.{os.getpid()}")
        draft.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        draft.replace(config.ready_file)


def run(config: ServerConfig) -> None:
    """Load what the settings name and serve it; returns when the server has drained.

    Raises:
        ConfigurationError: a setting names what is not there.
    """
    from edge_server.loading import load_served

    served = load_served(config)
    # What is loaded by now stays: the collector need not go through all of it while answers wait.
    gc.collect()
    gc.freeze()
    try:
        import uvloop
    except ImportError:
        loop_factory = None
    else:
        loop_factory = uvloop.new_event_loop
    with (
        contextlib.closing(served),
        _tracing(config) as tracing,
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        runner.run(serve(config, served, lambda: load_served(config), tracing))


@contextlib.contextmanager
def _tracing(config: ServerConfig) -> Iterator[Tracing]:
    """Spans to where the settings say.

    Raises:
        ConfigurationError: it is switched on and not installed.
    """
    if not config.tracing_endpoint:
        yield NotTraced()
        return
    try:
        with exporting_tracer(config.tracing_endpoint, "edge-server") as tracer:
            yield Traced(tracer)
    except DeviceAgentError as error:
        raise ConfigurationError(str(error)) from error


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, or asyncio would not know that it is TCP, and answers would wait 40 ms for acknowledgements.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigurationError(
            f"rest_port: cannot listen on {_at(host, port)}: {error.strerror}"
        ) from error
    return sock


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
