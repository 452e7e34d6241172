"""Builds the parts of a server, one function a part, each from the settings that it needs.

Called by :class:`edge_server.server.app.Server`, which holds them together and starts and stops them.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from device_agent.lasting import LastingClock
from edge_server.access.credential_store import CredentialStore
from edge_server.access.identity import peer_of_certificate
from edge_server.cell import Allocator, AnswerFile, Cell, KeptAnswers, Limits
from edge_server.cell.answers import AnswerStore
from edge_server.cell.elsewhere import Elsewhere
from edge_server.cell.shared_accounts import SharedAccounts
from edge_server.engine.observer import EngineObserver
from edge_server.engine.registry import EngineParts, build_engine
from edge_server.errors import ConfigurationError
from edge_server.frontdoor.backend import Backends, EngineBackend, Served
from edge_server.frontdoor.grpc.call_gate import Callers, CallGate
from edge_server.frontdoor.grpc.downloads import Downloads
from edge_server.frontdoor.grpc.rounds import RoundsDesk
from edge_server.frontdoor.grpc.server import GrpcServer
from edge_server.frontdoor.grpc.service import TokenLinkService
from edge_server.frontdoor.grpc.sharing import Sharing
from edge_server.frontdoor.http.asking import Asker, RestQuestion
from edge_server.frontdoor.http.hosts import LOOPBACK_HOSTS
from edge_server.frontdoor.http.openai_question import ChatRules
from edge_server.frontdoor.http.probes import ProbesOnly
from edge_server.frontdoor.http.rest import build_app
from edge_server.frontdoor.http.slow_connections import (
    MAX_WEBSOCKET_BYTES,
    bounded_protocol,
    bounded_websocket,
)
from edge_server.frontdoor.http.unread import Connections
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.ports import Page
from edge_server.frontdoor.scenes import SceneDesk
from edge_server.frontdoor.tls import TlsFiles
from edge_server.frontdoor.tracing import Traced, Tracing
from edge_server.scenes import (
    MemoryScenes,
    Readers,
    Scene,
    SceneBounds,
    Scenes,
    SceneStore,
    SqliteScenes,
)
from edge_server.scenes.delivery import Courier
from edge_server.scenes.rule_file import RuleFile
from edge_server.scenes.standing import AskScene, StandingQuestions
from edge_server.server.bounds import Bounds
from edge_server.server.config import ServerConfig
from edge_server.server.exposure import is_loopback
from edge_server.server.front_doors import SCENES_IN_MEMORY_BYTES, Place
from edge_server.server.rest_server import RestServer
from edge_server.server.security import rest_speaks_tls
from edge_server.server.shared_access import SharedAccess
from edge_server.server.shared_cell import SharedCell
from edge_server.server.shared_scenes import SharedScenes

if TYPE_CHECKING:
    from edge_server.cluster.connection import Connection

_RULES = "standing questions"
"""Whom they count for."""


@dataclass(frozen=True)
class Surroundings:
    """What every part of a server may ask for.

    Attributes:
        release: version of the server.
        clock: monotonic seconds.
        wall_clock: seconds since the Unix epoch.
        tracing: begins spans; None: there are none.
    """

    release: str
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    tracing: Tracing | None


@dataclass(frozen=True)
class Security:
    """Who may come in.

    Attributes:
        tls: files of the gRPC door; None: it speaks plainly.
        credentials: knows which are good; None: none are asked for.
        limits: on what each peer may ask.
        bounds: on what is held for everybody.
    """

    tls: TlsFiles | None
    credentials: CredentialStore | None
    limits: Limits
    bounds: Bounds

    @property
    def asks_devices(self) -> bool:
        """Whether devices have to show a certificate."""
        return self.tls is not None and self.tls.client_ca is not None

    @property
    def callers(self) -> Callers:
        """Who makes a call over gRPC."""
        return Callers(peer_of_certificate if self.asks_devices else None)


def build_connection(config: ServerConfig) -> Connection | None:
    """The connection to the cluster; None: this server is all there is.

    Raises:
        ConfigurationError: what it needs is not installed.
    """
    if not config.cluster.on:
        return None
    try:
        from edge_server.cluster.connection import Connection
    except ImportError as error:
        raise ConfigurationError(
            f"cluster: needs {error.name or error}, which is not installed; pip install '.[cluster]'"
        ) from error
    return Connection(
        config.cluster, kept_s=config.cell.answers_kept_s, window_s=config.engine.max_deadline_s
    )


def build_backend(
    config: ServerConfig,
    served: Served,
    around: Surroundings,
    observer: EngineObserver,
    connection: Connection | None = None,
) -> EngineBackend:
    """What is served, behind the engine that the settings name, or those of the cluster.

    Raises:
        ConfigurationError: there is no such engine.
    """
    calibration, below = served.calibration, config.engine.abstain_below
    if calibration is not None and below is not None:
        # Set by hand, it is all that counts.
        calibration = replace(calibration, threshold=below, doubt=1.0)
    parts = EngineParts(served.model, config.engine, served.runner_of, around.clock, observer, calibration)
    if connection is None:
        return EngineBackend(served, build_engine(config.engine.kind, parts))
    from edge_server.cluster.roles import build_role

    tracing = around.tracing if isinstance(around.tracing, Traced) else None
    return EngineBackend(
        served, build_role(parts, config.engine.kind, connection, served.digest, around.wall_clock, tracing)
    )


def build_shared_access(
    config: ServerConfig, connection: Connection | None, place: Place | None
) -> SharedAccess | None:
    """What keeps the access files of a cluster's doors the same; None: this process has no part in it."""
    access, first = config.security.access, place is None or place.number == 0
    if access is None or connection is None or config.cluster.computes_only or not first:
        return None
    from edge_server.cluster.shared_records import SharedRecords
    from edge_server.cluster.subjects import ACCESS

    return SharedAccess(access, SharedRecords(connection, ACCESS, from_cluster=True))


