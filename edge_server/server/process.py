"""The server as a process: it serves until a signal tells it to end, and says where.

On SIGTERM or SIGINT: health says NOT_SERVING, nothing new is accepted, accepted questions are answered,
the process exits with 0. A second signal does not wait for the answers.

On SIGHUP the model folder is read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from device_agent.errors import DeviceAgentError
from device_agent.tracing import exporting_tracer
from device_agent.uplink.address import DEFAULT_PORT
from edge_server.errors import ConfigurationError, EdgeServerError
from edge_server.frontdoor.backend import EngineBackend, Served
from edge_server.frontdoor.tracing import NotTraced, Traced, Tracing
from edge_server.server.addresses import Addresses
from edge_server.server.app import Server
from edge_server.server.beside import each_model
from edge_server.server.config import ServerConfig
from edge_server.server.front_doors import Place
from edge_server.server.logs import IN_WORDS
from edge_server.server.ready import write_ready
from edge_server.server.telling import ModelIdentity
from edge_server.ui.extra import page_is_served
from edge_server.ui.gate import Gate

logger = logging.getLogger(__name__)


class Reload(Protocol):
    """Loads a model; :class:`edge_server.server.loading.Loading` is one."""

    def __call__(self) -> Served:
        """Load it."""

    def call_off(self) -> None:
        """A load in another thread fails soon."""


async def serve(
    config: ServerConfig,
    served: Served,
    reload: Reload | None = None,
    tracing: Tracing | None = None,
    gate: Gate | None = None,
    place: Place | None = None,
    beside: Sequence[tuple[Served, Reload]] = (),
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        config: settings.
        served: what to serve first.
        reload: loads what to serve from now on, after a SIGHUP. Called in a thread, and called off at the
            end.
        tracing: begins spans; None: there are none.
        gate: who may look at the page; None: whoever the REST doors let in.
        place: which of several front doors this is; None: it is the only one.
        beside: other models that are served, each with what loads it anew.

    Raises:
        ConfigurationError: an address cannot be bound.
    """
    asked_to_end, asked_again = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (asked_again if asked_to_end.is_set() else asked_to_end).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    server: Server = Server(
        config,
        served,
        beside=[each for each, _ in beside],
        tracing=tracing,
        with_page=page_is_served(config.page.ui),
        gate=gate,
        place=place,
    )
    addresses = await server.start()
    loads = [] if reload is None else [reload, *(each for _, each in beside)]
    reloading = None
    try:
        _announce(config, server, addresses)
        if loads:
            reloading = asyncio.create_task(_reload(server, loads, config, addresses))
        await asked_to_end.wait()
        logger.info("draining", extra={"unanswered": server.engine.status.unanswered})
        draining = asyncio.create_task(server.drain())
        hurrying = asyncio.create_task(asked_again.wait())
        await asyncio.wait(
            {draining, hurrying}, timeout=config.server.drain_s, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (draining, hurrying):
            task.cancel()
    finally:
        if reloading is not None:
            loop.remove_signal_handler(signal.SIGHUP)
            reloading.cancel()
            await asyncio.wait({reloading})
            # Its thread may hang in a load, and the end of the event loop waits for it.
            for load in loads:
                load.call_off()
        await server.stop()
        if config.server.ready_file is not None:
            config.server.ready_file.unlink(missing_ok=True)
    logger.info("stopped")


async def _reload(
    server: Server, loads: Sequence[Reload], config: ServerConfig, addresses: Addresses
) -> None:
    """Serve what the model folders hold at every SIGHUP; what cannot be loaded changes nothing."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    while True:
        await asked.wait()
        asked.clear()
        for load, present in zip(loads, server.backends.newest, strict=True):
            await _reload_one(server, load, present)
        if config.server.ready_file is not None:
            write_ready(config.server.ready_file, _facts(server, addresses))


async def _reload_one(server: Server, load: Reload, present: EngineBackend) -> None:
    """Serve what a model's folder holds in the place of what is served of it."""
    try:
        served = await asyncio.to_thread(load)
    except Exception as error:
        # Whatever it is, it is no reason to stop answering.
        logger.error("the model was not reloaded; the one that is served stays: %s", error)
        return
    if (served.model.bundle_hash, served.digest) == (present.model.bundle_hash, present.served.digest):
        logger.info("the model is the one that is served; nothing changes")
        await asyncio.to_thread(served.close)
        return
    try:
        await server.replace(served, present)
    except EdgeServerError as error:
        logger.error("the model was not promoted; the one that is served stays: %s", error)


def _facts(server: Server, addresses: Addresses) -> dict[str, Any]:
    """What a server says of itself."""
    first, *beside = (_facts_of(backend.served) for backend in server.backends.newest)
    return {
        "grpc": addresses.grpc,
        "rest": addresses.rest,
        "own_rest": addresses.own_rest,
        "grpc_port": addresses.grpc_port,
        "rest_port": addresses.rest_port,
        **first,
        "beside": beside,
        "enrol": addresses.enrol,
        "pid": os.getpid(),
    }


def _facts_of(served: Served) -> dict[str, str]:
    model = served.model
    return {"model_name": model.name, "bundle_hash": model.bundle_hash, "digest": served.digest}


def _announce(config: ServerConfig, server: Server, addresses: Addresses) -> None:
    facts = _facts(server, addresses)
    names = " and ".join(backend.model.name for backend in server.backends.newest)
    in_words = (
        f"serving {names}: page and REST at {addresses.rest}, gRPC at {addresses.grpc}"
        + (f", enrolment at {addresses.enrol}" if addresses.enrol is not None else "")
        + ("" if addresses.grpc_port == DEFAULT_PORT else f" (device-agent ask --server {addresses.grpc})")
        + "; Ctrl-C ends it"
    )
    logger.info("serving", extra={**facts, IN_WORDS: in_words})
    if config.server.ready_file is not None:
        write_ready(config.server.ready_file, facts)


def run(config: ServerConfig, place: Place | None = None, meant: ModelIdentity | None = None) -> None:
    """Load what the settings name and serve it; returns when the server has drained.

    Args:
        config: settings.
        place: which of several front doors this is; None: it is the only one.
        meant: the model that it has to be, as others beside this one serve it; None: any.

    Raises:
        ConfigurationError: a setting names what is not there, or not what is meant.
    """
    from edge_server.server.loading import Loading

    with contextlib.ExitStack() as held:
        loads, models = list[Reload](), list[Served]()
        for each in each_model(config):
            logger.info("loading", extra={"model": str(each.runtime.model)})
            loads.append(Loading(each))
            models.append(held.enter_context(contextlib.closing(loads[-1]())))
        first = models[0]
        if meant is not None and meant != (first.model.bundle_hash, first.digest):
            raise ConfigurationError(
                f"model: the folder {config.runtime.model} holds {first.model.bundle_hash} ({first.digest}) "
                f"by now, and the others serve {meant[0]} ({meant[1]}); SIGHUP has all of them take up what "
                "is there"
            )
        # What is loaded by now stays: the collector need not go through all of it while answers wait.
        gc.collect()
        gc.freeze()
        tracing = held.enter_context(_tracing(config))
        runner = held.enter_context(asyncio.Runner(loop_factory=_loop_factory()))
        beside = list(zip(models[1:], loads[1:], strict=True))
        runner.run(serve(config, first, loads[0], tracing, place=place, beside=beside))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Of the faster event loop where that is installed; None: the usual one."""
    try:
        import uvloop
    except ImportError:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


@contextlib.contextmanager
def _tracing(config: ServerConfig) -> Iterator[Tracing]:
    """Spans to where the settings say.

    Raises:
        ConfigurationError: it is switched on and not installed.
    """
    if not config.server.tracing_endpoint:
        yield NotTraced()
        return
    try:
        role = {"tokenlink.role": config.cluster.role} if config.cluster.on else {}
        with exporting_tracer(config.server.tracing_endpoint, "edge-server", **role) as tracer:
            yield Traced(tracer)
    except DeviceAgentError as error:
        raise ConfigurationError(str(error)) from error
