"""From a clip to an answer: the device's half of the link, put together.

Clip ─▶ Transmitter ─▶ x_TC ─▶ Channel ─▶ payload ─▶ Pacer ─▶ Uplink ─▶ Outcome (answer, Cost)
question ─▶ language token ids ─────────────────────────────────┘
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

import numpy as np

from device_agent.channel import Channel, Pacer, SnrTrace
from device_agent.config import DeviceSettings
from device_agent.deadline import Deadline
from device_agent.errors import ConfigurationError, DeadlineError, RefusedError, TooSlowError
from device_agent.media.clip import Clip, MediaSpec
from device_agent.outcome import Outcome, Prepared, about, outcome_of
from device_agent.progressive import Delta, Ladder, More, Reserve, in_order, media_of
from device_agent.stopping import Stop
from device_agent.tracing import NotTraced, Tracing, traced
from device_agent.transmitter import Tokens, Transmitter
from device_agent.updating import Updater
from device_agent.uplink.session import Session
from device_agent.uplink.uplink import Uplink
from protos import payload, token_snr
from protos.names import CHANNEL_MODELS, FADINGS, PRIORITIES, clamp_snr_db
from protos.tokenlink.v1 import tokenlink_pb2 as pb

logger = logging.getLogger(__name__)

# What is usual is left out, and takes no bytes.
_PRIORITIES = {**PRIORITIES, "interactive": pb.PRIORITY_UNSPECIFIED}


_PROGRESSIVE = "progressive (--progressive)"


def check_question(question: str) -> None:
    """Refuse a question that asks nothing.

    Raises:
        ConfigurationError: it is empty.
    """
    if not question.strip():
        raise ConfigurationError("question: is empty")


def _sampling(settings: DeviceSettings) -> pb.Sampling | None:
    """How answers are decoded; None: greedily, which takes no bytes."""
    if not settings.temperature:
        return None
    top_p = settings.top_p if settings.top_p < 1.0 else None
    return pb.Sampling(temperature=settings.temperature, top_p=top_p, seed=settings.sampling_seed)


async def _granted(session: Session) -> pb.Grant:
    return session.grant


class Agent:
    """Asks questions about clips.

    Args:
        settings: channel, token length, payload, deadline.
        transmitter: of the installed bundle.
        uplink: to the server; the caller closes it.
        rng: the channel's randomness.
        trace: SNR over time, in place of the settings' SNR.
        clock: monotonic seconds.
        tracing: told what takes how long; None: nobody.
    """

    def __init__(
        self,
        settings: DeviceSettings,
        transmitter: Transmitter,
        uplink: Uplink,
        *,
        rng: np.random.Generator,
        trace: SnrTrace | None = None,
        clock: Callable[[], float] = time.monotonic,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing or NotTraced()
        self._settings = settings
        self._transmitter = transmitter
        self._uplink = uplink
        self._updater = Updater(
            uplink,
            settings.bundle,
            active=settings.auto_update,
            acceptance=settings.acceptance() if settings.auto_update else None,
            within_s=settings.fetch_within_s,
        )
        self._rng = rng
        self._trace = trace
        self._clock = clock
        self._channel: Channel | None = None
        self._pacer: Pacer | None = None

    @traced("ask")
    async def ask(
        self,
        question: str,
        clip: Clip | None = None,
        *,
        context: str | None = None,
        token_length: int | None = None,
        on_delta: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Ask one question.

        Args:
            question: not empty.
            clip: what it is about; None: about the context, or nothing.
            context: text that goes with the question, beside that of the clip.
            token_length: tokens per modality of this question, at once; None: as in the settings.
            on_delta: called with each new piece of the answer.

        Raises:
            DeviceAgentError: any of the tree; see :mod:`device_agent.errors`.
        """
        check_question(question)
        async with self._in_time() as deadline:
            session = await self._admitted(self._settings.deadline_s / 2)
            prepared = await self.prepare(
                question,
                clip,
                session.grant,
                context=context,
                token_length=token_length,
                whole_answer=on_delta is None,
                deadline=deadline,
            )
            reserve = prepared.reserve
            more = None if reserve is None else self._more(reserve, lambda: _granted(session), deadline)
            outcome = await self._answered(prepared, session, deadline, on_delta, more)
        return outcome if clip is None else about(outcome, clip)

    async def _answered(
        self,
        prepared: Prepared,
        session: Session,
        deadline: Deadline,
        on_delta: Delta | None,
        more: More | None,
    ) -> Outcome:
        """Send what was prepared, and have it answered by then."""
        left_s = max(deadline.left_s, 0.001)
        given_ms, left_ms = prepared.question.deadline_ms, max(1, round(left_s * 1000))
        prepared.question.deadline_ms, prepared.question.spent_ms = left_ms, max(0, given_ms - left_ms)
        reply = await self._uplink.ask(
            prepared.question,
            bundle_hash=prepared.bundle_hash,
            deadline_s=left_s,
            on_delta=on_delta,
            more=more,
        )
        if prepared.question.HasField("sampling") and not reply.answer.HasField("logprob"):
            logger.warning("the server is too old to sample: whatever temperature says, its answer is greedy")
        return outcome_of(prepared, reply, session.model_name)

    def more_of(self, question: pb.Question) -> More | None:
        """What makes further tokens of a question that has waited for the network; None: it has none."""
        return self._more(Reserve.of(question), self.grant) if question.HasField("rounds") else None

    def _more(
        self,
        reserve: Reserve,
        granted: Callable[[], Awaitable[pb.Grant]],
        deadline: Deadline | None = None,
    ) -> More:
        """Takes what is asked for of a reserve across the channel, as it is then and at its pace."""

        async def more(wanted: pb.MoreWanted) -> list[pb.TokenPayload]:
            payloads = await self._payloads(await reserve.wanted(wanted), await granted(), deadline)
            in_order(wanted, payloads, nested=reserve.nested)
            return payloads

        return more

    @traced("ask")
    async def ask_about(
        self,
        question: str,
        scenes: Sequence[pb.SceneRef],
        *,
        on_delta: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Ask about what devices have shared: nothing of it crosses the radio again.

        Args:
            question: not empty.
            scenes: at least one.
            on_delta: called with each new piece of the answer.

        Raises:
            RefusedError: there are no such scenes, or this device may not see them.
            DeviceAgentError: any of the tree.
        """
        check_question(question)
        message = pb.Question(
            # Among the questions of one device: 48 bits, in a third of the bytes of a UUID's digits.
            request_id=secrets.token_urlsafe(6),
            scenes=scenes,
            question_text=question,
            max_new_tokens=self._settings.max_new_tokens,
            priority=_PRIORITIES[self._settings.priority],
            whole_answer=on_delta is None,
            sampling=_sampling(self._settings),
        )
        async with self._in_time():
            session = await self._admitted(self._settings.deadline_s / 2)
            reply = await self._uplink.ask(message, deadline_s=self._settings.deadline_s, on_delta=on_delta)
        if not reply.answer.scenes:
            raise RefusedError("the server is too old to keep scenes", field="scenes", code="UNIMPLEMENTED")
        return outcome_of(Prepared(message, 0, 0.0), reply, session.model_name)

    async def prepare_share(
        self,
        clip: Clip,
        grant: pb.Grant,
        device: str,
        start_s: float,
        length_s: float,
        thumbnail: bytes = b"",
    ) -> Prepared:
        """What :meth:`prepare` does, for a window that is to be kept at the edge and not asked about.

        Args:
            clip: what was seen and heard.
            grant: what may be sent; the last one that is known where the server cannot be asked.
            device: what to call whose it is.
            start_s: when it began, by the clock of the uplink's ``lasting`` [s].
            length_s: of the window [s].
            thumbnail: a small JPEG for people; empty: none.

        Raises:
            DeviceAgentError: any of the tree but what the uplink raises.
        """
        transmitter = self._transmitter
        token_length = self._token_length(self._settings.token_length, grant, transmitter)
        async with self._in_time(tell=False) as deadline:
            tokens, _, encode_s = await self._encoded(transmitter, None, clip, token_length, deadline)
            payloads = await self._payloads(tokens, grant, deadline)
        message = pb.Question(
            request_id=uuid.uuid4().hex,
            payloads=payloads,
            priority=pb.PRIORITY_BACKGROUND,
            whole_answer=True,
            share=pb.Share(device=device, start_s=start_s, length_s=length_s, thumbnail=thumbnail),
            encode_ms=round(encode_s * 1000),
        )
        return Prepared(message, token_length, encode_s, transmitter.bundle.hash)

    async def prepare(
        self,
        question: str,
        clip: Clip | None,
        grant: pb.Grant,
        *,
        context: str | None = None,
        token_length: int | None = None,
        whole_answer: bool = True,
        deadline: Deadline | None = None,
    ) -> Prepared:
        """All of :meth:`ask` that needs no server: encode, and cross the channel, at its pace.

        Args:
            question: not empty.
            clip: what it is about.
            grant: what may be sent; the last one that is known where the server cannot be asked.
            context: text that goes with the question.
            token_length: tokens per modality of this question; None: as in the settings.
            whole_answer: no piece of the answer is wanted before its end.
            deadline: of whoever waits for the answer, who keeps it; None: nobody does, and encoding and
                sending have the settings' each.

        Raises:
            DeviceAgentError: any of the tree but what the uplink raises.
        """
        check_question(question)
        transmitter = self._transmitter  # to the end, whatever takes its place meanwhile
        wanted = self._settings.token_length if token_length is None else token_length
        clip = clip or Clip()
        shows_nothing = clip.frames_THWC is None and clip.pcm_S is None
        ladder = None if shows_nothing or token_length is not None else self._ladder(grant, transmitter)
        reserve: Reserve | None = None
        if ladder is None:
            token_length = self._token_length(wanted, grant, transmitter)
            tokens, ids, encode_s = await self._encoded(transmitter, question, clip, token_length, deadline)
        else:
            token_length = self._token_length(
                ladder.lengths[0], grant, transmitter, given=f"{_PROGRESSIVE}: its first round"
            )
            reserve = self._reserve(transmitter, clip, ladder, deadline)
            media = await reserve.blocks(token_length)
            tokens, ids, encode_s = await self._encoded(transmitter, question, Clip(), token_length, deadline)
            tokens = {**media, **tokens}
        if deadline is None:
            async with self._in_time(encode_s=encode_s) as sending:
                payloads = await self._payloads(tokens, grant, sending)
        else:
            payloads = await self._payloads(tokens, grant, deadline)
        texts = [text for text in (clip.text, context) if text]
        message = pb.Question(
            request_id=uuid.uuid4().hex,
            payloads=payloads,
            question_ids=ids,
            context_ids=transmitter.tokenize("\n".join(texts), "context") if texts else [],
            max_new_tokens=self._settings.max_new_tokens,
            deadline_ms=max(1, round(self._settings.deadline_s * 1000)),
            priority=_PRIORITIES[self._settings.priority],
            whole_answer=whole_answer,
            sampling=_sampling(self._settings),
            rounds=None if ladder is None or reserve is None else ladder.message(nested=reserve.nested),
            encode_ms=round((encode_s + (reserve.encode_s if reserve else 0.0)) * 1000),
        )
        return Prepared(message, token_length, encode_s, transmitter.bundle.hash, reserve)

    async def prepare_for_later(
        self, question: str, clip: Clip, grant: pb.Grant, *, context: str | None = None
    ) -> Prepared:
        """What :meth:`prepare` does, for a question that may wait for the network after this agent has ended.

        In rounds, all that may be asked for of it is encoded now and kept with it.
        """
        prepared = await self.prepare(question, clip, grant, context=context)
        if prepared.reserve is not None:
            prepared.question.payloads.extend(await prepared.reserve.payloads())
        return prepared

    def _ladder(self, grant: pb.Grant, transmitter: Transmitter) -> Ladder | None:
        """The rounds that a question may go in; None: it is sent at once."""
        ladder = self._settings.ladder()
        if ladder is None:
            return None
        allowed = transmitter.bundle.manifest.token_lengths
        unknown = [length for length in ladder.lengths if length not in allowed]
        if unknown:
            raise ConfigurationError(
                f"{_PROGRESSIVE} is {self._settings.progressive}; the bundle has no token length of "
                f"{', '.join(map(str, unknown))}; it allows {', '.join(map(str, allowed))}"
            )
        if not grant.rounds:
            logger.warning("the server knows no rounds, or not how sure its model is: all is sent at once")
            return None
        # Where the cell is shared out, the length that is suggested is what there is room for.
        most = (
            min(grant.max_token_length, grant.token_length) if grant.channel_uses else grant.max_token_length
        )
        return ladder.up_to(most)

    def _reserve(
        self, transmitter: Transmitter, clip: Clip, ladder: Ladder, deadline: Deadline | None
    ) -> Reserve:
        async def encode(length: int) -> Mapping[str, Tokens]:
            tokens, _, _ = await self._encoded(transmitter, None, clip, length, deadline)
            return media_of(tokens)

        return Reserve(ladder.lengths, transmitter.bundle.manifest.nested, encode)

    async def _payloads(
        self, tokens: Mapping[str, Tokens], grant: pb.Grant, deadline: Deadline | None = None
    ) -> list[pb.TokenPayload]:
        """Tokens across the channel, at its pace.

        Raises:
            TimeoutError: that is beyond the deadline; it is not waited for.
        """
        channel, pacer = self._radio(grant)
        payloads = []
        for modality, x_TC in tokens.items():
            payloads.append(self._send(channel, modality, x_TC))
            if not self._settings.pace:
                continue
            uses = payloads[-1].channel.channel_uses
            if deadline is None:
                await pacer.pace(uses)
                continue
            with deadline.during("sending"):
                if pacer.wait_s(uses) > deadline.left_s:
                    raise TimeoutError
                await pacer.pace(uses)
        return payloads

    async def grant(self) -> pb.Grant:
        """What the server grants this device; opens the session if need be, for as long as it takes.

        Raises:
            DeviceAgentError: any of the tree.
        """
        return (await self._admitted()).grant

    async def grant_in_time(self) -> pb.Grant:
        """As :meth:`grant`, within the deadline of a question.

        Raises:
            DeviceAgentError: any of the tree.
        """
        async with self._in_time():
            return (await self._admitted(self._settings.deadline_s / 2)).grant

    async def close(self) -> None:
        """Give up what is still under way; the uplink stays open."""
        await self._updater.close()

    @property
    def media_spec(self) -> MediaSpec:
        """What clips have to be like for the present bundle."""
        return self._transmitter.bundle.media_spec()

    def usual_grant(self) -> pb.Grant:
        """What to go by before any server was heard: a middle token length, a usual channel."""
        lengths = sorted(self._transmitter.bundle.manifest.token_lengths)
        return pb.Grant(max_token_length=lengths[-1], token_length=lengths[len(lengths) // 2])

    @contextlib.asynccontextmanager
    async def _in_time(self, *, tell: bool = True, encode_s: float = 0.0) -> AsyncGenerator[Deadline, None]:
        """Whoever waits for an answer waits no longer than they said, for whatever it is.

        Where it was this device that was too slow, the server is told: it would go on as if there were time
        for questions that never come.

        Args:
            tell: whether somebody waits for an answer, whose deadline an allocation reckons with.
            encode_s: what making the tokens took before [s].
        """
        deadline = Deadline(self._settings.deadline_s, encode_s=encode_s)
        try:
            async with asyncio.timeout(deadline.left_s):
                yield deadline
        except (TimeoutError, DeadlineError) as error:
            no_answer = f"no answer from {self._settings.server} within {deadline.within_s:g} s"
            passed = deadline.passed(no_answer)
            if isinstance(error, DeadlineError) and not isinstance(passed, TooSlowError):
                raise  # in the words of whoever noticed
            if tell and (late_s := deadline.late_s) is not None:
                self._uplink.tell_late(deadline.within_s, late_s)
            raise passed from error

    async def _admitted(self, wait_s: float | None = None) -> Session:
        present = self._transmitter.bundle
        session, bundle = await self._updater.open(self._measured_snr_db(), present, wait_s=wait_s)
        if bundle is not self._transmitter.bundle:
            self._transmitter = self._transmitter.of(bundle)
        return session

    async def _encoded(
        self,
        transmitter: Transmitter,
        question: str | None,
        clip: Clip,
        token_length: int,
        deadline: Deadline | None = None,
    ) -> tuple[dict[str, Tokens], list[int], float]:
        """:meth:`_encode` in a thread, which ends when its time is up or nobody waits for it any more."""
        if deadline is None:
            async with self._in_time() as deadline:
                return await self._encoded(transmitter, question, clip, token_length, deadline)
        stop = Stop()
        try:
            with deadline.during("encoding"):
                return await asyncio.to_thread(self._encode, transmitter, question, clip, token_length, stop)
        finally:
            stop()

    def _measured_snr_db(self) -> float:
        if self._channel is not None:
            return self._channel.snr_db
        return self._settings.snr_db if self._trace is None else self._trace.at(0.0)

    def _radio(self, grant: pb.Grant) -> tuple[Channel, Pacer]:
        # One radio for the agent's life: its randomness, its trace and what is still on the air go on from
        # question to question. Its bandwidth and power are what is granted for each.
        config = self._settings.channel_config(grant.bandwidth_hz, grant.tx_power_db)
        if self._channel is None or self._pacer is None:
            self._channel = Channel(config, self._rng, trace=self._trace, clock=self._clock)
            self._pacer = Pacer(config.bandwidth_hz, clock=self._clock)
        self._channel.config = config
        self._pacer.bandwidth_hz = config.bandwidth_hz
        return self._channel, self._pacer

    def _token_length(
        self, wanted: int | None, grant: pb.Grant, transmitter: Transmitter, given: str = "token_length"
    ) -> int:
        if wanted is not None:
            if wanted > grant.max_token_length:
                raise ConfigurationError(f"{given} is {wanted}; at most {grant.max_token_length} granted")
            return wanted
        most = min(grant.token_length, grant.max_token_length)
        allowed = transmitter.bundle.manifest.token_lengths
        return max([length for length in allowed if length <= most], default=min(allowed))

    def _encode(
        self, transmitter: Transmitter, question: str | None, clip: Clip, token_length: int, stop: Stop
    ) -> tuple[dict[str, Tokens], list[int], float]:
        with self._tracing.span("encode", token_length=token_length):
            encoded = transmitter.encode(clip, token_length, stop=stop)
        if question is None:
            return dict(encoded.tokens), [], encoded.encode_s
        started_s = self._clock()
        tokens, ids = dict(encoded.tokens), transmitter.tokenize(question, "question")
        if not ids:
            raise ConfigurationError("question: holds nothing that the bundle's tokenizer knows")
        if self._settings.text_path == "analog":
            tokens["text"], ids = transmitter.encode_text(ids, stop=stop), []
        return tokens, ids, encoded.encode_s + self._clock() - started_s

    def _send(self, channel: Channel, modality: str, x_TC: Tokens) -> pb.TokenPayload:
        with self._tracing.span("channel", modality=modality, token_length=len(x_TC)):
            reception = channel.transmit(x_TC)
        report = pb.ChannelReport(
            model=CHANNEL_MODELS[channel.config.model],
            fading=FADINGS[channel.config.fading],
            effective_snr_db=clamp_snr_db(reception.effective_snr_db),
            channel_uses=reception.channel_uses,
            airtime_s=reception.airtime_s,
            zero_forcing=channel.config.equalizer == "zf",
            token_snr=token_snr.pack(reception.token_snr_db_T),
            pilots=reception.pilots,
        )
        return payload.encode(reception.x_TC, modality, self._settings.payload, report)