def build_shared_scenes(
    config: ServerConfig, connection: Connection | None, desk: SceneDesk, place: Place | None
) -> SharedScenes | None:
    """What keeps the scenes of a cluster's doors the same; None: this process has no part in it."""
    # Doors of one machine have one file.
    first = place is None or place.number == 0
    most = config.cluster.told_scenes_bytes
    if connection is None or config.cluster.computes_only or not first or not most:
        return None
    from edge_server.cluster.shared_records import SharedRecords
    from edge_server.cluster.subjects import SCENES

    ttl_s = config.scenes.scenes_kept_s
    kept = SharedRecords(connection, SCENES, ttl_s=ttl_s, max_bytes=most, names_only=True)
    return SharedScenes(desk.scenes, kept, thumbnails=desk.thumbnails)


def build_answers(
    config: ServerConfig,
    metrics: Metrics,
    wall_clock: Callable[[], float],
    connection: Connection | None = None,
) -> tuple[KeptAnswers, AnswerFile | None]:
    """Answers that wait to be acknowledged, and the file that they are in, where there is one.

    Raises:
        ConfigurationError: the file cannot be opened.
    """
    clock = LastingClock(wall_clock=wall_clock)
    file = (
        AnswerFile(config.cell.answers, metrics.answers_not_written, timekeeper=clock)
        if config.cell.answers is not None
        else None
    )
    store: AnswerStore | None = file
    if file is None and connection is not None:
        from edge_server.cluster.claims import Claims
        from edge_server.cluster.kept_answers import ClusterAnswers

        store = ClusterAnswers(Claims(connection, wall_clock))
    kept = KeptAnswers(
        config.cell.answers_kept,
        config.cell.answers_kept_in_all,
        config.cell.answers_kept_s,
        clock=clock,
        store=store,
        restored=file.restored() if file is not None else (),
        observer=metrics,
    )
    return kept, file


def build_limits(config: ServerConfig, clock: Callable[[], float], place: Place | None) -> Limits:
    """What each peer may ask, counted here or together with the other doors of this machine.

    Raises:
        ConfigurationError: they have no table to count in.
    """
    if place is None:
        return Limits(config.limits, clock)
    try:
        accounts = SharedAccounts(place.accounts, place.number, config.limits.rates, clock)
    except OSError as error:
        raise ConfigurationError(
            f"front_doors: the accounts in {place.accounts} cannot be opened: {error.strerror or error}"
        ) from error
    return Limits(config.limits, clock, accounts)


