"""Spans of a question at the server, for OpenTelemetry, when it is switched on.

    question ─┬─ admission   refused, or accepted by the engine
              ├─ queue       until its prefill
              ├─ prefill     until its first language token
              ├─ decode      until its last
              ├─ answer      until it was sent
              └─ work queue, engine   of a cluster: told by the node whose engine had it

The engine knows no tracing: what happened inside is told afterwards, from an answer's own figures, so that
it costs nothing while a batch runs, and next to nothing when it is off. Spans carry counts, ids and names,
never what was asked or answered.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from edge_server.engine import AnswerStream, Completion
from protos.metadata import TRACEPARENT_KEY

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, Tracer

_NS = 1_000_000_000


class QuestionTrace(Protocol):
    """The spans of one question. Everything after :meth:`end` is ignored."""

    @property
    def traceparent(self) -> str:
        """W3C Trace Context of the question's span; empty where it is not traced."""

    def admission(self) -> AbstractContextManager[None]:
        """Where it is decided whether the question is accepted; an error here ends the question."""

    def runs(self) -> None:
        """The engine runs it for this asker; without this, its answer is one that was kept."""

    def completed(self, completion: Completion) -> None:
        """The answer is whole."""

    def end(self, error: BaseException | None = None) -> None:
        """The answer was sent, or there is none."""

    def follow(self, stream: AnswerStream) -> None:
        """Complete and end as this stream does."""


class Tracing(Protocol):
    """Begins the spans of questions."""

    def question(self, door: str, traceparent: str, request_id: str = "") -> QuestionTrace:
        """A question has come.

        Args:
            door: through which.
            traceparent: W3C Trace Context of the span that asks; empty or malformed: a trace of its own.
            request_id: of the question.
        """


class _NoTrace:
    traceparent = ""

    def admission(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def runs(self) -> None:
        pass

    def completed(self, completion: Completion) -> None:
        pass

    def end(self, error: BaseException | None = None) -> None:
        pass

    def follow(self, stream: AnswerStream) -> None:
        pass


_NO_TRACE = _NoTrace()


class NotTraced:
    """Tracing that is off."""

    def question(self, door: str, traceparent: str, request_id: str = "") -> QuestionTrace:
        """Nothing is begun."""
        return _NO_TRACE


class Traced:
    """Tracing through OpenTelemetry.

    Args:
        tracer: makes the spans.
        clock_ns: nanoseconds since the Unix epoch.
    """

    def __init__(self, tracer: Tracer, clock_ns: Callable[[], int] = time.time_ns) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()
        self._clock_ns = clock_ns

    def ran(
        self,
        name: str,
        traceparent: str,
        began_s: float,
        ended_s: float,
        facts: Mapping[str, str | int],
        error: str = "",
    ) -> None:
        """Implements :class:`edge_server.cluster.work_tracing.WorkTracing`."""
        from opentelemetry.trace import SpanKind, StatusCode

        span = self._tracer.start_span(
            name,
            context=self._propagator.extract({TRACEPARENT_KEY: traceparent}, context=_empty()),
            kind=SpanKind.CONSUMER,
            attributes={f"tokenlink.{key}": value for key, value in facts.items()},
            start_time=round(began_s * _NS),
        )
        if error:
            span.set_status(StatusCode.ERROR, error)
        span.end(round(max(began_s, ended_s) * _NS))

    def question(self, door: str, traceparent: str, request_id: str = "") -> QuestionTrace:
        """See :class:`Tracing`."""
        from opentelemetry.trace import SpanKind

        root = self._tracer.start_span(
            "question",
            # From nothing, not from whatever span happens to be open in this task.
            context=self._propagator.extract({TRACEPARENT_KEY: traceparent}, context=_empty()),
            kind=SpanKind.SERVER,
            attributes={"tokenlink.door": door, "tokenlink.request_id": request_id[:64]},
            start_time=self._clock_ns(),
        )
        return _Trace(self._tracer, root, self._clock_ns, self._propagator)


class _Trace:
    def __init__(
        self, tracer: Tracer, root: Span, clock_ns: Callable[[], int], propagator: TextMapPropagator
    ) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracer = tracer
        self._root: Span | None = root
        self._within = set_span_in_context(root, _empty())
        self._runs = False
        self._clock_ns = clock_ns
        self._propagator = propagator
        self._whole_ns: int | None = None

    @property
    def traceparent(self) -> str:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=self._within)
        return carrier.get(TRACEPARENT_KEY, "")

    @contextlib.contextmanager
    def admission(self) -> Iterator[None]:
        began_ns = self._clock_ns()
        try:
            yield
        except BaseException as error:
            self._span("admission", began_ns, self._clock_ns())
            self.end(error)
            raise
        self._span("admission", began_ns, self._clock_ns())

    def runs(self) -> None:
        self._runs = True

    def completed(self, completion: Completion) -> None:
        if self._root is None:
            return
        self._whole_ns = whole_ns = self._clock_ns()
        prefill_ns = whole_ns - round(completion.compute_s * _NS)
        submitted_ns = prefill_ns - round(completion.queue_s * _NS)
        first_token_ns = submitted_ns + round(completion.first_token_s * _NS)
        self._root.set_attributes(
            {
                "tokenlink.prompt_tokens": completion.prompt_tokens,
                "tokenlink.answer_tokens": completion.answer_tokens,
                "tokenlink.finish_reason": completion.finish_reason,
                "tokenlink.repeated": not self._runs,
            }
        )
        if not self._runs:
            return  # the times are those of the asker for whom it ran
        self._span("queue", submitted_ns, prefill_ns)
        self._span("prefill", prefill_ns, first_token_ns)
        self._span("decode", first_token_ns, whole_ns)

    def end(self, error: BaseException | None = None) -> None:
        from opentelemetry.trace import StatusCode

        root, self._root = self._root, None
        if root is None:
            return
        now_ns = self._clock_ns()
        if self._whole_ns is not None:
            self._span("answer", self._whole_ns, now_ns)
        elif error is not None:
            root.set_status(StatusCode.ERROR, type(error).__name__)
        root.end(now_ns)

    def follow(self, stream: AnswerStream) -> None:
        self.runs()

        def ended() -> None:
            completion = stream.answer
            if completion is not None:
                self.completed(completion)
            self.end(stream.error)

        stream.when_ended(ended)

    def _span(self, name: str, began_ns: int, ended_ns: int) -> None:
        span = self._tracer.start_span(name, context=self._within, start_time=began_ns)
        span.end(max(began_ns, ended_ns))


def _empty() -> Context:
    from opentelemetry.context import Context

    return Context()
