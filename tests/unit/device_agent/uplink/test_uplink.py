"""The uplink against a real gRPC server whose every move is scripted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from device_agent.errors import (
    BundleError,
    BundleMismatchError,
    ConfigurationError,
    DeadlineError,
    OverloadedError,
    RefusedError,
    ServerUnreachableError,
    UplinkError,
)
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.download import receive_bundle
from device_agent.uplink.sane import MAX_WAITING_FRAMES
from device_agent.uplink.status import TryAgainError
from device_agent.uplink.stream import Conversation, Inbox
from device_agent.uplink.uplink import Uplink
from protos.metadata import FAILURE_KEY
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import (
    TokenLinkServicer,
    TokenLinkStub,
    add_TokenLinkServicer_to_server,
)
from tests.questions import question
from tests.waiting import obey, turns, until

HASH = "ab" * 32
Send = Callable[[pb.DownlinkFrame], Awaitable[None]]
Script = Callable[["Scripted", pb.UplinkFrame, Send, Any], Awaitable[None]]


def code_number(code: grpc.StatusCode) -> int:
    number: int = code.value[0]
    return number


def answer(request_id: str, text: str) -> pb.DownlinkFrame:
    return pb.DownlinkFrame(request_id=request_id, answer=pb.Answer(text=text, probability=0.5))


def delta(request_id: str, text: str) -> pb.DownlinkFrame:
    return pb.DownlinkFrame(request_id=request_id, delta=pb.AnswerDelta(text=text))


def failure(request_id: str, code: grpc.StatusCode, message: str = "no", **more: Any) -> pb.DownlinkFrame:
    return pb.DownlinkFrame(
        request_id=request_id, failure=pb.Failure(code=code_number(code), message=message, **more)
    )


class Scripted(TokenLinkServicer):
    """Does with the n-th question what the n-th script says; answers once they are used up."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.opened: list[pb.OpenSessionRequest] = []
        self.closed: list[str] = []
        self.questions: list[pb.UplinkFrame] = []
        self.cancels: list[str] = []
        self.streams = 0
        self.grant = pb.Grant(
            max_token_length=32,
            token_length=16,
            max_questions_in_flight=4,
            max_question_bytes=4096,
            bandwidth_hz=1e6,
            valid_s=3600,
        )
        self.refuse_open: list[tuple[grpc.StatusCode, str, pb.Failure | None]] = []
        self.bundle: list[pb.BundleChunk] = []
        self.session_id = self.current_bundle_hash = ""

    async def OpenSession(self, request: pb.OpenSessionRequest, context: Any) -> pb.OpenSessionResponse:  # noqa: N802
        self.opened.append(request)
        if self.refuse_open:
            code, details, sent = self.refuse_open.pop(0)
            metadata = ((FAILURE_KEY, sent.SerializeToString()),) if sent is not None else ()
            await context.abort(code, details, metadata)
        return pb.OpenSessionResponse(
            session_id=self.session_id or f"s{len(self.opened)}",
            current_bundle_hash=self.current_bundle_hash,
            grant=self.grant,
            server_version="1",
            model_name="m",
        )

    async def CloseSession(self, request: pb.CloseSessionRequest, context: Any) -> pb.CloseSessionResponse:  # noqa: N802
        self.closed.append(request.session_id)
        return pb.CloseSessionResponse()

    async def Converse(self, uplink: AsyncIterator[pb.UplinkFrame], context: Any) -> None:  # noqa: N802
        self.streams += 1
        turn = asyncio.Lock()

        async def send(frame: pb.DownlinkFrame) -> None:
            async with turn:
                await context.write(frame)

        running: set[asyncio.Task[None]] = set()
        cut: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def read() -> None:
            async for frame in uplink:
                if frame.WhichOneof("body") == "cancel":
                    self.cancels.append(frame.cancel.request_id)
                    continue
                self.questions.append(frame)
                script = self.scripts.pop(0) if self.scripts else answers
                running.add(asyncio.create_task(script(self, frame, send, cut)))

        reader = asyncio.create_task(read())
        try:
            await asyncio.wait([reader, cut], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reader, *running):
                task.cancel()
            await asyncio.gather(reader, *running, return_exceptions=True)
        if cut.done() and cut.exception() is not None:
            status = cut.exception()
            assert isinstance(status, CutError)
            await context.abort(status.code, "cut by the script")

    async def GetBundle(self, request: pb.GetBundleRequest, context: Any) -> AsyncIterator[pb.BundleChunk]:  # noqa: N802
        for chunk in self.bundle:
            yield chunk


