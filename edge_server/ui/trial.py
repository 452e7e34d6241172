"""One try of the playground: a clip and a question over a link, and what that cost beside sending the clip.

Sending the clip is counted kindly: its bits at the channel's capacity, which no real code reaches.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.backend import EngineBackend
from edge_server.frontdoor.http.asking import Asked, Asker, RestQuestion
from edge_server.frontdoor.ports import BlockCost, Ingested, LinkSettings, MediaWindow, RawMedia
from edge_server.ui.clips import ClipFile, StoredClip


@dataclass(frozen=True)
class Codeword:
    """One modality's tokens on both sides of the channel.

    Attributes:
        sent_TC, received_TC: float32, [token_length, channel_dim].
        cost: what they took.
        subcarrier_TS: that each symbol went over; None: not over OFDM.
    """

    sent_TC: npt.NDArray[np.float32]
    received_TC: npt.NDArray[np.float32]
    cost: BlockCost
    subcarrier_TS: npt.NDArray[np.int64] | None = None

    @property
    def error_db(self) -> float:
        """Power of what was added on the way, over the power of what was sent [dB]; -inf: nothing was."""
        added = float(np.square(self.received_TC - self.sent_TC, dtype=np.float64).mean())
        sent = float(np.square(self.sent_TC, dtype=np.float64).mean())
        return 10.0 * math.log10(added / sent) if added else -math.inf


@dataclass(frozen=True)
class Bill:
    """What tokens cost, or the clip itself.

    Attributes:
        size_bytes: in the network.
        channel_uses: complex symbols on the air; None where a perfect wire has no capacity to count with.
        airtime_s: time on the air [s]; likewise.
    """

    size_bytes: int
    channel_uses: int | None
    airtime_s: float | None


async def ask(
    asker: Asker,
    clip: ClipFile | None,
    question: str,
    link: LinkSettings,
    user: str,
    start_s: float = 0.0,
    backend: EngineBackend | None = None,
) -> Asked:
    """Ask as a REST client would.

    Args:
        asker: admits, makes ready, submits.
        clip: what it is about; None: nothing.
        question: its text.
        link: what the clip's tokens pass.
        user: whom it counts for.
        start_s: from when on the clip is looked at [s].
        backend: the model that is asked; None: the current one.

    Raises:
        EdgeServerError: it was not accepted.
    """
    media = () if clip is None else (await asyncio.to_thread(_raw, clip, start_s),)
    return await asker.ask(
        RestQuestion(text=question, user=user, media=media, link=link, whole=False, backend=backend)
    )


async def look_at(asker: Asker, clip: ClipFile, user: str) -> None:
    """Decode a clip, to see that it is one.

    Raises:
        EdgeServerError: it cannot be decoded, or not now.
    """
    raw = await asyncio.to_thread(_raw, clip)
    await asker.backend.served.ingest.prepare((raw,), "", "", LinkSettings(), user)


def codewords(ready: Ingested) -> tuple[Codeword, ...]:
    """The tokens of every modality, before and after the channel."""
    return tuple(
        Codeword(sent_TC, block.x_TC, cost, subcarrier_TS)
        for sent_TC, block, cost, subcarrier_TS in zip(
            ready.sent, ready.blocks, ready.costs, ready.subcarriers, strict=True
        )
    )


def bill_of_tokens(costs: tuple[BlockCost, ...]) -> Bill:
    """What all blocks of a question took together."""
    return Bill(
        sum(cost.payload_bytes for cost in costs),
        sum(cost.channel_uses for cost in costs),
        sum(cost.airtime_s for cost in costs),
    )


def bill_of_clip(size_bytes: int, link: LinkSettings) -> Bill:
    """What the clip's file would take at least over the same link: its bits, log2(1 + SNR) of them a use.

    That is the capacity of the AWGN channel (Shannon 1948). With fading it is less at the same mean SNR
    (Jensen), so this is a lower bound there too.
    """
    if link.channel == "none":
        return Bill(size_bytes, None, None)
    bits_per_use = math.log2(1.0 + 10.0 ** (link.snr_db / 10.0))
    uses = math.ceil(size_bytes * 8 / bits_per_use)
    return Bill(size_bytes, uses, uses / link.bandwidth_hz)


def _raw(clip: ClipFile, start_s: float = 0.0) -> RawMedia:
    if not clip.path.is_file():
        raise InvalidQuestionError("clip", f"{clip.name!r} is no longer here; upload it again")
    window = MediaWindow(start_s, None, "clip") if start_s > 0 and clip.modality != "image" else None
    # A name says how a browser is to play it; what is in it, decoding finds out, as on a device.
    return RawMedia(None, "", "clip", window, StoredClip(clip))