def build_desk(
    config: ServerConfig, backends: Backends, metrics: Metrics, security: Security, around: Surroundings
) -> tuple[SceneDesk, SceneStore]:
    """What keeps and shows scenes, and where they are kept.

    Raises:
        ConfigurationError: the file cannot be opened.
    """
    kept = config.scenes
    in_file = kept.file is not None
    bounds = SceneBounds(
        per_device=kept.scenes_of_one,
        in_all=kept.scenes_in_all,
        max_bytes=kept.scenes_bytes if in_file else min(kept.scenes_bytes, SCENES_IN_MEMORY_BYTES),
    )
    store: SceneStore = MemoryScenes(bounds) if kept.file is None else SqliteScenes(kept.file, bounds)
    scenes = Scenes(
        store,
        ttl_s=kept.scenes_kept_s,
        stale_s=kept.scene_stale_s,
        wall_clock=around.wall_clock,
        clock=around.clock,
        observer=metrics,
    )
    readers: Readers = security.credentials if security.credentials is not None else _Readers(security)
    return SceneDesk(scenes, readers, backends, thumbnails=kept.thumbnails), store


def build_standing(desk: SceneDesk, store: SceneStore, asker: Asker) -> StandingQuestions | None:
    """What asks standing questions of new scenes; None: scenes are in no file, and rules neither."""
    if not isinstance(store, SqliteScenes):
        return None

    def about(scene: Scene) -> AskScene:
        # Read once, on the event loop, however many rules ask about it.
        shown = cache(lambda: desk.all_of(scene))

        async def ask(question: str) -> str:
            asked = await asker.ask(RestQuestion(question, user=_RULES, priority="background", shown=shown()))
            try:
                completion = await asked.stream.completion()
            finally:
                asked.cancel()
            return "" if completion.abstained else completion.text

        return ask

    rules = RuleFile(store)
    courier = Courier(lambda url: desk.scenes.call(lambda _: rules.shown(url)))
    return StandingQuestions(desk.scenes, rules, about, courier)


@dataclass(frozen=True)
class _Readers:
    """Without an access file: a device sees its own; where nobody shows who they are, all see all.

    Attributes:
        security: whether devices show who they are.
    """

    security: Security

    def readable(self, name: str | None) -> tuple[str, ...] | None:
        """As the port says."""
        if not self.security.asks_devices:
            return None
        return () if name is None or "*" in name else (name, f"{name}/*")


def build_cell(
    config: ServerConfig,
    backends: Backends,
    answers: KeptAnswers,
    metrics: Metrics,
    security: Security,
    clock: Callable[[], float],
    allocator: Allocator | None = None,
) -> Cell[EngineBackend]:
    """Sessions, grants and admission."""
    return Cell(
        backends,
        config.cell,
        clock=clock,
        observer=metrics,
        answers=answers,
        access=security.credentials if security.asks_devices else None,
        limits=security.limits,
        allocator=allocator,
    )


def build_shared_cell(config: ServerConfig, connection: Connection | None) -> SharedCell | None:
    """The other doors of this cell, of which one shares it out; None: there are none, or nothing to share."""
    if connection is None or config.cell.allocation == "none" or config.cluster.computes_only:
        return None
    from edge_server.cluster.cell_talk import CellTalk

    return SharedCell(CellTalk(connection))


def build_allocator(
    config: ServerConfig,
    backends: Backends,
    metrics: Metrics,
    clock: Callable[[], float],
    elsewhere: Elsewhere | None = None,
) -> Allocator | None:
    """What shares the cell out among its devices; None: all are granted the same.

    Raises:
        ConfigurationError: it would not know what loss to expect of the model.
    """
    if config.cell.allocation == "none":
        return None
    known = backends.current.served.loss
    if not known:
        raise ConfigurationError(
            f"allocation: is {config.cell.allocation!r}, and the loss of the model in {config.runtime.model} "
            "over SNR and token length was not measured; `edge-server evaluate MODEL --loss-surface` does"
        )
    return Allocator(
        config.cell,
        backends.of,
        # A model that takes over without a measurement is taken to be like the first.
        lambda: backends.current.served.loss or known,
        observer=metrics,
        clock=clock,
        elsewhere=elsewhere,
    )


