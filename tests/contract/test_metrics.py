"""What a server shows Prometheus: every series that is promised, well named, and true."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_server.frontdoor.metrics import REFUSALS
from edge_server.server.config import ServerConfig
from edge_server.training.radio import RadioTraining
from protos import payload
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.waiting import PATIENCE_S
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM

SOURCE = Path(__file__).parents[2] / "edge_server"
PROMISED = {
    *("tokenlink_queue_depth", "tokenlink_queue_capacity", "tokenlink_queue_wait_seconds"),
    *("tokenlink_batch_size", "tokenlink_batch_rows", "tokenlink_prefill_size"),
    *("tokenlink_prefill_seconds", "tokenlink_decode_seconds", "tokenlink_time_to_first_token_seconds"),
    *("tokenlink_question_seconds", "tokenlink_questions", "tokenlink_rejections"),
    *("tokenlink_generated_tokens", "tokenlink_answer_tokens"),
    *("tokenlink_token_length", "tokenlink_airtime_seconds", "tokenlink_effective_snr_db"),
    *("tokenlink_outages", "tokenlink_sessions", "tokenlink_sessions_limit"),
    *("tokenlink_worker_restarts", "tokenlink_ready", "tokenlink_draining"),
    *("tokenlink_build_info", "tokenlink_model_info"),
    *("process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"),
}


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as opened:
        yield opened


async def samples(client: httpx.AsyncClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = (await client.get("/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def label(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


async def ask(running: Running, request_id: str, snr_db: float) -> None:
    session = await running.stub.OpenSession(pb.OpenSessionRequest(device_id="d", bundle_hash=BUNDLE_HASH))
    report = pb.ChannelReport(effective_snr_db=snr_db, channel_uses=16, airtime_s=0.25)
    block = payload.encode(np.full((4, CHANNEL_DIM), 0.5, np.float32), "video", "float32", report)
    question = pb.Question(request_id=request_id, question_ids=[1, 2], payloads=[block])
    request = pb.AskRequest(session_id=session.session_id, bundle_hash=BUNDLE_HASH, question=question)
    async for _ in running.stub.Ask(request):
        pass


async def test_every_promised_series_is_there_and_well_named(
    running: Running, client: httpx.AsyncClient
) -> None:
    await ask(running, "q", 10.0)
    text = (await client.get("/metrics")).text
    assert {family.name for family in text_string_to_metric_families(text)} >= PROMISED
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


async def test_a_question_is_counted_where_it_passes(running: Running, client: httpx.AsyncClient) -> None:
    await ask(running, "q", 10.0)
    seen = await samples(client)
    said = len("2+video:4")
    assert seen["tokenlink_questions_total", label(outcome="answered")] == 1
    assert seen["tokenlink_question_seconds_count", label()] == 1
    assert seen["tokenlink_answer_tokens_total", label()] == said
    assert seen["tokenlink_generated_tokens_total", label()] == said + 1  # and the end token
    assert seen["tokenlink_airtime_seconds_total", label(modality="video")] == 0.25
    # Up to and including 10 dB; a histogram of values below 0 has no sum.
    assert seen["tokenlink_effective_snr_db_bucket", label(modality="video", le="5.0")] == 0
    assert seen["tokenlink_effective_snr_db_bucket", label(modality="video", le="10.0")] == 1
    assert seen["tokenlink_outages_total", label(modality="video")] == 0
    assert seen["tokenlink_sessions", label()] == 1
    assert seen["tokenlink_model_info", label(model="weightless", bundle_hash=BUNDLE_HASH)] == 1


async def test_a_block_that_arrives_below_the_bound_is_an_outage(
    running: Running, client: httpx.AsyncClient
) -> None:
    bound_db = ServerConfig().cell.outage_snr_db
    await ask(running, "above", bound_db)
    await ask(running, "below", bound_db - 0.1)
    seen = await samples(client)
    assert seen["tokenlink_outages_total", label(modality="video")] == 1
    session = await running.stub.OpenSession(pb.OpenSessionRequest(device_id="d", bundle_hash=BUNDLE_HASH))
    assert session.grant.outage_snr_db == bound_db


def test_the_bound_of_an_outage_is_the_least_snr_of_the_training() -> None:
    assert ServerConfig().cell.outage_snr_db == RadioTraining().snr_db[0]


def test_every_reason_of_a_refusal_is_of_a_kind() -> None:
    known = {reason for reasons in REFUSALS.values() for reason in reasons}
    named = set()
    for room in ("access", "cell", "engine", "frontdoor"):
        for path in (SOURCE / room).rglob("*.py"):
            named |= set(re.findall(r"""reason="([a-z_]+)\"""", path.read_text()))
            named |= set(re.findall(r"""rejected\("([a-z_]+)"\)""", path.read_text()))
    named |= set(re.findall(r"""reason="([a-z_]+)\"""", (SOURCE / "server" / "ingest.py").read_text()))
    assert {"queue", "sessions", "bundle"} <= named
    # A question that was evicted had been accepted: it is counted by its outcome.
    assert named - known == {"evicted"}


async def test_what_has_not_happened_yet_is_shown_as_0(client: httpx.AsyncClient) -> None:
    seen = await samples(client)
    for kind, reasons in REFUSALS.items():
        for reason in reasons:
            assert seen["tokenlink_rejections_total", label(kind=kind, reason=reason)] == 0
    assert seen["tokenlink_questions_total", label(outcome="failed")] == 0


async def test_draining_shows(running: Running, client: httpx.AsyncClient) -> None:
    seen = await samples(client)
    assert (seen["tokenlink_ready", label()], seen["tokenlink_draining", label()]) == (1, 0)
    await running.server.drain()
    seen = await samples(client)
    assert (seen["tokenlink_ready", label()], seen["tokenlink_draining", label()]) == (0, 1)


async def test_a_worker_that_was_replaced_is_counted(running: Running, client: httpx.AsyncClient) -> None:
    def die(rows: object) -> None:
        running.model.prefill_fault = lambda rows: None
        raise SystemExit

    running.model.prefill_fault = die
    await ask(running, "q", 10.0)
    assert (await samples(client))["tokenlink_worker_restarts_total", label()] == 1
