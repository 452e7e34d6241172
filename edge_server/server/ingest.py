"""Raw media and text that came over REST, made into what the model takes.

    base64 ─▶ file ─▶ Clip ─▶ transmitter ─▶ channel ─▶ payload ─▶ FeatureBlock    in a bounded pool of
    text ─▶ tokenizer ─▶ language token ids                                        threads, never on the loop

Users decode in turn (:mod:`edge_server.server.turns`); text that comes without media waits for no file.

The same code runs on a device (:mod:`device_agent`): a REST user without an agent gets the tokens, and if
asked for the noise, that a device would have sent.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from device_agent.channel import Channel, ChannelConfig
from device_agent.errors import (
    ConfigurationError,
    MediaError,
    MediaLimitError,
    TransmitterError,
    WindowError,
)
from device_agent.media.clip import Clip, join
from device_agent.media.limits import MediaLimits
from device_agent.media.sandbox import MediaPool
from device_agent.transmitter import Transmitter
from edge_server.cell import SharedBound
from edge_server.engine import FeatureBlock
from edge_server.errors import (
    AdmissionRefusedError,
    EngineFailureError,
    InvalidQuestionError,
    QuestionTooLargeError,
)
from edge_server.frontdoor.ports import (
    BlockCost,
    GainRefinement,
    Ingested,
    LinkSettings,
    MediaWindow,
    RawMedia,
    ShownWindow,
)
from edge_server.server.remembered import REMEMBERED_FILE_BYTES, Remembered, digest_of
from edge_server.server.turns import Turns
from protos import payload
from protos.names import PayloadName

_FIRST_GUESS_S = 0.1


class MediaIngest:
    """Implements :class:`edge_server.frontdoor.ports.Ingest` with a device bundle.

    Args:
        transmitter: of the bundle that the served model answers for.
        token_length: tokens per modality where a request does not say.
        limits: what decoding one file may cost.
        threads: files that are decoded at once, of one user; one more where there are others.
        max_pending: requests that are decoded or wait for it; further ones are refused.
        max_pending_of_one: of them, those of one user; None: all.
        rng: seeds the channel where a request does not.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        transmitter: Transmitter,
        *,
        token_length: int,
        limits: MediaLimits,
        threads: int,
        max_pending: int,
        max_pending_of_one: int | None = None,
        rng: np.random.Generator,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transmitter = transmitter
        self._token_length = token_length
        self._limits = limits
        self._threads = threads
        self._rng = rng
        self._clock = clock
        self._turns = Turns(threads)
        self._media = MediaPool(threads + 1)
        self._pool = ThreadPoolExecutor(threads + 1, thread_name_prefix="tokenlink-ingest")
        # Words take no time to speak of: they do not wait until files of others have been decoded.
        self._words = ThreadPoolExecutor(1, thread_name_prefix="tokenlink-words")
        self._pending = SharedBound(
            "requests with media",
            in_all=max_pending,
            of_one=max_pending_of_one or max_pending,
            reason="ingest",
        )
        self._s_per_request = _FIRST_GUESS_S
        self._remembered: Remembered[tuple[list[_Codeword], ShownWindow | None]] = Remembered(_size_of)
        #: Of gains that an emulated link estimates; None: they stay as they were estimated.
        self.refine: GainRefinement | None = None

    async def prepare(
        self, media: Sequence[RawMedia], question: str, context: str, link: LinkSettings, user: str = ""
    ) -> Ingested:
        """Decode, transmit, emulate the link; arguments and errors as the port says."""
        # The generator is not thread-safe: drawn from here, on the loop.
        seed = int(self._rng.integers(2**63)) if link.seed is None else link.seed
        if not media:
            work = self._words.submit(self._prepare, media, question, context, link, seed, user)
            return await asyncio.wrap_future(work)
        self._take_in(user)
        try:
            await self._turns.take(user)
        except BaseException:
            self._pending.give(user)
            raise
        loop = asyncio.get_running_loop()
        work = self._pool.submit(self._prepare, media, question, context, link, seed, user)
        # Counted until the thread is done with it, even if its client has gone meanwhile.
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done, user))
        return await asyncio.wrap_future(work)

    def _take_in(self, user: str) -> None:
        try:
            self._pending.take(user)
        except AdmissionRefusedError as error:
            error.retry_delay_s = max(self._pending.held * self._s_per_request / self._threads, 0.05)
            raise

    def start(self) -> None:
        """Start the processes that decode now, not when the first file comes."""
        self._media.start()

    def close(self) -> None:
        """Start nothing more; what runs is not waited for."""
        for pool in (self._pool, self._words):
            pool.shutdown(wait=False, cancel_futures=True)
        self._media.close()

    def _done(self, user: str) -> None:
        self._pending.give(user)
        self._turns.give(user)

    def _prepare(
        self,
        media: Sequence[RawMedia],
        question: str,
        context: str,
        link: LinkSettings,
        seed: int,
        user: str,
    ) -> Ingested:
        began = self._clock()
        field = "question"
        try:
            question_ids = tuple(self._transmitter.tokenize(question)) if question else ()
            field = "context"
            context_ids = tuple(self._transmitter.tokenize(context)) if context else ()
            field = "token_length"
            sent, window = self._made(media, link, seed, user)
        except MediaLimitError as error:
            raise QuestionTooLargeError(error.field, error.message) from error
        except MediaError as error:
            raise InvalidQuestionError(error.field, error.message) from error
        except (TransmitterError, payload.PayloadError) as error:
            raise EngineFailureError(f"a transmitter failed on this media: {error}") from error
        except ConfigurationError as error:
            raise InvalidQuestionError(field, str(error)) from error
        self._s_per_request += 0.1 * (self._clock() - began - self._s_per_request)
        return Ingested(
            blocks=tuple(codeword.received for codeword in sent),
            question_ids=question_ids,
            context_ids=context_ids,
            costs=tuple(codeword.cost for codeword in sent),
            sent=tuple(codeword.sent_TC for codeword in sent),
            subcarriers=tuple(codeword.subcarrier_TS for codeword in sent),
            window=window,
        )

    def _made(
        self, media: Sequence[RawMedia], link: LinkSettings, seed: int, user: str
    ) -> tuple[list[_Codeword], ShownWindow | None]:
        """What media becomes; the same again, where it was made before."""
        file, size = _opened(media[0]) if len(media) == 1 and link.channel == "none" else (None, 0)
        if file is None or size > REMEMBERED_FILE_BYTES:
            clip = join(self._clip(part) for part in media)
            return self._send(clip, link, seed), _shown(clip)
        part = media[0]
        key = (user, digest_of(file), part.modality, _asked(part.window), link.token_length, link.payload)
        made = self._remembered.find(key)
        if made is None:
            clip = self._clip(part)
            made = self._send(clip, link, seed), _shown(clip)
            self._remembered.keep(key, made)
        return made

    def _send(self, clip: Clip, link: LinkSettings, seed: int) -> list[_Codeword]:
        if not clip.modalities:
            return []
        encoded = self._transmitter.encode(clip, link.token_length or self._token_length)
        channel = Channel(
            ChannelConfig(
                model=link.channel,
                fading=link.fading,
                snr_db=link.snr_db,
                bandwidth_hz=link.bandwidth_hz,
                csi=link.csi,
                tx_power_db=link.tx_power_db,
                delay_spread_ns=link.delay_spread_ns,
                speed_kmh=link.speed_kmh,
            ),
            np.random.default_rng(seed),
        )
        return [
            _transmitted(channel, modality, x_TC, link.payload, self.refine)
            for modality, x_TC in encoded.tokens.items()
        ]

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Language token ids of a text."""
        return tuple(self._transmitter.tokenize(text))

    def _clip(self, part: RawMedia) -> Clip:
        spec = self._transmitter.bundle.media_spec()
        start_s, length_s = 0.0, None
        if part.window is not None:
            start_s, end_s = part.window.start_s, part.window.end_s
            length_s = None if end_s is None else end_s - start_s
            if length_s is not None and length_s > spec.window_s + 1e-6:
                raise MediaError(
                    part.window.field,
                    f"takes {length_s:g} s; the model looks at {spec.window_s:g} s at a time: "
                    "ask about one such window after the other",
                )
        file, size = _opened(part)
        try:
            return self._media.clip_from_stream(
                file,
                size,
                kind=part.modality,
                field=part.field,
                spec=spec,
                limits=self._limits,
                start_s=start_s,
                length_s=length_s,
            )
        except WindowError as error:
            raise MediaError(f"{(part.window or part).field}", f"the media {error.message}") from error


def _opened(part: RawMedia) -> tuple[BinaryIO, int]:
    """A file, and how long it is [bytes]."""
    if part.file is not None:
        return cast(BinaryIO, part.file), part.file.size
    data = part.decode()
    return io.BytesIO(data), len(data)


def _asked(window: MediaWindow | None) -> tuple[float, float | None] | None:
    return None if window is None else (window.start_s, window.end_s)


def _size_of(made: tuple[list[_Codeword], ShownWindow | None]) -> int:
    """Of what media became [bytes]."""
    return sum(each.sent_TC.nbytes + each.received.x_TC.nbytes for each in made[0])


def _shown(clip: Clip) -> ShownWindow | None:
    window = clip.window
    return None if window is None else ShownWindow(window.start_s, window.end_s, window.duration_s)


@dataclass(frozen=True)
class _Codeword:
    sent_TC: npt.NDArray[np.float32]
    received: FeatureBlock
    cost: BlockCost
    subcarrier_TS: npt.NDArray[np.int64] | None


def _transmitted(
    channel: Channel,
    modality: str,
    x_TC: npt.NDArray[np.float32],
    dtype: PayloadName,
    refine: GainRefinement | None,
) -> _Codeword:
    """One block over the air, and through the payload in which it crosses the network behind that."""
    reception = channel.transmit(x_TC)
    packed = payload.encode(reception.x_TC, modality, dtype)
    arrived_TC = payload.decode(packed, max_token_length=len(x_TC), channel_dim=x_TC.shape[1])
    cost = BlockCost(
        modality=modality,
        token_length=len(x_TC),
        effective_snr_db=reception.effective_snr_db,
        channel_uses=reception.channel_uses,
        airtime_s=reception.airtime_s,
        payload_bytes=len(packed.data),
    )
    told_db = reception.effective_snr_db
    if refine is not None and reception.pilots:
        arrived_TC, told_db = refine(modality, arrived_TC, told_db, reception.pilots)
    block = FeatureBlock(modality, arrived_TC, told_db)
    return _Codeword(x_TC, block, cost, reception.subcarrier_TS)