def build_call_gate(cell: Cell[EngineBackend], metrics: Metrics, security: Security) -> CallGate:
    """What stands before every call over gRPC."""
    return CallGate(security.callers, cell, security.bounds.calls, metrics.rejected)


def build_grpc_door(
    config: ServerConfig,
    cell: Cell[EngineBackend],
    backends: Backends,
    metrics: Metrics,
    security: Security,
    gate: CallGate,
    around: Surroundings,
    desk: SceneDesk,
    *,
    shares_port: bool = False,
) -> GrpcServer:
    """The gRPC door: devices."""
    bounds, receive_s = security.bounds, config.server.receive_s
    service = TokenLinkService(
        cell,
        backends,
        metrics,
        version=around.release,
        wall_clock=around.wall_clock,
        callers=security.callers,
        downloads=Downloads(bounds.downloads, bounds.held_bytes, receive_s, metrics.rejected),
        held=bounds.held_bytes,
        sharing=Sharing(cell, desk, backends, metrics),
        rounds=RoundsDesk(cell, backends, metrics, config.engine),
        tracing=around.tracing,
    )
    return GrpcServer(
        service,
        gate,
        max_message_bytes=config.grpc.max_message_bytes,
        max_calls=config.grpc.max_calls,
        max_streams=config.grpc.max_streams,
        receive_s=receive_s,
        refused=metrics.rejected,
        tls=security.tls,
        shares_port=shares_port,
    )


def build_rest_app(
    config: ServerConfig,
    asker: Asker,
    metrics: Metrics,
    security: Security,
    around: Surroundings,
    page: Page | None,
) -> FastAPI:
    """What the HTTP door serves: REST, the OpenAI-compatible API, probes, and the page where there is one."""
    return build_app(
        asker,
        metrics,
        max_body_bytes=config.rest.max_body_bytes,
        receive_s=config.server.receive_s,
        limits=security.limits,
        held=security.bounds.held_bytes,
        uploads=security.bounds.uploads,
        max_upload_bytes=config.rest.max_upload_bytes,
        upload_folder=config.rest.upload_folder,
        max_windows=config.rest.max_windows,
        keys=security.credentials,
        metrics_open=config.rest.metrics_open,
        version=around.release,
        wall_clock=around.wall_clock,
        new_id=lambda: secrets.token_hex(12),
        chat=ChatRules(
            max_new_tokens=config.engine.max_new_tokens,
            max_choices=config.rest.max_choices,
            max_windows=config.rest.max_windows,
            leave_out_oldest=config.rest.leave_out_oldest,
        ),
        cors_origins=config.rest.cors_origins,
        hosts=_hosts(config),
        # A proxy may call this door by another name than browsers call the proxy.
        checks_origin=not config.rest.behind_proxy,
        page=page,
    )


def _hosts(config: ServerConfig) -> frozenset[str] | None:
    """By which names the HTTP door may be called; None: any."""
    if config.rest.allowed_hosts:
        return frozenset(host.lower() for host in config.rest.allowed_hosts)
    if is_loopback(config.server.host) and not config.rest.behind_proxy:
        return LOOPBACK_HOSTS | {config.server.host}
    return None


def build_rest_door(
    config: ServerConfig, app: FastAPI, security: Security, refused: Callable[[str], None]
) -> RestServer:
    """The HTTP door: programs and browsers."""
    tls, bounds = security.tls, security.bounds
    connections = Connections(bounds.connections, bounds.held_bytes, config.server.receive_s, refused)
    speaks_tls = rest_speaks_tls(config)
    return RestServer(
        uvicorn.Config(
            ProbesOnly(app) if config.cluster.computes_only else app,
            log_config=None,
            # At INFO it logs the page's WebSockets with the ids that open them, which are secrets.
            log_level=logging.WARNING,
            access_log=False,
            lifespan="off",
            server_header=False,
            http=bounded_protocol(connections),
            ws=bounded_websocket(connections) or "none",
            ws_max_size=MAX_WEBSOCKET_BYTES,
            ssl_certfile=config.security.tls_cert if speaks_tls else None,
            ssl_keyfile=config.security.tls_key if speaks_tls else None,
        ),
        handshake_s=config.server.receive_s,
        tls=TlsFiles(tls.certificate, tls.key) if tls is not None and speaks_tls else None,
    )
