"""What the server counts, for Prometheus: base units, one registry per server, nothing global."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from edge_server.cell import Excess
from edge_server.cell.allocator import Outcome as AllocationOutcome
from edge_server.cell.answers import DropReason
from edge_server.engine import Completion, QuestionEnd, Request
from edge_server.scenes.store import Eviction
from protos.names import MODALITIES, REQUEST_CHANNEL_USES

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_POWERS_OF_TWO = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SNRS_DB = (-20.0, -15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 30.0)


REFUSALS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "overload": (
            *("queue", "queue_per_user", "questions_in_flight", "sessions", "ingest", "arrivals"),
            *("sessions_of_one", "held_bytes", "spool", "connections", "calls", "downloads", "pages"),
        ),
        "limit": ("question_rate", "byte_rate", "streams", "slow_sender", "slow_reader"),
        "access": (
            *("no_certificate", "unknown_certificate", "no_key", "unknown_key", "revoked", "expired"),
            *("device_id", "foreign_session", "scenes", "foreign_host", "tls_handshake", "enrolment"),
            *("unknown_token", "dead_token", "expired_token", "used_token", "wrong_proof", "replaced"),
        ),
        "bundle": ("bundle",),
        "session": ("session",),
        "draining": ("draining",),
        "invalid": ("invalid", "failed", "too_large", "no_body_here"),
    }
)
"""Why a question or a session is not accepted, by what an operator does about it. Shown from the start, at 0:
Prometheus sees no increase in a series that begins with its first event."""

_KINDS = {reason: kind for kind, reasons in REFUSALS.items() for reason in reasons}


@dataclass(frozen=True, slots=True)
class _BlockSeries:
    """Of one modality."""

    token_length: Histogram
    airtime: Counter
    snr: Histogram
    outages: Counter


class Metrics:
    """Implements the observer ports of engine, cell, allocator, kept answers and scenes.

    Beside its own series it shows those of the process (CPU, memory, descriptors) and of the interpreter.

    Args:
        registry: where the series live; a fresh one by default.
        version: of this server.
        outage_snr_db: a block that arrived below this counts as an outage [dB].
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        version: str = "",
        outage_snr_db: float = -12.0,
    ) -> None:
        self.registry = registry or CollectorRegistry()
        self.waiting: Callable[[], int] = lambda: 0
        """Questions in the queues of all engines."""
        self.running: Callable[[], int] = lambda: 0
        """Questions in their running batches."""
        self._outage_snr_db = outage_snr_db
        r = self.registry
        self._batch_size = Histogram(
            "tokenlink_batch_size", "Rows per decode step", buckets=_POWERS_OF_TWO, registry=r
        )
        self._prefill_size = Histogram(
            "tokenlink_prefill_size", "Prompts per prefill", buckets=_POWERS_OF_TWO, registry=r
        )
        self._queue_wait = Histogram(
            "tokenlink_queue_wait_seconds", "Submission to prefill", buckets=_SECONDS, registry=r
        )
        self._first_token = Histogram(
            "tokenlink_time_to_first_token_seconds",
            "Submission to first language token",
            buckets=_SECONDS,
            registry=r,
        )
        self._prefill = Histogram(
            "tokenlink_prefill_seconds", "Model time of a prefill", buckets=_SECONDS, registry=r
        )
        self._decode = Histogram(
            "tokenlink_decode_seconds", "Model time of a decode step", buckets=_SECONDS, registry=r
        )
        self._question = Histogram(
            "tokenlink_question_seconds", "Submission to answer", buckets=_SECONDS, registry=r
        )
        self._inference = Histogram(
            "tokenlink_inference_seconds", "Prefill to the end of an answer", buckets=_SECONDS, registry=r
        )
        self._generated = Counter(
            "tokenlink_generated_tokens", "Language tokens made, end tokens too", registry=r
        )
        questions = Counter(
            "tokenlink_questions", "Accepted questions by how they ended", ["outcome"], registry=r
        )
        self._rejections = Counter(
            "tokenlink_rejections",
            "Questions and sessions that were not accepted",
            ["kind", "reason"],
            registry=r,
        )
        self._answer_tokens = Counter(
            "tokenlink_answer_tokens", "Language tokens decoded for questions that ended", registry=r
        )
        token_length = Histogram(
            "tokenlink_token_length",
            "Feature tokens received per block",
            ["modality"],
            buckets=_POWERS_OF_TWO,
            registry=r,
        )
        airtime = Counter("tokenlink_airtime_seconds", "Time on the (emulated) air", ["modality"], registry=r)
        snr = Histogram(
            "tokenlink_effective_snr_db",
            "Es/N0 after equalisation, per block, in dB",
            ["modality"],
            buckets=_SNRS_DB,
            registry=r,
        )
        outages = Counter(
            "tokenlink_outages", "Blocks that arrived too noisy to be understood", ["modality"], registry=r
        )
        self._sessions = Gauge("tokenlink_sessions", "Open sessions", registry=r)
        self._answers_kept = Gauge(
            "tokenlink_answers_kept", "Answers that their device has not acknowledged", registry=r
        )
        self._answers_dropped = Counter(
            "tokenlink_answers_dropped",
            "Answers that went before they were acknowledged",
            ["reason"],
            registry=r,
        )
        self._answers_not_written = Counter(
            "tokenlink_answers_not_written", "Times that the file of answers could not be written", registry=r
        )
        self._allocations = Counter(
            "tokenlink_allocations", "Times that the cell was shared out anew", ["outcome"], registry=r
        )
        self._allocation = Histogram(
            "tokenlink_allocation_seconds", "Finding an allocation", buckets=_SECONDS, registry=r
        )
        self._allocated = Gauge(
            "tokenlink_allocated_devices", "Devices among which the cell is shared out", registry=r
        )
        self._regrants = Counter(
            "tokenlink_grant_updates", "Grants that changed under an open session", registry=r
        )
        self._unkept = Counter(
            "tokenlink_deadlines_unkept",
            "Deadlines of devices without which the cell was shared out, as they cannot be kept",
            registry=r,
        )
        self._exceeded = Counter(
            "tokenlink_grants_exceeded", "Questions that took more than was granted", ["what"], registry=r
        )
        self._more_wanted = Counter(
            "tokenlink_more_wanted",
            "Blocks of questions in rounds that were asked for",
            ["reason"],
            registry=r,
        )
        self._more_uses = Counter(
            "tokenlink_more_wanted_channel_uses", "Channel uses that asking for them took", registry=r
        )
        self._workers = Counter(
            "tokenlink_worker_restarts", "Workers that died and were replaced", registry=r
        )
        self._scenes = Gauge("tokenlink_scenes", "Scenes that are kept", registry=r)
        self._scenes_shared = Counter("tokenlink_scenes_shared", "Scenes that devices shared", registry=r)
        self._scenes_gone = Counter("tokenlink_scenes_gone", "Scenes that went", ["reason"], registry=r)
        self._scene_search = Histogram(
            "tokenlink_scene_search_seconds", "Finding scenes by a text", buckets=_SECONDS, registry=r
        )
        Gauge("tokenlink_build_info", "This server", ["version"], registry=r).labels(version).set(1)
        self._models = Gauge(
            "tokenlink_model_info", "A bundle that is answered for", ["model", "bundle_hash"], registry=r
        )
        for collector in (ProcessCollector, PlatformCollector):
            collector(registry=r)
        # Looked up once: to find a series by its labels takes as long as to count in it.
        self._ended: Mapping[QuestionEnd, Counter] = {
            outcome: questions.labels(outcome) for outcome in get_args(QuestionEnd)
        }
        self._blocks = {
            name: _BlockSeries(
                token_length.labels(name), airtime.labels(name), snr.labels(name), outages.labels(name)
            )
            for name in MODALITIES
        }
        for reason, kind in _KINDS.items():
            self._rejections.labels(kind, reason)
        for outcome in get_args(AllocationOutcome):
            self._allocations.labels(outcome)
        for reason in ("next", "again"):
            self._more_wanted.labels(reason)
        for what in get_args(Excess):
            self._exceeded.labels(what)
        for drop_reason in get_args(DropReason):
            self._answers_dropped.labels(drop_reason)
        for eviction in get_args(Eviction):
            self._scenes_gone.labels(eviction)

    def describe_node(self, node: str, role: str) -> None:
        """Show what this process is of a cluster; to be called once."""
        info = Gauge(
            "tokenlink_node_info", "This node of a cluster", ["node", "role"], registry=self.registry
        )
        info.labels(node, role).set(1)

    def describe(self, models: Iterable[tuple[str, Sequence[str]]]) -> None:
        """Show what is served from now on, as series of the value 1 whose labels tell it.

        Args:
            models: of each its name, and hashes of the device bundles that it answers for.
        """
        self._models.clear()
        for name, bundle_hashes in models:
            for bundle_hash in bundle_hashes:
                self._models.labels(name, bundle_hash).set(1)

    def watch(
        self,
        *,
        ready: Callable[[], bool],
        draining: Callable[[], bool],
        waiting: Callable[[], int],
        running: Callable[[], int],
        queue_capacity: int,
        max_sessions: int,
    ) -> None:
        """Show a state that is asked for whenever the series are read, and the bounds it lies within.

        Args:
            ready: whether questions are accepted and the engine makes progress.
            draining: whether the server takes nothing new.
            waiting: questions in the queues of all engines.
            running: questions in their running batches.
            queue_capacity: questions that may wait.
            max_sessions: sessions that may be open.
        """
        self.waiting, self.running = waiting, running
        r = self.registry
        states: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("tokenlink_ready", "1 while questions are accepted and the engine makes progress", ready),
            ("tokenlink_draining", "1 while the server takes nothing new", draining),
            ("tokenlink_queue_depth", "Questions that wait", waiting),
            ("tokenlink_batch_rows", "Questions in the running batches", running),
        )
        for name, text, state in states:
            Gauge(name, text, registry=r).set_function(state)
        Gauge("tokenlink_queue_capacity", "Questions that may wait", registry=r).set(queue_capacity)
        Gauge("tokenlink_sessions_limit", "Sessions that may be open", registry=r).set(max_sessions)

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def prefilled(self, prompts: int, seconds: float) -> None:
        """One prefill of so many prompts took so long [s]."""
        self._prefill_size.observe(prompts)
        self._prefill.observe(seconds)
        self._generated.inc(prompts)

    def decoded(self, rows: int, seconds: float) -> None:
        """One decode step of so many rows took so long [s]."""
        self._batch_size.observe(rows)
        self._decode.observe(seconds)
        self._generated.inc(rows)

    def first_token(self, queue_s: float, since_submit_s: float) -> None:
        """A question got its first language token: how long it waited, and since it was submitted [s]."""
        self._queue_wait.observe(queue_s)
        self._first_token.observe(since_submit_s)

    def answered(self, request: Request, completion: Completion) -> None:
        """A question got its answer."""
        self._inference.observe(completion.compute_s)

    def ended(self, outcome: QuestionEnd, answer_tokens: int, since_submit_s: float) -> None:
        """An accepted question ended; how long it took counts only where an answer came of it [s]."""
        if outcome == "answered":
            self._question.observe(since_submit_s)
        self._ended[outcome].inc()
        self._answer_tokens.inc(answer_tokens)

    def rejected(self, reason: str) -> None:
        """A question or a session was not accepted."""
        self._rejections.labels(_KINDS.get(reason, "other"), reason).inc()

    def worker_replaced(self) -> None:
        """The worker thread died and a new one took over."""
        self._workers.inc()

    def sessions(self, count: int) -> None:
        """Open sessions, after this changed."""
        self._sessions.set(count)

    def answers_kept(self, count: int) -> None:
        """Answers that wait to be acknowledged, after this changed."""
        self._answers_kept.set(count)

    def answers_dropped(self, reason: str, count: int) -> None:
        """Answers that nobody acknowledged went by a bound."""
        self._answers_dropped.labels(reason).inc(count)

    def answers_not_written(self) -> None:
        """The file of answers could not be written. May be called from any thread."""
        self._answers_not_written.inc()

    def scenes_kept(self, count: int) -> None:
        """Scenes that are kept, after this changed."""
        self._scenes.set(count)

    def scene_shared(self) -> None:
        """A scene was stored."""
        self._scenes_shared.inc()

    def scenes_gone(self, reason: Eviction, count: int) -> None:
        """Scenes went, by a bound or because somebody deleted them."""
        self._scenes_gone.labels(reason).inc(count)

    def scenes_searched(self, seconds: float) -> None:
        """A text was looked for; it took so long [s]."""
        self._scene_search.observe(seconds)

    def allocated(self, outcome: str, seconds: float, devices: int) -> None:
        """The cell was shared out among so many devices; it took so long [s]."""
        self._allocations.labels(outcome).inc()
        self._allocation.observe(seconds)
        self._allocated.set(devices)

    def regranted(self, count: int) -> None:
        """So many devices have another grant than before."""
        self._regrants.inc(count)

    def deadlines_unkept(self, count: int) -> None:
        """The cell was shared out without the deadlines of so many devices, which it could not keep."""
        self._unkept.inc(count)

    def exceeded(self, what: str) -> None:
        """A question took more of the radio than was granted."""
        self._exceeded.labels(what).inc()

    def more_wanted(self, following: int, again: int) -> None:
        """A device was asked for so many blocks of what follows, and so many of what it has sent before."""
        self._more_wanted.labels("next").inc(following)
        self._more_wanted.labels("again").inc(again)
        self._more_uses.inc(REQUEST_CHANNEL_USES)

    def block(self, modality: str, token_length: int, airtime_s: float, effective_snr_db: float) -> None:
        """A block was received; airtime and SNR are the sender's word and counted only if they can be."""
        series = self._blocks[modality]
        series.token_length.observe(token_length)
        if math.isfinite(effective_snr_db):
            series.snr.observe(effective_snr_db)
        if effective_snr_db < self._outage_snr_db:
            series.outages.inc()
        if math.isfinite(airtime_s) and airtime_s > 0.0:
            series.airtime.inc(airtime_s)
