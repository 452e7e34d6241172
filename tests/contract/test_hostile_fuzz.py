"""Malformed messages in numbers that fit a test; ``python -m tests.chaos --row fuzz`` sends them all."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos import payload
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.chaos import fuzz, fuzz_targets
from tests.chaos.serve_fingerprints import FAULT
from tests.chaos.watched import WatchedServer
from tests.waiting import PATIENCE_S
from tests.weightless import CHANNEL_DIM

# Machines that run tests are busy: how long an example takes says nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

numbers = st.integers(0, 2**32 - 1)
floats = st.floats(width=32)
texts = st.text(max_size=80)
# Sound more often than not: a message with one fault gets further than one of nothing but faults.
shapes = st.one_of(
    st.tuples(st.integers(1, 8), st.just(CHANNEL_DIM)).map(list), st.lists(numbers, max_size=4)
)


@st.composite
def blocks(draw: st.DrawFn) -> pb.TokenPayload:
    shape = draw(shapes)
    dtype = draw(st.sampled_from(sorted(payload.CODECS)) | st.integers(-(2**31), 2**31 - 1))
    codec = payload.CODECS.get(dtype)
    values = shape[0] * shape[1] if len(shape) == 2 else 0
    exact = codec.data_bytes(values) if codec is not None and values < 1000 else 0
    data = draw(st.binary(min_size=exact, max_size=exact) | st.binary(max_size=300))

    return pb.TokenPayload(
        modality=draw(st.sampled_from((1, 2, 3, 4)) | st.integers(-(2**31), 2**31 - 1)),  # type: ignore[arg-type]
        dtype=dtype,  # type: ignore[arg-type]
        shape=shape,
        scale=draw(st.just(0.01) | floats),
        data=data,
        crc32=draw(st.just(zlib.crc32(data)) | numbers),
        channel=pb.ChannelReport(
            effective_snr_db=draw(st.just(10.0) | floats),
            airtime_s=draw(st.floats()),
            channel_uses=draw(numbers),
        ),
    )


@st.composite
def questions(draw: st.DrawFn) -> pb.Question:
    return pb.Question(
        request_id=draw(st.uuids().map(str) | texts),
        payloads=draw(st.lists(blocks(), max_size=3)),
        question_ids=draw(st.lists(st.integers(1, 900) | numbers, max_size=20)),
        context_ids=draw(st.lists(numbers, max_size=20)),
        max_new_tokens=draw(st.just(4) | numbers),
        deadline_ms=draw(st.just(0) | numbers),
        encode_ms=draw(st.just(0) | numbers),
        spent_ms=draw(st.just(0) | numbers),
    )


@unhurried
@given(blocks())
def test_any_payload_is_decoded_or_refused_by_its_field(block: pb.TokenPayload) -> None:
    findings = fuzz.Findings()
    fuzz.try_payload(block, findings)
    assert not findings.wrong, findings.examples


@unhurried
@given(st.binary(max_size=2000))
def test_any_bytes_are_a_payload_or_none(data: bytes) -> None:
    fuzz_targets.payloads()(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)


@settings(unhurried, max_examples=60)
@given(
    changes=st.dictionaries(
        st.sampled_from(sorted([*fuzz.manifest_of(fuzz.GRAPH), "precision", "quantised_from", "unknown"])),
        json_values,
        max_size=2,
    ),
    graph=st.just(fuzz.GRAPH) | st.binary(max_size=300),
)
def test_any_manifest_and_graph_are_loaded_or_refused(changes: dict[str, object], graph: bytes) -> None:
    findings = fuzz.Findings()
    archive = fuzz.archive_of(fuzz.signed(fuzz.manifest_of(graph) | changes), graph)
    with tempfile.TemporaryDirectory() as scratch:
        fuzz.try_bundle(archive, Path(scratch), findings)
    assert not findings.wrong, findings.examples


@settings(unhurried, max_examples=60)
@given(st.binary(max_size=3000))
def test_any_bytes_are_a_bundle_or_none(data: bytes) -> None:
    findings = fuzz.Findings()
    with tempfile.TemporaryDirectory() as scratch:
        fuzz.try_bundle(data, Path(scratch), findings)
        fuzz.try_bundle(fuzz.small_bundle()[: len(data)] + data, Path(scratch), findings)
    assert not findings.wrong, findings.examples


class Served:
    """A server, a stranger's session and an honest one."""

    def __init__(self, server: WatchedServer, channel: grpc.Channel) -> None:
        self.server = server
        self.channel = channel
        self.bundle_hash = server.doors.bundle_hash
        stub = fuzz.TokenLinkStub(channel)
        self.stranger, self.honest = (
            stub.OpenSession(pb.OpenSessionRequest(device_id=name, bundle_hash=self.bundle_hash)).session_id
            for name in ("stranger", "honest")
        )
        self.number = 0

    def good(self) -> pb.UplinkFrame:
        self.number += 1
        asked = pb.Question(request_id=f"good{self.number}", question_ids=[5, 6, 7])
        return pb.UplinkFrame(session_id=self.honest, bundle_hash=self.bundle_hash, question=asked)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with WatchedServer() as server, grpc.insecure_channel(server.doors.grpc) as channel:
        yield Served(server, channel)


