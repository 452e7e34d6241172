"""One trace from the device's question to the answer it gets, as OpenTelemetry sees it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from device_agent import tracing as device_tracing
from device_agent.agent import Agent
from device_agent.config import DeviceSettings
from device_agent.errors import ConfigurationError, RefusedError
from device_agent.media.clip import Clip
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.uplink import Uplink
from edge_server.frontdoor import tracing as server_tracing
from edge_server.server.config import ServerConfig
from protos import payload
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.waiting import obey
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM, WeightlessTransmitter

ROOT = Path(__file__).parents[2]
SECRET = "is the safe open"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def tracer(exporter: InMemorySpanExporter, service: str) -> Tracer:
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> server_tracing.Tracing:
    return server_tracing.Traced(tracer(exporter, "edge-server"))


@pytest.fixture
async def agent(running: Running, exporter: InMemorySpanExporter) -> AsyncIterator[Agent]:
    told = device_tracing.Traced(tracer(exporter, "device-agent"))
    async with Uplink(
        running.addresses.grpc, BUNDLE_HASH, device_id="d", backoff=Backoff(retries=2), tracing=told
    ) as uplink:
        yield Agent(
            DeviceSettings(token_length=16, pace=False),
            WeightlessTransmitter(),  # type: ignore[arg-type]
            uplink,
            rng=np.random.default_rng(1),
            tracing=told,
        )


def clip() -> Clip:
    return Clip(np.zeros((2, 8, 8, 3), np.uint8), np.zeros(1600, np.float32))


def by_name(spans: tuple[ReadableSpan, ...]) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans}


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


async def until_ended(running: Running, exporter: InMemorySpanExporter, name: str) -> dict[str, ReadableSpan]:
    await running.until(lambda: name in by_name(exporter.get_finished_spans()))
    return by_name(exporter.get_finished_spans())


async def test_a_question_is_one_trace_from_agent_to_answer(
    running: Running, agent: Agent, exporter: InMemorySpanExporter
) -> None:
    outcome = await agent.ask(SECRET, clip())
    spans = await until_ended(running, exporter, "question")
    assert set(spans) == {
        *("ask", "encode", "channel", "uplink"),
        *("question", "admission", "queue", "prefill", "decode", "answer"),
    }
    assert len({span.context.trace_id for span in spans.values() if span.context is not None}) == 1
    ids = {name: span.context.span_id for name, span in spans.items() if span.context is not None}
    assert parent_of(spans["ask"]) is None
    for name in ("encode", "channel", "uplink"):
        assert parent_of(spans[name]) == ids["ask"]
        assert spans[name].resource.attributes["service.name"] == "device-agent"
    assert parent_of(spans["question"]) == ids["uplink"]
    assert (spans["uplink"].kind, spans["question"].kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    stages = ("admission", "queue", "prefill", "decode", "answer")
    for name in stages:
        assert parent_of(spans[name]) == ids["question"]
        assert spans[name].resource.attributes["service.name"] == "edge-server"
    starts_ns = [spans[name].start_time or 0 for name in stages]
    ends_ns = [spans[name].end_time or 0 for name in stages]
    assert starts_ns[1:] == sorted(starts_ns[1:])
    assert all(start_ns <= end_ns for start_ns, end_ns in zip(starts_ns, ends_ns, strict=True))
    assert starts_ns[2] == ends_ns[1]
    assert starts_ns[3] == ends_ns[2]
    prefill_and_decode_s = (ends_ns[3] - starts_ns[2]) / 1e9
    assert prefill_and_decode_s == pytest.approx(outcome.compute_s, abs=1e-6)
    modalities = [
        span.attributes["tokenlink.modality"]
        for span in exporter.get_finished_spans()
        if span.name == "channel" and span.attributes is not None
    ]
    assert modalities == ["video", "audio"]


async def test_no_span_tells_what_was_asked_or_answered(
    running: Running, agent: Agent, exporter: InMemorySpanExporter
) -> None:
    running.model.answer = lambda prompt: "the answer"
    await agent.ask(SECRET, clip())
    await until_ended(running, exporter, "question")
    told = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "tokenlink.prompt_tokens" in told
    assert SECRET not in told
    assert "the answer" not in told


async def test_each_question_is_a_trace_of_its_own(
    running: Running, agent: Agent, exporter: InMemorySpanExporter
) -> None:
    await asyncio.gather(*(agent.ask(SECRET, clip()) for _ in range(5)))
    await running.until(lambda: sum(span.name == "question" for span in exporter.get_finished_spans()) == 5)
    spans = exporter.get_finished_spans()
    uplinks = {span.context.trace_id: span.context.span_id for span in spans if span.name == "uplink"}  # type: ignore[union-attr]
    questions = {span.context.trace_id: parent_of(span) for span in spans if span.name == "question"}  # type: ignore[union-attr]
    assert len(uplinks) == 5
    assert questions == uplinks


async def test_a_refused_question_ends_in_its_admission(
    running: Running, exporter: InMemorySpanExporter
) -> None:
    block = payload.encode(np.full((4, CHANNEL_DIM), 0.5, np.float32), "video")
    question = pb.Question(request_id="q", question_ids=[1], payloads=[block], max_new_tokens=100_000)
    async with Uplink(running.addresses.grpc, BUNDLE_HASH, device_id="d") as uplink:
        with pytest.raises(RefusedError):
            await uplink.ask(question)
    spans = await until_ended(running, exporter, "question")
    assert set(spans) == {"question", "admission"}
    assert spans["question"].status.status_code is StatusCode.ERROR
    assert spans["question"].status.description == "InvalidQuestionError"
    assert spans["question"].attributes is not None
    assert spans["question"].attributes["tokenlink.request_id"] == "q"


async def test_an_answer_that_was_kept_is_told_without_the_times_of_another_run(
    running: Running, exporter: InMemorySpanExporter
) -> None:
    question = pb.Question(request_id="q", question_ids=[1, 2])
    async with Uplink(running.addresses.grpc, BUNDLE_HASH, device_id="d") as uplink:
        await uplink.ask(question)
        await running.until(lambda: len(exporter.get_finished_spans()) == 6)
        exporter.clear()
        await obey(0.1)  # longer ago than clocks may disagree
        await uplink.ask(question)
    spans = await until_ended(running, exporter, "question")
    assert set(spans) == {"question", "admission", "answer"}
    assert spans["question"].attributes is not None
    assert spans["question"].attributes["tokenlink.repeated"] is True


@pytest.mark.parametrize("door", ["rest", "openai", "ask"])
async def test_the_other_doors_take_up_a_trace_too(
    running: Running, exporter: InMemorySpanExporter, door: str
) -> None:
    if door == "ask":
        opened = pb.OpenSessionRequest(device_id="d", bundle_hash=BUNDLE_HASH)
        session = await running.stub.OpenSession(opened)
        question = pb.Question(request_id="q", question_ids=[1, 2])
        request = pb.AskRequest(session_id=session.session_id, bundle_hash=BUNDLE_HASH, question=question)
        async for _ in running.stub.Ask(request, metadata=(("traceparent", TRACEPARENT),)):
            pass
    else:
        path, body = {
            "rest": ("/v1/infer", {"question": "a"}),
            "openai": (
                "/v1/chat/completions",
                {"model": "weightless", "messages": [{"role": "user", "content": "a"}]},
            ),
        }[door]
        async with httpx.AsyncClient(base_url=running.addresses.rest) as client:
            answered = await client.post(path, json=body, headers={"traceparent": TRACEPARENT})
            assert answered.status_code == 200
    spans = await until_ended(running, exporter, "question")
    assert set(spans) == {"question", "admission", "queue", "prefill", "decode", "answer"}
    context = spans["question"].context
    assert context is not None
    assert f"{context.trace_id:032x}" == TRACE_ID
    assert f"{parent_of(spans['question']):016x}" == PARENT_ID


@pytest.mark.parametrize("traceparent", ["", "nonsense", f"00-{'0' * 32}-{PARENT_ID}-01", "x" * 10_000])
async def test_a_malformed_traceparent_is_no_reason_not_to_answer(
    running: Running, exporter: InMemorySpanExporter, traceparent: str
) -> None:
    async with httpx.AsyncClient(base_url=running.addresses.rest) as client:
        answered = await client.post(
            "/v1/infer", json={"question": "a"}, headers={"traceparent": traceparent}
        )
    assert answered.status_code == 200
    spans = await until_ended(running, exporter, "question")
    assert parent_of(spans["question"]) is None


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.services: dict[str, set[str]] = {}

    def Export(  # noqa: N802
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for batch in request.resource_spans:
            facts = {fact.key: fact.value.string_value for fact in batch.resource.attributes}
            names = self.services.setdefault(facts["service.name"], set())
            names |= {span.name for scope in batch.scope_spans for span in scope.spans}
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    servicer = Collector()
    with futures.ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield servicer, f"http://127.0.0.1:{port}"
        server.stop(None).wait()


def test_spans_reach_a_collector_before_the_process_goes_on(collector: tuple[Collector, str]) -> None:
    servicer, endpoint = collector
    with device_tracing.exporting_tracer(endpoint, "device-agent") as made:
        told = device_tracing.Traced(made)
        with told.span("ask"), told.span("encode", token_length=4):
            pass
    assert servicer.services == {"device-agent": {"ask", "encode"}}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("device_agent.cli.main", "opentelemetry"),
        # FastAPI brings the API, which does nothing without the SDK.
        ("edge_server.server.process", "opentelemetry.sdk"),
        ("edge_server.server.process", "opentelemetry.exporter"),
    ],
)
def test_off_is_the_default_and_imports_nothing(module: str, unwanted: str) -> None:
    assert DeviceSettings().tracing_endpoint is None
    assert ServerConfig().server.tracing_endpoint is None
    code = f"import sys, {module}; sys.exit({unwanted!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_switched_on_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with (
        pytest.raises(ConfigurationError, match=r"pip install '\.\[tracing\]'"),
        device_tracing.exporting_tracer("http://127.0.0.1:1", "device-agent"),
    ):
        pass
