"""Spans of a question on the device, for OpenTelemetry, when it is switched on.

    ask ─┬─ encode    the transmitters
         ├─ channel   the emulated radio, once per modality
         └─ uplink    from sending to the answer, all tries ··· traceparent ···▶ the server's spans

Off, which is the default, costs a call that does nothing and imports nothing. Spans carry counts and names,
never what was asked, answered, seen or heard.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast

from device_agent.errors import ConfigurationError
from device_agent.version import agent_version
from protos.metadata import TRACEPARENT_KEY

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

EXPORT_WITHIN_S = 2.0
"""Nobody waits longer for a collector that is not there."""

Attribute: TypeAlias = str | int | float


class Tracing(Protocol):
    """What an agent tells about the time it takes."""

    def span(self, name: str, **attributes: Attribute) -> AbstractContextManager[object]:
        """A span for as long as the context lasts, within the span that is open here."""

    def traceparent(self) -> str:
        """W3C Trace Context of the open span; empty where there is none."""


class NotTraced:
    """Tracing that is off."""

    def span(self, name: str, **attributes: Attribute) -> AbstractContextManager[object]:
        """Nothing."""
        return contextlib.nullcontext()

    def traceparent(self) -> str:
        """None."""
        return ""


class _HasTracing(Protocol):
    _tracing: Tracing


_Self = TypeVar("_Self", bound=_HasTracing)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Method: TypeAlias = Callable[Concatenate[_Self, _Arguments], Coroutine[Any, Any, _Result]]


def traced(name: str) -> Callable[[_Method[_Self, _Arguments, _Result]], _Method[_Self, _Arguments, _Result]]:
    """Make calls of a method spans of this name, told to its object's ``_tracing``."""

    def decorate(method: _Method[_Self, _Arguments, _Result]) -> _Method[_Self, _Arguments, _Result]:
        @functools.wraps(method)
        async def call(self: _Self, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            with self._tracing.span(name):
                return await method(self, *args, **kwargs)

        return cast("_Method[_Self, _Arguments, _Result]", call)

    return decorate


class Traced:
    """Tracing through OpenTelemetry.

    Args:
        tracer: makes the spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    def span(self, name: str, **attributes: Attribute) -> AbstractContextManager[object]:
        """See :class:`Tracing`; an error that passes through is recorded by its type and ends the span."""
        return self._span(name, attributes)

    def traceparent(self) -> str:
        """See :class:`Tracing`."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get(TRACEPARENT_KEY, "")

    @contextlib.contextmanager
    def _span(self, name: str, attributes: dict[str, Attribute]) -> Iterator[None]:
        from opentelemetry.trace import SpanKind, StatusCode

        kind = SpanKind.CLIENT if name == "uplink" else SpanKind.INTERNAL
        named = {f"tokenlink.{key}": value for key, value in attributes.items()}
        # An error's text may hold what a user typed; its type does not.
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes=named, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_status(StatusCode.ERROR, type(error).__name__)
                raise


@contextlib.contextmanager
def exporting_tracer(endpoint: str, service: str, **resource: Attribute) -> Iterator[Tracer]:
    """A tracer whose spans go to a collector; what is left is sent when the context ends.

    The SDK's own variables, such as OTEL_TRACES_SAMPLER, hold.

    Args:
        endpoint: of a collector that speaks OTLP over gRPC, such as ``http://127.0.0.1:4317``.
        service: name of this service.
        resource: further facts about it.

    Raises:
        ConfigurationError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            f"tracing_endpoint: tracing needs {error.name}; in a clone of the repository: "
            "pip install '.[tracing]'"
        ) from error
    facts: dict[str, Any] = {"service.name": service, "service.version": agent_version(), **resource}
    provider = TracerProvider(resource=Resource.create(facts))
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_WITHIN_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield provider.get_tracer("tokenlink")
    finally:
        provider.shutdown()