@settings(unhurried, max_examples=80)
@given(bad=st.lists(questions() | st.binary(max_size=500), min_size=1, max_size=5), cut=st.integers(0, 400))
def test_any_frames_leave_the_good_ones_beside_them_unchanged(
    served: Served, bad: list[pb.Question | bytes], cut: int
) -> None:
    findings = fuzz.Findings()
    frames = []
    for each in bad:
        if isinstance(each, bytes):
            frames.append(each)
        else:
            frame = pb.UplinkFrame(session_id=served.stranger, bundle_hash=served.bundle_hash, question=each)
            data = frame.SerializeToString()
            frames += [data, data[:-cut] if cut else data]
    before, after = served.good(), served.good()
    sent = [before.SerializeToString(), *frames, after.SerializeToString()]
    answers = {}
    for data in served.channel.stream_stream("/tokenlink.v1.TokenLink/Converse")(
        iter(sent), timeout=PATIENCE_S
    ):
        end = pb.DownlinkFrame.FromString(data)
        if end.HasField("failure"):
            code = next(each.name for each in grpc.StatusCode if each.value[0] == end.failure.code)
            findings.refusal(code, end.failure.field, end.failure.message)
        elif end.HasField("answer"):
            answers[end.request_id] = end.answer.text
    assert not findings.wrong, findings.examples
    assert answers[before.question.request_id] == answers[after.question.request_id]
    assert len(answers[before.question.request_id]) == 12
    assert served.server.alive


def test_spoilt_messages_in_bulk() -> None:
    for findings in (
        fuzz.fuzz_frames(1500),
        fuzz.fuzz_payloads(3000),
        fuzz.fuzz_bundles(200),
        fuzz.fuzz_media(300),
    ):
        assert not findings.wrong, findings.examples
        # Neither all refused at the first check, nor all fine.
        assert len(findings.codes) > 1


def test_an_answer_that_a_neighbour_changes_is_found() -> None:
    findings = fuzz.fuzz_frames(400, environment={FAULT: "crosstalk"})
    assert findings.changed > 0
    assert findings.wrong == findings.changed


def test_a_codec_that_breaks_or_forgets_the_field_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise KeyError("dtype")

    monkeypatch.setattr(payload, "decode", breaks)
    assert fuzz.fuzz_payloads(20).crashes > 0

    def forgets(*_: object, **__: object) -> None:
        raise payload.PayloadError("", "is wrong")

    monkeypatch.setattr(payload, "decode", forgets)
    assert fuzz.fuzz_payloads(20).unnamed > 0


def test_a_decoder_that_breaks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise IndexError

    monkeypatch.setattr("device_agent.media.loading._clip", breaks)
    assert fuzz.fuzz_media(20).crashes == 20


def test_a_loader_that_breaks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr("device_agent.bundle.archive.load_bundle", breaks)
    assert fuzz.fuzz_bundles(20).crashes > 0


@pytest.mark.parametrize("target", fuzz_targets.TARGETS)
def test_the_targets_of_the_guided_search_take_their_seeds(target: str) -> None:
    take = fuzz_targets.TARGETS[target]()
    seeds = list(fuzz_targets.seeds(target))
    assert seeds
    for seed in seeds:
        take(seed)
        take(seed[:-1])
