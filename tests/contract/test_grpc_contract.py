"""What a deployed device may rely on, over a real port."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos import payload
from protos.metadata import FAILURE_KEY
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import SMALL_BUNDLE_HASH, Running
from tests.questions import question
from tests.waiting import PATIENCE_S, obey
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM

CODE = {code.value[0]: code for code in grpc.StatusCode}


def block(modality: str = "video", token_length: int = 4, dtype: str = "float16") -> pb.TokenPayload:
    x_TC = np.full((token_length, CHANNEL_DIM), 0.5, np.float32)
    report = pb.ChannelReport(effective_snr_db=10.0, channel_uses=16, airtime_s=0.001)
    return payload.encode(x_TC, modality, dtype, report)


class Device:
    """A device that speaks frames."""

    def __init__(self, running: Running, session_id: str) -> None:
        self.running = running
        self.session_id = session_id

    def frame(self, asked: pb.Question, bundle_hash: str = BUNDLE_HASH) -> pb.UplinkFrame:
        return pb.UplinkFrame(session_id=self.session_id, bundle_hash=bundle_hash, question=asked)

    def cancel(self, request_id: str) -> pb.UplinkFrame:
        return pb.UplinkFrame(session_id=self.session_id, cancel=pb.Cancel(request_id=request_id))

    def ask(self, asked: pb.Question, bundle_hash: str = BUNDLE_HASH) -> AsyncIterator[pb.DownlinkFrame]:
        return self.running.stub.Ask(
            pb.AskRequest(session_id=self.session_id, bundle_hash=bundle_hash, question=asked)
        )

    async def converse(self, frames: Iterable[pb.UplinkFrame]) -> dict[str, pb.DownlinkFrame]:
        """Send all, read until the server ends the stream; the last frame of each question."""
        ends: dict[str, pb.DownlinkFrame] = {}
        async for frame in self.running.stub.Converse(iter(list(frames))):
            if frame.WhichOneof("body") != "delta":
                assert frame.request_id not in ends, "a question ended twice"
                ends[frame.request_id] = frame
        return ends


@pytest.fixture
async def device(running: Running) -> Device:
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="camera", bundle_hash=BUNDLE_HASH, agent_version="1", snr_db=10.0)
    )
    return Device(running, opened.session_id)


async def texts(frames: AsyncIterator[pb.DownlinkFrame]) -> tuple[str, pb.Answer]:
    deltas, answer = "", None
    async for frame in frames:
        assert answer is None, "a frame came after the answer"
        if frame.WhichOneof("body") == "delta":
            deltas += frame.delta.text
        else:
            answer = frame.answer
    assert answer is not None
    return deltas, answer


async def read_all(call: object) -> list[object]:
    """The frames of a streaming call, or the one response of another."""
    if hasattr(call, "__aiter__"):
        return [frame async for frame in call]
    return [await call]  # type: ignore[misc]


async def refusal(call: object) -> tuple[grpc.StatusCode, str, pb.Failure]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await read_all(call)
    error = refused.value
    failure = pb.Failure()
    failure.ParseFromString(dict(error.trailing_metadata() or {}).get(FAILURE_KEY, b""))
    return error.code(), error.details() or "", failure


async def test_a_session_opens_with_a_grant(running: Running) -> None:
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="camera", bundle_hash=BUNDLE_HASH, snr_db=20.0)
    )
    assert opened.session_id
    assert (opened.grant.max_token_length, opened.grant.token_length) == (32, 8)
    assert opened.grant.valid_s > 0
    assert opened.model_name == "weightless"
    assert opened.server_time_s > 1.6e9


async def test_a_question_is_answered_in_pieces_that_join_to_the_answer(device: Device) -> None:
    deltas, answer = await texts(device.ask(question("q1", block("video", 16), block("audio", 4))))
    assert deltas == answer.text == "2+video:16+audio:4"
    assert answer.finish_reason == "stop"
    assert answer.prompt_tokens == 22
    assert answer.probability == pytest.approx(0.5**answer.answer_tokens)


@pytest.mark.parametrize("tries", [1, 2], ids=["first", "kept"])
async def test_an_answer_that_is_wanted_whole_comes_in_one_frame(device: Device, tries: int) -> None:
    for _ in range(tries):
        frames = [frame async for frame in device.ask(question("q1", whole_answer=True))]
    assert [(frame.WhichOneof("body"), frame.answer.text) for frame in frames] == [("answer", "2")]


async def test_a_question_on_the_analog_path_needs_no_ids(device: Device) -> None:
    asked = pb.Question(request_id="q", payloads=[block("text", 40)])
    assert (await texts(device.ask(asked)))[1].text == "0+text:40"


async def test_many_questions_share_one_stream(device: Device) -> None:
    lengths = {f"q{n}": 2 ** (n % 6) for n in range(12)}
    ends = await device.converse(
        device.frame(question(request_id, block("image", length))) for request_id, length in lengths.items()
    )
    assert {key: end.answer.text for key, end in ends.items()} == {
        request_id: f"2+image:{length}" for request_id, length in lengths.items()
    }


def broken(field: str) -> pb.Question:
    """A question with one thing wrong."""
    asked = question(f"bad-{field}", block())
    part = asked.payloads[0]
    match field:
        case "modality":
            part.modality = 77  # type: ignore[assignment]
        case "dtype":
            part.dtype = pb.DTYPE_UNSPECIFIED
        case "shape":
            part.shape[:] = [4, CHANNEL_DIM + 1]
        case "dimensions":
            part.shape[:] = [4]
        case "too-long":
            asked.payloads[0].CopyFrom(block(token_length=33))
        case "nan":
            values = np.full((4, CHANNEL_DIM), np.nan, np.float16).tobytes()
            part.data, part.crc32 = values, zlib.crc32(values)
        case "checksum":
            part.crc32 ^= 1
        case "size":
            part.data += b"\0"
        case "scale":
            asked.payloads[0].CopyFrom(block(dtype="int8"))
            part.scale = float("inf")
        case "empty":
            del asked.question_ids[:]
        case "twice":
            asked.payloads.add().CopyFrom(part)
        case "image-and-video":
            asked.payloads.add().CopyFrom(block("image"))
        case "many":
            for _ in range(100):
                asked.payloads.add().CopyFrom(part)
        case "vocabulary":
            asked.question_ids[:] = [2**32 - 1]
        case "max_new_tokens":
            asked.max_new_tokens = 2**31
        case "priority":
            asked.priority = 9  # type: ignore[assignment]
        case "snr":
            part.channel.effective_snr_db = float("nan")
        case "snr-per-token":
            part.channel.token_snr = bytes(3)
        case "oversize":
            asked.context_ids.extend([1] * 300_000)
    return asked


FIELDS = {
    "modality": "payloads[0].modality",
    "dtype": "payloads[0].dtype",
    "shape": "payloads[0].shape",
    "dimensions": "payloads[0].shape",
    "too-long": "payloads[0].shape",
    "nan": "payloads[0].data",
    "checksum": "payloads[0].crc32",
    "size": "payloads[0].data",
    "scale": "payloads[0].scale",
    "empty": "question_ids",
    "twice": "payloads",
    "image-and-video": "payloads",
    "many": "payloads",
    "vocabulary": "question_ids",
    "max_new_tokens": "max_new_tokens",
    "priority": "priority",
    "snr": "payloads[0].channel.effective_snr_db",
    "snr-per-token": "payloads[0].channel.token_snr",
    "oversize": "question",
}


@pytest.mark.parametrize("what", FIELDS)
async def test_a_bad_question_names_its_field_and_its_neighbours_are_answered(
    device: Device, what: str
) -> None:
    bad = broken(what)
    ends = await device.converse(
        [device.frame(question("before")), device.frame(bad), device.frame(question("after"))]
    )
    assert ends["before"].answer.text == ends["after"].answer.text == "2"
    failure = ends[bad.request_id].failure
    assert CODE[failure.code] is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.field == FIELDS[what]
    assert FIELDS[what] in failure.message

    code, details, carried = await refusal(device.ask(bad))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert (carried.field, details) == (FIELDS[what], failure.message)


@pytest.mark.parametrize("device_id", ["", "x" * 129, "camera\nroot", "a\x1b[2J", "camera-*"])
async def test_what_is_no_name_of_a_device_is_refused_by_name(running: Running, device_id: str) -> None:
    request = pb.OpenSessionRequest(device_id=device_id, bundle_hash=BUNDLE_HASH, snr_db=10.0)
    code, details, failure = await refusal(running.stub.OpenSession(request))
    assert (code, failure.field) == (grpc.StatusCode.INVALID_ARGUMENT, "device_id")
    assert details == f"device_id is {device_id[:128]!r}; 1 to 128 printable characters are allowed, no '*'"


async def test_a_wrong_bundle_names_both_hashes_everywhere(running: Running, device: Device) -> None:
    other = "cd" * 32
    ends = await device.converse([device.frame(question("bad"), other), device.frame(question("good"))])
    assert ends["good"].answer.text == "2"
    assert CODE[ends["bad"].failure.code] is grpc.StatusCode.FAILED_PRECONDITION
    for call in (
        device.ask(question(), other),
        running.stub.OpenSession(pb.OpenSessionRequest(device_id="x", bundle_hash=other)),
    ):
        code, details, failure = await refusal(call)
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert failure.field == "bundle_hash"
        assert other in details
        assert BUNDLE_HASH in details


async def test_an_unknown_session_is_not_found(running: Running, device: Device) -> None:
    stranger = Device(running, "nobody")
    assert (await refusal(stranger.ask(question())))[0] is grpc.StatusCode.NOT_FOUND
    ends = await device.converse([stranger.frame(question("bad")), device.frame(question("good"))])
    assert CODE[ends["bad"].failure.code] is grpc.StatusCode.NOT_FOUND
    assert ends["good"].answer.text == "2"


async def test_closing_a_session_is_harmless_twice(running: Running, device: Device) -> None:
    for _ in range(2):
        await running.stub.CloseSession(pb.CloseSessionRequest(session_id=device.session_id))
    assert (await refusal(device.ask(question())))[0] is grpc.StatusCode.NOT_FOUND


async def test_text_that_is_not_utf8_fails_its_frame_alone(running: Running, device: Device) -> None:
    converse = running.channel.stream_stream(
        "/tokenlink.v1.TokenLink/Converse", response_deserializer=pb.DownlinkFrame.FromString
    )
    good = device.frame(question("good")).SerializeToString()
    bad = device.frame(question("XYZ")).SerializeToString().replace(b"XYZ", b"\xff\xfe\xfd")
    ends = [
        frame async for frame in converse(iter([bad, b"\x07garbage", good])) if not frame.HasField("delta")
    ]
    assert sorted(frame.WhichOneof("body") for frame in ends) == ["answer", "failure", "failure"]
    for frame in ends:
        if frame.HasField("failure"):
            assert CODE[frame.failure.code] is grpc.StatusCode.INVALID_ARGUMENT
            assert frame.failure.field == "message"

    ask_raw = running.channel.unary_stream("/tokenlink.v1.TokenLink/Ask")
    assert (await refusal(ask_raw(b"\xff\xff")))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_frame_without_a_body_fails_alone(device: Device) -> None:
    empty = pb.UplinkFrame(session_id=device.session_id, bundle_hash=BUNDLE_HASH)
    ends = await device.converse([empty, device.frame(question("good"))])
    assert ends[""].failure.field == "body"
    assert ends["good"].answer.text == "2"


async def test_a_message_beyond_the_limit_is_not_read(device: Device) -> None:
    huge = question("q", context_ids=[2**31] * 600_000)
    assert (await refusal(device.ask(huge)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await texts(device.ask(question())))[1].text == "2"


async def test_a_question_sent_again_is_answered_once(running: Running, device: Device) -> None:
    asked = question("q1", block())
    first = await texts(device.ask(asked))
    assert await texts(device.ask(asked)) == first
    assert (await device.converse([device.frame(asked)]))["q1"].answer == first[1]
    assert running.model.prefills == [1]


async def test_a_question_sent_again_while_it_runs_is_answered_from_the_same_run(
    running: Running, device: Device
) -> None:
    running.model.gate.close()
    asked = question("q1", block())
    first, again = (asyncio.create_task(texts(device.ask(asked))) for _ in range(2))
    await running.until(lambda: running.server.engine.running == 1)
    # Twice over one stream: one answer, not two.
    conversing = running.stub.Converse()
    for _ in range(2):
        await conversing.write(device.frame(asked))
    # What comes behind them over the same stream is told of: both have been read.
    await conversing.write(device.frame(question("behind", question_ids=[5000])))
    while (await conversing.read()).request_id != "behind":
        pass
    running.model.gate.open()
    assert await first == await again
    ends = []
    await conversing.done_writing()
    while (frame := await conversing.read()) is not grpc.aio.EOF:
        ends += [frame.answer] if frame.HasField("answer") else []
    assert ends == [(await first)[1]]
    assert running.model.prefills == [1]


async def test_the_same_key_with_another_question_is_refused(device: Device) -> None:
    await texts(device.ask(question("q1", block())))
    code, _, failure = await refusal(device.ask(question("q1", block(token_length=8))))
    assert (code, failure.field) == (grpc.StatusCode.ALREADY_EXISTS, "request_id")


@pytest.mark.parametrize("how", ["cancel-frame", "hang-up", "hang-up-ask", "close-session"])
async def test_a_question_that_is_taken_back_frees_its_slot(
    running: Running, device: Device, how: str
) -> None:
    running.model.answer = lambda prompt: "x" * 30
    running.model.gate.close()
    engine = running.server.engine
    other = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="neighbour", bundle_hash=BUNDLE_HASH)
    )
    neighbour = asyncio.create_task(texts(Device(running, other.session_id).ask(question())))
    if how == "hang-up-ask":
        call = device.ask(question())
    else:
        call = running.stub.Converse()
        await call.write(device.frame(question("q1")))
    await running.until(lambda: engine.unanswered == 2)
    # The worker may have begun with the first question alone: then a step ends before the other comes in.
    await running.until(lambda: engine.running == 2 or running.model.gate.let_one_through())
    match how:
        case "cancel-frame":
            await call.write(device.cancel("q1"))
        case "close-session":
            await running.stub.CloseSession(pb.CloseSessionRequest(session_id=device.session_id))
        case _:
            call.cancel()
    await running.until(lambda: engine.unanswered == 1)
    steps = len(running.model.decodes)
    running.model.gate.open()
    assert (await neighbour)[1].text == "x" * 30
    # Only the step that was under way still had the row.
    assert running.model.decodes[steps + 1 :] == [1] * len(running.model.decodes[steps + 1 :])
    assert running.model.decodes[-1] == 1
    if how in ("cancel-frame", "close-session"):
        frames = []
        await call.done_writing()
        async for frame in call:
            frames.append(frame)
        assert CODE[frames[-1].failure.code] is grpc.StatusCode.CANCELLED


async def test_a_failing_batch_fails_the_culprit_alone(running: Running, device: Device) -> None:
    def fault(rows: object) -> None:
        if any(row.prompt.question_ids == (13,) for row in rows):  # type: ignore[attr-defined]
            raise RuntimeError("a poisoned row")

    running.model.prefill_fault = fault
    asked = [question(f"q{n}", question_ids=[n]) for n in range(10, 16)]
    ends = await device.converse(device.frame(one) for one in asked)
    assert CODE[ends["q13"].failure.code] is grpc.StatusCode.INTERNAL
    assert [ends[one.request_id].answer.text for one in asked if one.request_id != "q13"] == ["1"] * 5


async def test_a_deadline_that_passes_fails_its_question(running: Running, device: Device) -> None:
    running.model.answer = lambda prompt: "a longer answer"
    running.model.gate.close()
    late = question("late", deadline_ms=50)
    conversing = asyncio.create_task(device.converse([device.frame(late), device.frame(question("good"))]))
    await running.until(lambda: running.server.engine.unanswered == 2)
    await obey(0.05)
    running.model.gate.open()
    ends = await conversing
    assert CODE[ends["late"].failure.code] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert ends["good"].answer.text == "a longer answer"


class TestOverload:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"max_batch": 1, "max_queue": 1, "max_questions_in_flight": 4, "max_sessions": 1}

    async def filled(self, running: Running, device: Device) -> Any:
        """A stream whose two questions take all the room there is, for as long as the gate is closed."""
        running.model.gate.close()
        call = running.stub.Converse()
        await call.write(device.frame(question("running")))
        await running.until(lambda: running.server.engine.running == 1)
        await call.write(device.frame(question("waiting")))
        await running.until(lambda: running.server.engine.waiting == 1)
        return call

    async def test_what_is_too_much_is_refused_with_a_delay_that_leads_to_success(
        self, running: Running, device: Device
    ) -> None:
        call = await self.filled(running, device)
        code, _, failure = await refusal(device.ask(question("refused")))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.retry_delay_ms > 0
        await call.write(device.frame(question("refused")))
        frame = await call.read()
        while frame.request_id != "refused":
            frame = await call.read()
        assert CODE[frame.failure.code] is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert frame.failure.retry_delay_ms > 0
        running.model.gate.open()
        await obey(frame.failure.retry_delay_ms / 1000)
        assert (await texts(device.ask(question("refused"))))[1].text == "2"
        await call.done_writing()

    async def test_who_asks_on_after_a_refusal_is_read_more_slowly_and_nobody_else(
        self, running: Running, device: Device
    ) -> None:
        call = await self.filled(running, device)
        began = asyncio.get_running_loop().time()
        impatient = [f"impatient-{n}" for n in range(5)]
        for request_id in impatient:
            await call.write(device.frame(question(request_id)))
        # While he waits, who comes over another stream is told at once.
        assert (await refusal(device.ask(question("other"))))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        refused = {}
        while len(refused) < len(impatient):
            frame = await call.read()
            if frame.HasField("failure"):
                refused[frame.request_id] = frame.failure
        assert sorted(refused) == impatient
        # Most of the delay, but no more than a second.
        pauses_s = [min(0.75 * failure.retry_delay_ms / 1000, 1.0) for failure in refused.values()]
        # A millisecond: delays on the wire are rounded up to one.
        assert asyncio.get_running_loop().time() - began >= sum(pauses_s[:-1]) - 0.001 * len(pauses_s)
        running.model.gate.open()
        answered = set()
        while len(answered) < 2:
            frame = await call.read()
            if frame.HasField("answer"):
                answered.add(frame.request_id)
        assert answered == {"running", "waiting"}

    async def test_sessions_are_bounded(self, running: Running, device: Device) -> None:
        code, _, failure = await refusal(
            running.stub.OpenSession(pb.OpenSessionRequest(device_id="one-more", bundle_hash=BUNDLE_HASH))
        )
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.retry_delay_ms > 0


async def test_draining_answers_what_was_accepted_and_refuses_the_rest(
    running: Running, device: Device
) -> None:
    running.model.gate.close()
    health = health_pb2_grpc.HealthStub(running.channel)
    call = running.stub.Converse()
    await call.write(device.frame(question("accepted")))
    await running.until(lambda: running.server.engine.running == 1)
    draining = asyncio.create_task(running.server.drain())
    await running.until(lambda: running.server.engine.draining)
    checked = await health.Check(health_pb2.HealthCheckRequest(service="tokenlink.v1.TokenLink"))
    assert checked.status == health_pb2.HealthCheckResponse.NOT_SERVING
    code, _, failure = await refusal(device.ask(question("refused")))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert failure.retry_delay_ms > 0
    open_session = running.stub.OpenSession(pb.OpenSessionRequest(device_id="x", bundle_hash=BUNDLE_HASH))
    assert (await refusal(open_session))[0] is grpc.StatusCode.UNAVAILABLE
    running.model.gate.open()
    await asyncio.wait_for(draining, PATIENCE_S)
    frame = await call.read()
    while frame.HasField("delta"):
        frame = await call.read()
    assert frame.answer.text == "2"
    assert (await refusal(call.read()))[0] is grpc.StatusCode.UNAVAILABLE


async def test_the_bundle_is_given_in_chunks(running: Running) -> None:
    chunks = [chunk async for chunk in running.stub.GetBundle(pb.GetBundleRequest())]
    assert len(chunks) > 1
    assert {chunk.bundle_hash for chunk in chunks} == {BUNDLE_HASH}
    data = b"".join(chunk.data for chunk in chunks)
    assert len(data) == chunks[0].total_bytes
    assert data == bytes(range(256)) * 3000
    unknown = running.stub.GetBundle(pb.GetBundleRequest(bundle_hash="cd" * 32))
    assert (await refusal(unknown))[0] is grpc.StatusCode.NOT_FOUND


async def test_a_bundle_is_given_by_precision_or_by_hash(running: Running) -> None:
    for request in (
        pb.GetBundleRequest(precision="int8"),
        pb.GetBundleRequest(bundle_hash=SMALL_BUNDLE_HASH),
        pb.GetBundleRequest(bundle_hash=SMALL_BUNDLE_HASH, precision="int8"),
    ):
        (chunk,) = [chunk async for chunk in running.stub.GetBundle(request)]
        assert (chunk.bundle_hash, chunk.data) == (SMALL_BUNDLE_HASH, b"small")
    for request, field in (
        (pb.GetBundleRequest(precision="int2"), "precision"),
        (pb.GetBundleRequest(bundle_hash=BUNDLE_HASH, precision="int8"), "bundle_hash"),
    ):
        code, details, failure = await refusal(running.stub.GetBundle(request))
        assert (code, failure.field) == (grpc.StatusCode.NOT_FOUND, field)
        assert SMALL_BUNDLE_HASH in details
        assert BUNDLE_HASH in details


async def test_a_device_with_another_bundle_of_the_model_is_answered(running: Running) -> None:
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="small", bundle_hash=SMALL_BUNDLE_HASH, snr_db=10.0)
    )
    asked = question()
    asked.payloads.append(block(dtype="int4"))
    frames = [frame async for frame in Device(running, opened.session_id).ask(asked, SMALL_BUNDLE_HASH)]
    assert frames[-1].HasField("answer")


async def test_health_and_reflection_are_served(running: Running) -> None:
    health = health_pb2_grpc.HealthStub(running.channel)
    for service in ("", "tokenlink.v1.TokenLink"):
        checked = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert checked.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for reply in reflection.ServerReflectionInfo(iter([request])):
        names = {service.name for service in reply.list_services_response.service}
        assert {"tokenlink.v1.TokenLink", "grpc.health.v1.Health"} <= names
