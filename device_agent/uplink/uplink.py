"""The gRPC client: a session that is kept alive, one stream, many questions.

ask ─▶ slot free? ─▶ session (open, renew) ─▶ Converse ─▶ deltas ─▶ Answer
  ▲                                              │
  └── full jitter ◀── cut, full, session lost ◀──┘      a question is sent again under its request_id
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import grpc
import grpc.aio

from device_agent.bundle.acceptance import MAX_BUNDLE_BYTES
from device_agent.errors import (
    ConfigurationError,
    DeadlineError,
    DeviceAgentError,
    UplinkError,
)
from device_agent.lasting import boot_clock
from device_agent.progressive import More
from device_agent.tracing import NotTraced, Tracing
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.credentials import Credentials, Renews
from device_agent.uplink.download import receive_bundle
from device_agent.uplink.proxy import proxy_options
from device_agent.uplink.sane import (
    MAX_ANSWER_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_REQUESTS,
    sane_answer,
    sane_grant,
    sane_hash,
    sane_name,
    sane_time_s,
)
from device_agent.uplink.session import Reply, Session
from device_agent.uplink.status import TryAgainError, error_of_call, error_of_failure, heard
from device_agent.uplink.stream import Conversation
from device_agent.version import agent_version
from protos import keepalive
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub

CALL_TIMEOUT_S = 10.0
"""For one try of a short call."""
FETCH_WITHIN_S = 3600.0
"""A bundle that takes longer than this in all is given up [s]."""
RENEWING_S, RETIRED_S = 3.0, 600.0
"""How long closing waits for another certificate, and how long an old connection is kept for answers [s]."""
RENEW_MARGIN = 0.1
"""The last part of a grant's validity in which it is renewed before it is used."""
REPORT_STEP_DB = 1.0
"""An SNR that moved by less since it was reported changes no grant worth a round trip [dB]."""

_CHANNEL_OPTIONS = (
    *keepalive.DEVICE_OPTIONS,
    # Our own backoff decides when to try; the channel must not make it wait longer.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Despite its name, how long a connection may take to come about: several round trips of a slow link.
    ("grpc.min_reconnect_backoff_ms", 5_000),
)

_Result = TypeVar("_Result")