class CutError(Exception):
    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code.name)
        self.code = code


async def answers(server: Scripted, frame: pb.UplinkFrame, send: Send, cut: Any) -> None:
    request_id = frame.question.request_id
    for piece in ("a vi", "olin"):
        await send(delta(request_id, piece))
    await send(answer(request_id, "a violin"))


async def silent(server: Scripted, frame: pb.UplinkFrame, send: Send, cut: Any) -> None:
    await asyncio.Event().wait()


def fails(code: grpc.StatusCode, message: str = "no", **more: Any) -> Script:
    async def script(server: Scripted, frame: pb.UplinkFrame, send: Send, cut: Any) -> None:
        await send(failure(frame.question.request_id, code, message, **more))

    return script


def cuts(code: grpc.StatusCode, after: tuple[str, ...] = ()) -> Script:
    async def script(server: Scripted, frame: pb.UplinkFrame, send: Send, cut: Any) -> None:
        for piece in after:
            await send(delta(frame.question.request_id, piece))
        cut.set_exception(CutError(code))

    return script


Start = Callable[..., Awaitable[tuple[Scripted, Uplink]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a scripted server and an uplink to it, whose waits are noted down instead of waited for."""
    servers: list[grpc.aio.Server] = []
    uplinks: list[Uplink] = []

    async def begin(*scripts: Script, **options: Any) -> tuple[Scripted, Uplink]:
        servicer = Scripted(*scripts)
        server = grpc.aio.server()
        add_TokenLinkServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        settings: dict[str, Any] = {"device_id": "d", "rng": random.Random(0), "sleep": no_wait} | options
        uplink = Uplink(f"127.0.0.1:{port}", HASH, **settings)
        uplinks.append(uplink)
        return servicer, uplink

    yield begin
    for uplink in uplinks:
        await uplink.close()
    for server in servers:
        await server.stop(None)


async def no_wait(seconds: float) -> None:
    await turns()


async def test_a_question_is_answered_and_its_pieces_come_in_order(start: Start) -> None:
    server, uplink = await start()
    pieces: list[str] = []
    reply = await uplink.ask(question(), on_delta=pieces.append)
    assert reply.answer.text == "a violin"
    assert pieces == ["a vi", "olin"]
    assert reply.tries == 1
    frame = server.questions[0]
    assert (frame.session_id, frame.bundle_hash) == ("s1", HASH)
    assert reply.bytes_on_wire == frame.ByteSize()
    assert server.opened[0].device_id == "d"
    assert server.opened[0].bundle_hash == HASH


async def test_an_answer_without_an_end_ends(start: Start) -> None:
    async def floods(server: Scripted, frame: pb.UplinkFrame, send: Send, cut: Any) -> None:
        for _ in range(1000):
            await send(delta(frame.question.request_id, "x" * 100_000))

    _, uplink = await start(floods)
    with pytest.raises(UplinkError, match="without an end"):
        await uplink.ask(question())
    # The next one is answered.
    assert (await uplink.ask(question("q2"))).answer.text == "a violin"


async def test_what_is_granted_passes_through_bounds(start: Start) -> None:
    server, uplink = await start()
    server.grant.bandwidth_hz = 1e-9
    server.grant.valid_s = float("inf")
    grant = (await uplink.open()).grant
    assert grant.bandwidth_hz >= 1.0
    assert grant.valid_s < 1e7


async def test_many_questions_share_one_session_and_one_stream(start: Start) -> None:
    order: list[str] = []
    second_came = asyncio.Event()

    async def waits_for_the_second(server: Scripted, frame: pb.UplinkFrame, send: Send, cut: Any) -> None:
        await second_came.wait()
        await answers(server, frame, send, cut)

    async def lets_the_first_go(server: Scripted, frame: pb.UplinkFrame, send: Send, cut: Any) -> None:
        await answers(server, frame, send, cut)
        second_came.set()

    server, uplink = await start(waits_for_the_second, lets_the_first_go)

    async def ask(request_id: str) -> None:
        await uplink.ask(question(request_id))
        order.append(request_id)

    await asyncio.gather(ask("q1"), ask("q2"))
    assert order == ["q2", "q1"]
    assert (len(server.opened), server.streams) == (1, 1)


async def test_no_more_questions_are_in_flight_than_granted(start: Start) -> None:
    most = now = 0
    filled = asyncio.Event()

    async def counts(server: Scripted, frame: pb.UplinkFrame, send: Send, cut: Any) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        if now == server.grant.max_questions_in_flight:
            filled.set()
        await filled.wait()
        await turns(100)  # in which one too many would come
        now -= 1
        await answers(server, frame, send, cut)

    server, uplink = await start(*[counts] * 12)
    await asyncio.gather(*(uplink.ask(question(f"q{number}")) for number in range(12)))
    assert most == server.grant.max_questions_in_flight
    assert not server.scripts


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN]
)
async def test_a_cut_stream_is_reopened_and_the_same_question_sent_again(
    start: Start, code: grpc.StatusCode
) -> None:
    server, uplink = await start(cuts(code, after=("a v",)))
    pieces: list[str] = []
    reply = await uplink.ask(question(), on_delta=pieces.append)
    assert reply.tries == 2
    assert server.streams == 2
    assert server.questions[0].question == server.questions[1].question  # unchanged: the idempotency key's
    assert "".join(pieces) == "a violin"  # nothing shown twice
    assert len(server.opened) == 1  # the session outlives the stream


async def test_a_cut_stream_hits_all_its_questions_and_all_are_answered(start: Start) -> None:
    server, uplink = await start(silent, silent, cuts(grpc.StatusCode.UNAVAILABLE))
    replies = await asyncio.gather(*(uplink.ask(question(f"q{number}")) for number in range(3)))
    assert [reply.answer.text for reply in replies] == ["a violin"] * 3
    assert server.streams == 2


async def test_overload_is_waited_out_as_long_as_the_server_says(start: Start) -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    exhausted = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full", retry_delay_ms=1500)
    _, uplink = await start(exhausted, exhausted, sleep=note, backoff=Backoff(base_s=0.2))
    reply = await uplink.ask(question())
    assert reply.tries == 3
    assert len(waits) == 2
    assert 1.5 <= waits[0] <= 1.7
    assert 1.5 <= waits[1] <= 1.9


async def test_lasting_overload_ends_in_its_own_error(start: Start) -> None:
    exhausted = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full", retry_delay_ms=1)
    server, uplink = await start(*[exhausted] * 10, backoff=Backoff(retries=2))
    with pytest.raises(OverloadedError, match="queue full"):
        await uplink.ask(question())
    assert len(server.questions) == 3


async def test_a_lost_session_is_opened_again(start: Start) -> None:
    lost = fails(grpc.StatusCode.NOT_FOUND, "no session", field="session_id")
    server, uplink = await start(lost)
    reply = await uplink.ask(question())
    assert reply.answer.text == "a violin"
    assert [frame.session_id for frame in server.questions] == ["s1", "s2"]


async def test_a_grant_is_renewed_before_it_runs_out(start: Start) -> None:
    now = 0.0
    server, uplink = await start(clock=lambda: now)
    server.grant.valid_s = 100.0
    await uplink.ask(question("q1"))
    now = 89.0
    await uplink.ask(question("q2"))
    assert len(server.opened) == 1
    now = 91.0
    await uplink.ask(question("q3"))
    assert len(server.opened) == 2


async def test_a_channel_that_changed_is_reported_and_the_grant_follows(start: Start) -> None:
    server, uplink = await start()
    await uplink.open(10.0)
    await uplink.open(10.5)  # no grant would change for that
    assert [request.snr_db for request in server.opened] == [10.0]
    server.grant.token_length = 32
    assert (await uplink.open(-3.0)).grant.token_length == 32
    await uplink.ask(question())
    assert [request.snr_db for request in server.opened] == [10.0, -3.0]


async def test_a_question_keeps_the_bundle_that_made_its_tokens(start: Start) -> None:
    server, uplink = await start(cuts(grpc.StatusCode.UNAVAILABLE))
    first = uplink.bundle_hash
    asking = asyncio.create_task(uplink.ask(question("q1")))
    await until(lambda: bool(server.questions))
    uplink.adopt("cd" * 32)
    await asking
    await uplink.ask(question("q2"))
    assert [frame.bundle_hash for frame in server.questions] == [first, first, "cd" * 32]
    assert server.opened[-1].bundle_hash == "cd" * 32


async def test_a_grant_that_shrinks_holds_for_the_questions_that_come(start: Start) -> None:
    release = asyncio.Event()
    most = running = 0

    async def slow(server: Scripted, frame: pb.UplinkFrame, send: Any, cut: Any) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1
        await answers(server, frame, send, cut)

    server, uplink = await start(*[slow] * 4)
    await uplink.open(10.0)
    server.grant.max_questions_in_flight = 1
    await uplink.open(0.0)
    asking = [asyncio.create_task(uplink.ask(question(f"q{n}"))) for n in range(4)]
    await until(lambda: bool(server.questions))
    release.set()
    await asyncio.gather(*asking)
    assert most == 1


@pytest.mark.parametrize("where", ["open", "question"])
async def test_another_bundle_is_a_clear_error_that_says_what_to_do(start: Start, where: str) -> None:
    mismatch = (grpc.StatusCode.FAILED_PRECONDITION, "device runs ab, server answers for cd")
    server, uplink = await start(*([fails(*mismatch)] if where == "question" else []))
    if where == "open":
        server.refuse_open.append((*mismatch, None))
    with pytest.raises(BundleMismatchError, match=r"server answers for cd\n.*device-agent pull"):
        await uplink.ask(question())


async def test_a_refused_question_names_its_field_and_is_not_sent_again(start: Start) -> None:
    refusal = fails(grpc.StatusCode.INVALID_ARGUMENT, "is 99", field="payloads[0].dtype")
    server, uplink = await start(refusal)
    with pytest.raises(RefusedError, match=r"payloads\[0\]\.dtype: is 99") as refused:
        await uplink.ask(question())
    assert refused.value.field == "payloads[0].dtype"
    assert len(server.questions) == 1
    assert (await uplink.ask(question("q2"))).answer.text == "a violin"  # the stream lives on
    assert server.streams == 1


async def test_a_failure_of_the_model_is_not_tried_again(start: Start) -> None:
    server, uplink = await start(fails(grpc.StatusCode.INTERNAL, "the model failed"))
    with pytest.raises(UplinkError, match="the model failed"):
        await uplink.ask(question())
    assert len(server.questions) == 1


async def test_a_question_without_an_answer_in_time_is_taken_back(start: Start) -> None:
    server, uplink = await start(silent)
    with pytest.raises(DeadlineError, match=r"within 0\.2 s"):
        await uplink.ask(question(), deadline_s=0.2)
    await uplink.ask(question("q2"))
    assert server.cancels == ["q1"]


async def test_cancelling_takes_the_question_back_and_leaves_the_others(start: Start) -> None:
    server, uplink = await start(silent)
    first = asyncio.create_task(uplink.ask(question("q1")))
    await until(lambda: bool(server.questions))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await uplink.ask(question("q2"))).answer.text == "a violin"
    assert server.cancels == ["q1"]


async def test_an_answered_question_is_not_cancelled(start: Start) -> None:
    server, uplink = await start()
    await uplink.ask(question())
    await uplink.close()
    assert server.cancels == []
    assert server.closed == ["s1"]


async def test_an_unreachable_server_is_an_error_after_all_retries() -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    async with Uplink("127.0.0.1:1", HASH, device_id="d", sleep=note, backoff=Backoff(retries=3)) as uplink:
        with pytest.raises(ServerUnreachableError, match=r"127\.0\.0\.1:1"):
            await uplink.ask(question())
    assert len(waits) == 3


async def test_a_server_that_comes_up_late_is_reached(start: Start) -> None:
    server, uplink = await start()
    draining = pb.Failure(code=code_number(grpc.StatusCode.UNAVAILABLE), message="draining", retry_delay_ms=5)
    server.refuse_open += [(grpc.StatusCode.UNAVAILABLE, "draining", draining)] * 2
    assert (await uplink.ask(question())).answer.text == "a violin"
    assert len(server.opened) == 3


async def test_something_that_is_no_edge_server_is_named() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Uplink(f"127.0.0.1:{port}", HASH, device_id="d") as uplink:
            with pytest.raises(UplinkError, match="is it an edge server"):
                await uplink.open()
    finally:
        await server.stop(None)


async def test_a_question_larger_than_granted_is_not_sent(start: Start) -> None:
    server, uplink = await start()
    server.grant.max_question_bytes = 100
    with pytest.raises(ConfigurationError, match="100 are granted"):
        await uplink.ask(question(question_ids=range(1, 201)))
    assert server.questions == []


async def test_a_bundle_is_fetched_whole_or_not_at_all(start: Start, tmp_path: Path) -> None:
    archive = tmp_path / "bundle.tar"
    server, uplink = await start()
    server.bundle = [pb.BundleChunk(bundle_hash=HASH, total_bytes=6, data=part) for part in (b"abc", b"def")]
    await uplink.fetch_bundle(archive)
    assert archive.read_bytes() == b"abcdef"
    with pytest.raises(BundleError, match=r"6 bytes of bundle; at most 5 are taken \(bundle_max_bytes\)"):
        await uplink.fetch_bundle(archive, max_bytes=5)
    server.bundle.append(pb.BundleChunk(bundle_hash=HASH, total_bytes=7, data=b"g"))
    with pytest.raises(BundleError, match="announces 6 bytes, then 7"):
        await uplink.fetch_bundle(archive)
    del server.bundle[1:]
    with pytest.raises(BundleError, match="announced 6 bytes of bundle, sent 3"):
        await uplink.fetch_bundle(archive)


@pytest.mark.parametrize("data", [b"", b"x"])
async def test_a_bundle_that_dribbles_is_given_up(tmp_path: Path, data: bytes) -> None:
    async def dribble() -> AsyncIterator[pb.BundleChunk]:
        while True:
            await obey(0.01)
            yield pb.BundleChunk(total_bytes=2**30, data=data)

    with (tmp_path / "bundle.tar").open("wb") as file, pytest.raises(TryAgainError, match="stopped sending"):
        await receive_bundle(dribble(), file, "evil:1", 2**31, stalled_s=0.1)


Address = str


@pytest.fixture
async def nonsense() -> AsyncIterator[Address]:
    """A server that answers every call with bytes that are no message."""

    async def once(request: bytes, context: Any) -> bytes:
        return b"\xff" * 9

    async def stream(requests: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"\xff" * 9

    handlers = {
        "OpenSession": grpc.unary_unary_rpc_method_handler(once),
        "GetBundle": grpc.unary_stream_rpc_method_handler(stream),
        "Converse": grpc.stream_stream_rpc_method_handler(stream),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tokenlink.v1.TokenLink", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def test_what_is_no_message_is_told_as_that(nonsense: Address, tmp_path: Path) -> None:
    async with Uplink(nonsense, HASH, device_id="d", backoff=Backoff(retries=0)) as uplink:
        with pytest.raises(UplinkError, match="sends what is no message"):
            await uplink.open()
        with pytest.raises(UplinkError, match="sends what is no message"):
            await uplink.fetch_bundle(tmp_path / "bundle.tar")


async def test_a_stream_of_what_is_no_message_ends_the_question(nonsense: Address) -> None:
    async with grpc.aio.insecure_channel(nonsense) as channel:
        stub = TokenLinkStub(channel)  # type: ignore[no-untyped-call]
        conversation = Conversation(stub.Converse(), nonsense)
        with pytest.raises(TryAgainError, match="sends what is no message"):
            async for _ in conversation.frames(pb.UplinkFrame(question=question())):
                pass
        assert conversation.ended


async def test_an_answer_without_an_end_is_cut(start: Start) -> None:
    async def endless(server: Scripted, frame: pb.UplinkFrame, send: Send, context: Any) -> None:
        while True:
            await send(delta(frame.question.request_id, "A" * 100_000))

    _, uplink = await start(endless, endless)
    shown: list[str] = []
    with pytest.raises(UplinkError, match=r"without an end|more than can be taken in"):
        await uplink.ask(question(), on_delta=shown.append)
    assert sum(map(len, shown)) <= 1_000_000
    with pytest.raises(UplinkError, match=r"without an end|more than can be taken in"):
        await uplink.ask(question())


async def test_frames_that_nobody_takes_do_not_pile_up() -> None:
    inbox = Inbox("evil:1")
    for _ in range(100_000):
        inbox.put(delta("q", ""))
    taken = [await inbox.take() for _ in range(MAX_WAITING_FRAMES + 1)]
    assert isinstance(taken[-1], UplinkError)
    assert inbox.empty


@pytest.mark.parametrize(
    ("name", "value"), [("session_id", "x" * 100_000), ("current_bundle_hash", "../../etc/passwd")]
)
async def test_names_of_a_session_are_what_they_have_to_be(start: Start, name: str, value: str) -> None:
    server, uplink = await start()
    setattr(server, name, value)
    if name == "session_id":
        with pytest.raises(UplinkError, match="session_id of 100000 characters"):
            await uplink.open()
    else:
        assert (await uplink.open()).current_bundle_hash == ""


def test_jitter_is_full_and_grows_to_its_cap() -> None:
    backoff = Backoff(base_s=1.0, cap_s=4.0)
    rng = random.Random(0)
    for retry, most in ((1, 1.0), (2, 2.0), (3, 4.0), (9, 4.0)):
        delays = [backoff.delay_s(retry, rng) for _ in range(2000)]
        assert 0.0 <= min(delays) < 0.02 * most
        assert 0.98 * most < max(delays) <= most
    assert min(backoff.delay_s(1, rng, floor_s=3.0) for _ in range(100)) >= 3.0
