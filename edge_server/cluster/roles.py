"""What a process is of a cluster, as an engine client: a door, an engine, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_server.cluster.connection import Connection
from edge_server.cluster.door_client import DoorClient
from edge_server.cluster.engine_worker import EngineWorker
from edge_server.cluster.subjects import queue_name
from edge_server.cluster.work_tracing import WorkTracing
from edge_server.engine import AnswerStream, Completion, EngineClient, EngineConfig, Model, Request
from edge_server.engine.client import EngineStatus
from edge_server.engine.observer import EngineObserver, QuestionEnd
from edge_server.engine.registry import EngineParts, build_engine
from edge_server.engine.request import Priority


@dataclass(frozen=True)
class EngineNode:
    """An engine of a cluster: what its process itself asks, such as canaries, it asks its own engine.

    Attributes:
        worker: pulls.
    """

    worker: EngineWorker

    @property
    def model(self) -> Model:
        """What is asked."""
        return self.worker.engine.model

    @property
    def status(self) -> EngineStatus:
        """How its engine does."""
        return replace(self.worker.engine.status, askers=self.worker.askers)

    @property
    def retry_delay_s(self) -> float:
        """As its engine says [s]."""
        return self.worker.engine.retry_delay_s

    def admit(self, user: str, priority: Priority = "interactive") -> None:
        """As its engine."""
        self.worker.engine.admit(user, priority)

    def submit(self, request: Request) -> AnswerStream:
        """As its engine."""
        return self.worker.engine.submit(request)

    async def start(self) -> None:
        """Join the cluster and pull."""
        await self.worker.start()

    async def drain(self) -> None:
        """Pull no more and wait until everything in hand has ended."""
        await self.worker.drain()

    async def stop(self) -> None:
        """End at once; what is in hand goes to others."""
        await self.worker.stop()


@dataclass(frozen=True)
class DoorWithEngine:
    """Both: what comes through this door is computed by whichever engine of the cluster has room.

    Attributes:
        door: to the cluster.
        worker: the engine of this process.
    """

    door: DoorClient
    worker: EngineWorker

    @property
    def model(self) -> Model:
        """What is asked."""
        return self.door.model

    @property
    def status(self) -> EngineStatus:
        """How the cluster does."""
        return self.door.status

    @property
    def retry_delay_s(self) -> float:
        """As the door says [s]."""
        return self.door.retry_delay_s

    def admit(self, user: str, priority: Priority = "interactive") -> None:
        """As the door."""
        self.door.admit(user, priority)

    def submit(self, request: Request) -> AnswerStream:
        """As the door."""
        return self.door.submit(request)

    async def start(self) -> None:
        """Join the cluster, pull, and accept questions."""
        await self.worker.start()
        try:
            await self.door.start()
        except BaseException:
            await self.worker.stop()
            raise

    async def drain(self) -> None:
        """Accept nothing new, here and from others, and wait until everything has ended."""
        await self.door.drain()
        await self.worker.drain()

    async def stop(self) -> None:
        """End at once."""
        await self.door.stop()
        await self.worker.stop()


class _Computing:
    """Of what an engine tells, what only it knows: its door counts questions."""

    def __init__(self, observer: EngineObserver) -> None:
        self.prefilled = observer.prefilled
        self.decoded = observer.decoded
        self.worker_replaced = observer.worker_replaced

    def first_token(self, queue_s: float, since_submit_s: float) -> None:
        """The door tells it."""

    def answered(self, request: Request, completion: Completion) -> None:
        """The door tells it."""

    def ended(self, outcome: QuestionEnd, answer_tokens: int, since_submit_s: float) -> None:
        """The door tells it."""

    def rejected(self, reason: str) -> None:
        """What one engine has no room for goes to another."""


def build_role(
    parts: EngineParts,
    kind: str,
    connection: Connection,
    digest: str,
    wall_clock: Callable[[], float],
    tracing: WorkTracing | None = None,
) -> EngineClient:
    """What this process is of the cluster, by its settings.

    Args:
        parts: what an engine is made of.
        kind: of the engine that computes here.
        connection: to the broker.
        digest: of the model's weights.
        wall_clock: seconds since the Unix epoch.
        tracing: is told what engines see of questions that are traced.
    """
    model, config, role = parts.model, parts.config, connection.config.role
    queue = queue_name(model.name, model.bundle_hash, digest)
    door = DoorClient(
        model, config, connection, queue, parts.observer, clock=parts.clock, wall_clock=wall_clock
    )
    if role == "door":
        return door
    rows = config.batches * config.max_batch
    observer = parts.observer if role == "engine" else _Computing(parts.observer)
    computing = replace(parts, config=_unbounded(config, rows), observer=observer)
    worker = EngineWorker(
        build_engine(kind, computing),
        rows,
        connection,
        queue,
        clock=parts.clock,
        wall_clock=wall_clock,
        tracing=tracing,
    )
    return EngineNode(worker) if role == "engine" else DoorWithEngine(door, worker)


def _unbounded(config: EngineConfig, rows: int) -> EngineConfig:
    """Whoever pulls has counted: what was pulled is taken, whosever it is."""
    room = 2 * rows + config.max_queue
    return replace(config, max_queue=room, max_queue_per_user=room)