class Uplink:
    """A device's connection to an edge server; an asynchronous context manager.

    Args:
        server: address, ``host:port``.
        bundle_hash: of the bundle that makes the tokens.
        device_id: what to call ourselves; no two agents at once may use the same.
        snr_db: what the device measures, told when a session is opened [dB].
        keep_session: leave the session to its grant's end: this device comes back under the same id.
        backoff: how often and when to try again.
        on_trouble: told what went wrong each time something is tried again.
        credentials: for TLS; None: the link is not encrypted.
        renews: gets other credentials when it is time, or these are refused; None: nobody does.
        use_proxy: go through the proxy that the environment names; None: not to this machine and its
            neighbours.
        tracing: told how long a question was on its way; None: nobody.
        rng: jitter.
        clock: monotonic seconds; those of sleep count too: a grant ends with its time, whatever slept.
        sleep: waits that many seconds.
        lasting: seconds, by the clock that says when shared windows began.
    """

    def __init__(
        self,
        server: str,
        bundle_hash: str,
        *,
        device_id: str,
        snr_db: float = 10.0,
        keep_session: bool = False,
        backoff: Backoff | None = None,
        on_trouble: Callable[[DeviceAgentError], None] = lambda error: None,
        credentials: Credentials | None = None,
        renews: Renews | None = None,
        use_proxy: bool | None = None,
        tracing: Tracing | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = boot_clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        lasting: Callable[[], float] = time.time,
    ) -> None:
        self._lasting = lasting
        self.server = server
        self.bundle_hash = bundle_hash
        self._device_id = device_id
        self._snr_db = snr_db
        self._keep_session = keep_session
        self._backoff = backoff or Backoff()
        self._on_trouble = on_trouble
        self._credentials = credentials
        self._renews = renews
        self._renewing: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._use_proxy = use_proxy
        self._tracing = tracing or NotTraced()
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)
        self._clock = clock
        self._sleep = sleep
        self._channel: grpc.aio.Channel | None = None
        self._session: Session | None = None
        self._in_flight = 0
        self._slot_freed = asyncio.Event()
        self._conversation: Conversation | None = None
        self._opening = asyncio.Lock()
        self._farewells: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Uplink:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self, snr_db: float | None = None) -> Session:
        """The session, opened or renewed if need be, with retries.

        Args:
            snr_db: what the device measures now; a change is reported, and may change the grant [dB].

        Raises:
            BundleMismatchError: the server answers for another bundle.
            UplinkError, RefusedError: it cannot be had.
        """
        if snr_db is not None and abs(snr_db - self._snr_db) >= REPORT_STEP_DB:
            self._snr_db = snr_db
        return await self._retrying(self._open_session)

    async def ask(
        self,
        question: pb.Question,
        *,
        bundle_hash: str = "",
        deadline_s: float = 30.0,
        on_delta: Callable[[str], None] | None = None,
        more: More | None = None,
    ) -> Reply:
        """Ask, and wait for the answer. Cancelling this takes the question back at the server.

        Args:
            question: with its request_id; sent again unchanged after a cut.
            bundle_hash: of the bundle that made its tokens; empty: the present one.
            deadline_s: for all tries together [s].
            on_delta: called with each new piece of the answer's text, once, whatever was sent twice.
            more: makes what the server asks for further, of a question in rounds; what it raises ends this.

        Raises:
            ConfigurationError: the question is larger than granted.
            DeadlineError: no answer in time.
            BundleMismatchError, UplinkError, RefusedError: no answer at all.
        """
        started_s = self._clock()
        # As it is now: the device may have changed to another bundle by the next try.
        if not question.scenes:
            bundle_hash = bundle_hash or self.bundle_hash
        tries = 0
        bytes_on_wire = 0
        shown: list[str] = []
        requested = _Requested(self.server, more)

        async def once() -> pb.Answer:
            nonlocal tries, bytes_on_wire
            session = await self._open_session()
            frame = _frame(session, bundle_hash, question)
            tries, bytes_on_wire = tries + 1, frame.ByteSize()
            frame.traceparent = self._tracing.traceparent()
            if question.HasField("share"):
                frame.sent_at_s = self._lasting()
            show = None if on_delta is None else _Showing(shown, on_delta)
            characters = 0
            async with contextlib.aclosing(self._answer_frames(session, frame, requested)) as downlink:
                async for received in downlink:
                    match received.WhichOneof("body"):
                        case "delta":
                            characters += len(received.delta.text)
                            if characters > MAX_ANSWER_CHARACTERS:
                                raise UplinkError(f"{self.server} sends an answer without an end")
                            if show is not None:
                                show(received.delta.text)
                        case "answer":
                            return sane_answer(received.answer)
                        case "failure":
                            raise error_of_failure(received.failure)
            raise TryAgainError(UplinkError("the stream ended without an answer"))

        try:
            with self._tracing.span("uplink", request_id=question.request_id):
                async with asyncio.timeout(deadline_s), self._granted_slot():
                    answer = await self._retrying(once)
        except TimeoutError as error:
            raise DeadlineError(f"no answer from {self.server} within {deadline_s:g} s") from error
        return Reply(
            answer,
            bytes_on_wire + requested.sent_bytes,
            self._clock() - started_s,
            tries,
            tuple(requested.sent),
            requested.bytes,
        )

    def adopt(self, bundle_hash: str) -> None:
        """The device runs this bundle from now on; the session tells the server so when it is next needed."""
        self.bundle_hash = bundle_hash
        self._session = None

    async def acknowledge(self, request_ids: Sequence[str]) -> bool:
        """Tell the server that these answers are safe here, if there is a stream to tell it over.

        Args:
            request_ids: at most 1024.

        Returns:
            Whether it was sent. One that is lost on its way costs the server memory for a while, no more.
        """
        conversation, session = self._conversation, self._session
        if conversation is None or conversation.ended or session is None:
            return False
        frame = pb.UplinkFrame(
            session_id=session.session_id, acknowledge=pb.Acknowledge(request_ids=request_ids)
        )
        try:
            await conversation.send(frame)
        except (TryAgainError, DeviceAgentError):
            return False
        return True

    def tell_late(self, deadline_s: float, encode_s: float) -> None:
        """Tell the server of a question that was given up before it was sent, if there is a session.

        It is on its way when this returns. One that is lost costs the cell what it would have reckoned with.

        Args:
            deadline_s: of the question, from when it was asked [s].
            encode_s: what making its tokens takes; where they were not done in time, the deadline [s].
        """
        session = self._session
        if session is not None:
            late = pb.Late(deadline_ms=round(deadline_s * 1000), encode_ms=round(encode_s * 1000))
            frame = pb.UplinkFrame(session_id=session.session_id, bundle_hash=self.bundle_hash, late=late)
            self._bid_farewell(self._say(frame))

    async def _say(self, frame: pb.UplinkFrame) -> None:
        with contextlib.suppress(TryAgainError, DeviceAgentError):
            await self._stream().send(frame)

    def _stream(self) -> Conversation:
        if self._conversation is None or self._conversation.ended:
            self._conversation = Conversation(self._stub().Converse(), self.server, self._regranted)
        return self._conversation

    def _bid_farewell(self, farewell: Coroutine[None, None, None]) -> None:
        """Say something to which nothing comes back, while whoever asked goes on."""
        task = asyncio.create_task(farewell)
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    async def fetch_bundle(
        self,
        into: Path,
        bundle_hash: str = "",
        precision: str = "",
        *,
        model: str = "",
        max_bytes: int = MAX_BUNDLE_BYTES,
        within_s: float = FETCH_WITHIN_S,
    ) -> None:
        """The archive of a device bundle, into a file; not yet verified.

        Args:
            into: is written; what it held is lost.
            bundle_hash: which; empty: the server's current one.
            precision: what its encoders compute with; empty: fp32, or what the hash names.
            model: whose, by name; empty: the server's first, or what the hash names.
            max_bytes: the most that is taken in.
            within_s: for all tries together [s].

        Raises:
            BundleError: larger than that, or other bytes than were announced.
            DeadlineError: it is not here in time.
            UplinkError, RefusedError: it cannot be had.
            OSError: the file cannot be written.
        """
        request = pb.GetBundleRequest(bundle_hash=bundle_hash, precision=precision, model=model)

        async def once() -> None:
            with into.open("wb") as file:
                try:
                    await receive_bundle(self._stub().GetBundle(request), file, self.server, max_bytes)
                except grpc.aio.AioRpcError as error:
                    raise error_of_call(error, self.server) from error

        try:
            async with asyncio.timeout(within_s):
                await self._retrying(once)
        except TimeoutError as error:
            raise DeadlineError(f"no bundle from {self.server} within {within_s:g} s") from error

    async def close(self) -> None:
        """Close session, stream and connection. Closing twice is harmless."""
        renewing = self._renewing
        if renewing is not None:
            await asyncio.wait([renewing], timeout=RENEWING_S)
            renewing.cancel()
        if self._farewells:
            await asyncio.wait(self._farewells, timeout=1.0)
        for task in self._retiring:
            task.cancel()
        if self._retiring:
            await asyncio.wait(self._retiring)
        if self._conversation is not None:
            await self._conversation.close()
            self._conversation = None
        if self._session is not None and not self._keep_session:
            request = pb.CloseSessionRequest(session_id=self._session.session_id)
            # A courtesy: sessions expire by themselves.
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self._stub().CloseSession(request, timeout=1.0)
        self._session = None
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None

    def _stub(self) -> TokenLinkStub:
        if self._channel is None:
            options = (*_CHANNEL_OPTIONS, *proxy_options(self.server, self._use_proxy))
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self.server, options=options)
            else:
                self._channel = grpc.aio.secure_channel(
                    self.server,
                    self._credentials.channel_credentials(),
                    options=(*options, *self._credentials.channel_options()),
                )
        return TokenLinkStub(self._channel)  # type: ignore[no-untyped-call]

    async def _open_session(self) -> Session:
        async with self._opening:
            session = self._session
            snr_db = self._snr_db
            if session is not None and session.snr_db == snr_db and self._clock() < session.renew_at_s:
                return session
            request = pb.OpenSessionRequest(
                device_id=self._device_id,
                bundle_hash=self.bundle_hash,
                agent_version=agent_version(),
                snr_db=snr_db,
            )
            response = await self._opened(request)
            grant = sane_grant(response.grant)
            if len(response.session_id) > MAX_NAME_CHARACTERS:
                raise UplinkError(
                    f"{self.server} gives a session_id of {len(response.session_id)} characters"
                )
            self._session = Session(
                session_id=response.session_id,
                grant=grant,
                server_version=sane_name(response.server_version),
                model_name=sane_name(response.model_name),
                server_time_s=sane_time_s(response.server_time_s),
                renew_at_s=self._clock() + grant.valid_s * (1.0 - RENEW_MARGIN),
                snr_db=snr_db,
                current_bundle_hash=sane_hash(response.current_bundle_hash),
            )
            return self._session

    async def _opened(self, request: pb.OpenSessionRequest) -> pb.OpenSessionResponse:
        """The server's answer; with other credentials, where these are refused and others can be had."""
        while True:
            try:
                answered = await self._stub().OpenSession(request, timeout=CALL_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                found = error_of_call(error, self.server)
                cause = found.cause if isinstance(found, TryAgainError) else found
                if self._renews is not None and self._renews.may_help(cause):
                    fresh = await self._renews.renew()
                    if fresh is not None:
                        self._show(fresh)
                        continue
                raise found from error
            response: pb.OpenSessionResponse = heard(answered, self.server)
            server_time_s = sane_time_s(response.server_time_s)
            if self._renews is not None and self._renewing is None and self._renews.is_due(server_time_s):
                # What is asked meanwhile goes on with the present ones, which are good for a while.
                self._renewing = asyncio.create_task(self._renew(self._renews))
            return response

    async def _renew(self, renews: Renews) -> None:
        fresh = await renews.renew()
        self._renewing = None
        if fresh is not None:
            self._show(fresh)

    def _show(self, credentials: Credentials) -> None:
        """Connect anew with other credentials; what is under way arrives over the old connection."""
        self._credentials = credentials
        channel, conversation = self._channel, self._conversation
        self._channel = self._conversation = self._session = None
        if channel is not None:
            task = asyncio.create_task(_retire(channel, conversation))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def _regranted(self, update: pb.GrantUpdate) -> None:
        """What is made ready from now on goes by this grant."""
        session = self._session
        if session is not None and session.session_id == update.session_id:
            grant = sane_grant(update.grant)
            renew_at_s = self._clock() + grant.valid_s * (1.0 - RENEW_MARGIN)
            self._session = replace(session, grant=grant, renew_at_s=min(renew_at_s, session.renew_at_s))
            self._slot_freed.set()

    @contextlib.asynccontextmanager
    async def _granted_slot(self) -> AsyncGenerator[None, None]:
        """One of the questions that the grant, which may change meanwhile, allows in flight."""
        await self._retrying(self._open_session)
        while self._in_flight >= self._slots_granted():
            self._slot_freed.clear()
            await self._slot_freed.wait()
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._slot_freed.set()

    def _slots_granted(self) -> int:
        # Between two sessions there is no grant; the next question finds out what the new one allows.
        return 1 if self._session is None else max(1, self._session.grant.max_questions_in_flight)

    async def _answer_frames(
        self, session: Session, frame: pb.UplinkFrame, requested: _Requested
    ) -> AsyncGenerator[pb.DownlinkFrame, None]:
        conversation = self._stream()
        over = False
        try:
            async with contextlib.aclosing(conversation.frames(frame)) as frames:
                async for received in frames:
                    if received.WhichOneof("body") == "wanted":
                        # Over the stream that asked: on another nobody would know what it is of.
                        await conversation.send(await requested.answered(frame, received))
                        continue
                    over = received.WhichOneof("body") in ("answer", "failure")
                    yield received
        finally:
            if not over and not conversation.ended:
                # Whoever asked is gone, or going; the slot in the server's batch should go too. A task,
                # because nothing may be awaited for long while being cancelled.
                self._bid_farewell(
                    conversation.cancel(session.session_id, frame.bundle_hash, frame.question.request_id)
                )

    async def _retrying(self, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        retry = 0
        while True:
            try:
                return await attempt()
            except TryAgainError as again:
                retry += 1
                if again.reopen:
                    self._session = None
                if retry > self._backoff.retries:
                    raise again.cause from again
                self._on_trouble(again.cause)
                await self._sleep(self._backoff.delay_s(retry, self._rng, again.floor_s))


async def _retire(channel: grpc.aio.Channel, conversation: Conversation | None) -> None:
    """Close a connection when nothing is under way over it any more."""
    try:
        if conversation is not None:
            async with asyncio.timeout(RETIRED_S):
                await conversation.idle()
    except TimeoutError:
        pass
    finally:
        if conversation is not None:
            await conversation.close()
        await channel.close(None)


class _Requested:
    """Answers the requests for more of one question, and counts what that takes.

    Args:
        server: its address, for messages.
        more: makes what is asked for; None: nothing can be had.
    """

    def __init__(self, server: str, more: More | None) -> None:
        self._server, self._more = server, more
        self.sent: list[tuple[pb.TokenPayload, ...]] = []
        self.sent_bytes = 0
        self.bytes = 0

    async def answered(self, frame: pb.UplinkFrame, request: pb.DownlinkFrame) -> pb.UplinkFrame:
        """What goes up for a request.

        Raises:
            UplinkError: there are more requests than a question can have.
        """
        if len(self.sent) >= MAX_REQUESTS:
            raise UplinkError(f"{self._server} asks for more without an end")
        made = () if self._more is None else tuple(await self._more(request.wanted))
        answer = pb.UplinkFrame(
            session_id=frame.session_id,
            bundle_hash=frame.bundle_hash,
            more=pb.More(request_id=frame.question.request_id, round=request.wanted.round, payloads=made),
        )
        self.sent.append(made)
        self.bytes += request.ByteSize()
        self.sent_bytes += answer.ByteSize()
        return answer


class _Showing:
    """Hands on the text of one try, but for what an earlier try showed of it.

    Args:
        shown: the pieces that were handed on so far; goes on to be filled.
        on_delta: gets new ones.
    """

    def __init__(self, shown: list[str], on_delta: Callable[[str], None]) -> None:
        self._shown, self._on_delta = shown, on_delta
        self._before = "".join(shown)
        self._position = 0
        self._same = True

    def __call__(self, text: str) -> None:
        known = self._before[self._position : self._position + len(text)]
        # A repeated question is answered from its start again; one that goes another way is not shown.
        self._same = self._same and text.startswith(known)
        self._position += len(text)
        if self._same and len(text) > len(known):
            self._shown.append(text[len(known) :])
            self._on_delta(text[len(known) :])


def _frame(session: Session, bundle_hash: str, question: pb.Question) -> pb.UplinkFrame:
    granted = session.grant.max_question_bytes
    if granted and question.ByteSize() > granted:
        raise ConfigurationError(
            f"the question takes {question.ByteSize()} bytes, {granted} are granted; "
            "use fewer tokens (--token-length) or --payload int4"
        )
    return pb.UplinkFrame(session_id=session.session_id, bundle_hash=bundle_hash, question=question)
