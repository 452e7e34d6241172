"""What the front door needs from rooms that it may not know: media decoding and the device bundle.

The composition root (:mod:`edge_server.server.app`) passes implementations in.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from starlette.types import Receive, Scope, Send

from edge_server.cell import Peer
from edge_server.engine import FeatureBlock
from edge_server.errors import EdgeServerError, InvalidQuestionError
from edge_server.frontdoor.base64_text import decoded
from protos.names import ChannelName, CsiName, FadingName, MediaModality, PayloadName


@dataclass(frozen=True)
class MediaWindow:
    """Which part of a recording is asked about.

    Attributes:
        start_s: when it begins, after the recording does [s].
        end_s: when it ends [s]; None: as much as the model looks at.
        field: where it stood in the request, as a path.
    """

    start_s: float
    end_s: float | None
    field: str


class MediaFile(Protocol):
    """A file that can be read anywhere."""

    size: int
    """Of it [bytes]."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move; the new position [bytes]."""

    def read(self, size: int = -1, /) -> bytes:
        """Read from here on; all of it without a size."""


@dataclass(frozen=True)
class RawMedia:
    """A media file as it came over REST, not decoded yet.

    Attributes:
        modality: what it has to be; None: whatever it is.
        encoded: base64 of the file.
        field: where it stood in the request, as a path.
        window: the part that is asked about; None: its beginning.
        file: where it lies, decoded from base64; None: ``encoded`` is all there is.
    """

    modality: MediaModality | None
    encoded: str
    field: str
    window: MediaWindow | None = None
    file: MediaFile | None = None

    def decode(self) -> bytes:
        """The file. Takes milliseconds per megabyte: not for the event loop.

        Raises:
            InvalidQuestionError: it is not base64, or empty.
        """
        try:
            data = decoded(self.encoded)
        except ValueError as error:
            raise InvalidQuestionError(self.field, f"is not base64: {error}") from error
        if not data:
            raise InvalidQuestionError(self.field, "is empty")
        return data


@dataclass(frozen=True)
class LinkSettings:
    """The radio link that the server emulates for media that came over REST.

    Attributes:
        channel: model of the channel; ``"none"``: a perfect wire.
        fading: one gain per codeword, or one per symbol.
        snr_db: mean Es/N0 [dB].
        bandwidth_hz: symbols per second.
        csi: whether the receiver knows gains or estimates them from pilots, which cost channel uses.
        tx_power_db: gain on the energy of every symbol, before the channel [dB].
        delay_spread_ns: of a tapped delay line: root of the mean squared delay [ns].
        speed_kmh: of a tapped delay line: of the device [km/h].
        token_length: tokens per modality; None: the server's default.
        payload: what values are rounded to behind the radio, as a device's are.
        seed: repeats the same noise; None: fresh noise.
    """

    channel: ChannelName = "none"
    fading: FadingName = "block"
    snr_db: float = 20.0
    bandwidth_hz: float = 1e6
    csi: CsiName = "perfect"
    tx_power_db: float = 0.0
    delay_spread_ns: float = 300.0
    speed_kmh: float = 3.0
    token_length: int | None = None
    payload: PayloadName = "float32"
    seed: int | None = None


@dataclass(frozen=True)
class BlockCost:
    """What one codeword took on the (emulated) air.

    Attributes:
        modality: of the block.
        token_length: tokens sent.
        effective_snr_db: Es/N0 after equalisation [dB].
        channel_uses: complex symbols.
        airtime_s: time on the air [s].
        payload_bytes: its values in the network behind the radio.
    """

    modality: str
    token_length: int
    effective_snr_db: float
    channel_uses: int
    airtime_s: float
    payload_bytes: int


@dataclass(frozen=True)
class ShownWindow:
    """Which part of a recording was looked at.

    Attributes:
        start_s: when it begins, after the recording does [s].
        end_s: when it ends [s].
        duration_s: of the recording, where its file tells [s].
    """

    start_s: float
    end_s: float
    duration_s: float | None


@dataclass(frozen=True)
class Ingested:
    """A question made ready for the model.

    Attributes:
        blocks: as they arrived.
        question_ids: language tokens of the question.
        context_ids: of the text that goes with it.
        costs: of each block.
        sent: each block as its transmitter made it, before the channel; float32, [token_length, channel_dim].
        subcarriers: that each symbol of each block went over, [token_length, channel_dim / 2]; None: not over
            OFDM.
        window: which part of the media was looked at; None: of no recording.
    """

    blocks: tuple[FeatureBlock, ...]
    question_ids: tuple[int, ...]
    context_ids: tuple[int, ...]
    costs: tuple[BlockCost, ...]
    sent: tuple[npt.NDArray[np.float32], ...]
    subcarriers: tuple[npt.NDArray[np.int64] | None, ...]
    window: ShownWindow | None = None


class Ingest(Protocol):
    """Makes raw media and text into what the model takes, off the event loop and within limits."""

    async def prepare(
        self, media: Sequence[RawMedia], question: str, context: str, link: LinkSettings, user: str = ""
    ) -> Ingested:
        """Decode, transmit, emulate the link.

        Args:
            media: at most one per modality.
            question: its text, not blank; empty where the question came as a token block.
            context: text that goes with it; may be empty.
            link: what the tokens pass on their way.
            user: who asks; users decode in turn.

        Raises:
            InvalidQuestionError: names the field, what was found and what is allowed.
            QuestionTooLargeError: media beyond the limits.
            AdmissionRefusedError: too much is being decoded already.
        """


class Admission(Protocol):
    """Says who may make a call, before it is looked at."""

    def refusal_of(self, peer: Peer) -> EdgeServerError | None:
        """Why a peer may come in no more; None: it may."""

    def stream(self, peer: Peer | None) -> AbstractContextManager[None]:
        """Let a peer make a call, and count it until the context that is returned ends.

        Raises:
            UnauthenticatedError: its credential is not good now, or there is none and one is needed.
            AdmissionRefusedError: the peer has too many open already.
        """


class Page(Protocol):
    """A page for browsers. An ASGI application that is given the paths which it says are its own."""

    def serves(self, path: str) -> bool:
        """Whether a path belongs to the page."""

    def takes_body(self, method: str, path: str) -> bool:
        """Whether a request to a path of its own may bring a body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hold one WebSocket."""


@dataclass(frozen=True)
class BundleArchive:
    """The device bundle as one file.

    Attributes:
        bundle_hash: SHA-256 (hexadecimal) that names the bundle.
        path: the archive.
        precision: what its encoders compute with.
        personal_to: the device whose co-trained heads it holds; empty: everybody's.
    """

    bundle_hash: str
    path: Path
    precision: str = "fp32"
    personal_to: str = ""


class GainRefinement(Protocol):
    """Tells gains that pilots told roughly better, by what tokens are like."""

    def __call__(
        self, modality: str, x_TC: npt.NDArray[np.float32], snr_db: float, pilots: int
    ) -> tuple[npt.NDArray[np.float32], float]:
        """A codeword as it would be with the better gain, and its SNR [dB]; as it is where nothing is known.

        Args:
            modality: whose tokens.
            x_TC: as MMSE equalisation left them, [T, C].
            snr_db: told of them [dB].
            pilots: of the gain's estimate, at least 1.
        """
        ...


@dataclass(frozen=True)
class LinkShape:
    """What token blocks the served model takes.

    Attributes:
        channel_dim: reals per token.
        max_text_token_length: most tokens of a question on the analog path.
        turns: whether it tells the turns of a conversation apart, and takes several blocks of one modality.
        views: whether a question may show it several scenes' blocks of one modality, each with a label.
        refine: of gains that were estimated; None: nothing is known of its tokens.
    """

    channel_dim: int
    max_text_token_length: int
    turns: bool = False
    views: bool = False
    refine: GainRefinement | None = None
