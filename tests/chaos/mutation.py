"""Valid messages, spoilt: by a field, by a byte, by a piece of another.

Noise alone is refused by the first check; what comes close to being valid gets far. Everything is drawn from
the generator that is passed in, so a count and a seed name every message.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import numpy as np

from protos import payload
from protos.names import DTYPES
from protos.tokenlink.v1 import tokenlink_pb2 as pb

_NUMBERS = (0, 1, 2, 127, 128, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
_FLOATS = (0.0, -0.0, 1e-45, -1.0, 1e30, 3.4e38, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    "",
    "a",
    "x" * 64,
    "x" * 65,
    "y" * 5000,
    "\0",
    "q\n\r",
    "é" * 30,
    "../../etc/passwd",
    "%s%n",
    "<answer>",
)


def valid_payload(rng: random.Random, channel_dim: int) -> pb.TokenPayload:
    """A block that a server takes."""
    shape = (rng.choice((1, 2, 4, 8)), channel_dim)
    x_TC = np.random.default_rng(rng.getrandbits(32)).standard_normal(shape).astype(np.float32)
    report = pb.ChannelReport(effective_snr_db=rng.uniform(-5, 20), channel_uses=16, airtime_s=0.001)
    return payload.encode(x_TC, rng.choice(("image", "video", "audio")), rng.choice(list(DTYPES)), report)


def valid_question(rng: random.Random, request_id: str, channel_dim: int) -> pb.Question:
    """A question that a server answers."""
    return pb.Question(
        request_id=request_id,
        payloads=[valid_payload(rng, channel_dim)],
        question_ids=[rng.randrange(1, 900) for _ in range(rng.randrange(1, 8))],
        max_new_tokens=16,
    )


def spoilt_payload(rng: random.Random, channel_dim: int) -> pb.TokenPayload:
    """A block with one or two fields that cannot be, or that lie."""
    block = valid_payload(rng, channel_dim)
    for _ in range(rng.randrange(1, 3)):
        rng.choice(_PAYLOAD_FAULTS)(block, rng)
    if rng.random() < 0.5:
        block.crc32 = zlib.crc32(block.data)  # so that the lie gets past the checksum
    return block


def spoilt_frame(rng: random.Random, frame: pb.UplinkFrame, channel_dim: int) -> bytes:
    """A frame that is wrong in its fields or in its bytes.

    Args:
        rng: draws.
        frame: valid, holds a question; is changed.
        channel_dim: of the model that is served.
    """
    kind = rng.random()
    if kind < 0.45:
        for _ in range(rng.randrange(1, 3)):
            rng.choice(_FRAME_FAULTS)(frame, rng)
        if rng.random() < 0.5 and frame.question.payloads:
            frame.question.payloads[0].CopyFrom(spoilt_payload(rng, channel_dim))
        return frame.SerializeToString()
    if kind < 0.55:
        frame.question.payloads[0].CopyFrom(spoilt_payload(rng, channel_dim))
        return frame.SerializeToString()
    if kind < 0.65:
        return rng.randbytes(rng.randrange(0, 200))
    return spoilt_bytes(rng, frame.SerializeToString())


def spoilt_bytes(rng: random.Random, data: bytes, times: int = 4) -> bytes:
    """Bytes with flips, cuts, gaps, repeats and lies about lengths."""
    spoilt = bytearray(data)
    for _ in range(rng.randrange(1, times + 1)):
        at = rng.randrange(len(spoilt) + 1)
        match rng.randrange(7):
            case 0 if at < len(spoilt):
                spoilt[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(spoilt):
                spoilt[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                spoilt[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 3:
                del spoilt[at : at + rng.randrange(1, 33)]
            case 4:
                del spoilt[at:]
            case 5:
                spoilt[at:at] = spoilt[at : at + rng.randrange(1, 65)]
            case _:
                spoilt[at:at] = b"\xff" * rng.randrange(1, 12)
    return bytes(spoilt)


def _payload_shape(block: pb.TokenPayload, rng: random.Random) -> None:
    block.shape[:] = [rng.choice(_NUMBERS) for _ in range(rng.choice((0, 1, 2, 2, 2, 3, 50)))]


def _payload_data(block: pb.TokenPayload, rng: random.Random) -> None:
    block.data = spoilt_bytes(rng, block.data)


def _payload_values(block: pb.TokenPayload, rng: random.Random) -> None:
    data = bytearray(block.data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(0, max(len(data) - 4, 1))
        data[at : at + 4] = np.float32(rng.choice(_FLOATS)).tobytes()[: len(data) - at]
    block.data = bytes(data)


def _payload_enum(block: pb.TokenPayload, rng: random.Random) -> None:
    field = rng.choice(("modality", "dtype"))
    setattr(block, field, rng.choice((0, 1, 2, 3, 4, 5, 77, 2**31 - 1)))


def _payload_scale(block: pb.TokenPayload, rng: random.Random) -> None:
    block.scale = rng.choice(_FLOATS)


def _payload_checksum(block: pb.TokenPayload, rng: random.Random) -> None:
    block.crc32 = rng.getrandbits(32)


def _payload_report(block: pb.TokenPayload, rng: random.Random) -> None:
    if rng.random() < 0.2:
        block.ClearField("channel")
        return
    block.channel.effective_snr_db = rng.choice(_FLOATS)
    block.channel.airtime_s = rng.choice(_FLOATS)
    block.channel.channel_uses = rng.choice(_NUMBERS)
    block.channel.model = rng.choice((0, 1, 4, 99))  # type: ignore[assignment] # 99 is none
    block.channel.token_snr = rng.randbytes(rng.choice((0, 1, 8, 5000)))


_PAYLOAD_FAULTS: tuple[Callable[[pb.TokenPayload, random.Random], None], ...] = (
    *(_payload_shape, _payload_data, _payload_values, _payload_enum, _payload_scale, _payload_checksum),
    _payload_report,
)


def _frame_names(frame: pb.UplinkFrame, rng: random.Random) -> None:
    field = rng.choice(("session_id", "bundle_hash"))
    setattr(frame, field, rng.choice(_TEXTS))


def _frame_request_id(frame: pb.UplinkFrame, rng: random.Random) -> None:
    frame.question.request_id = rng.choice(_TEXTS)


def _frame_body(frame: pb.UplinkFrame, rng: random.Random) -> None:
    match rng.randrange(3):
        case 0:
            frame.ClearField("question")
        case 1:
            frame.cancel.request_id = rng.choice(_TEXTS)
        case _:
            frame.question.Clear()


def _frame_ids(frame: pb.UplinkFrame, rng: random.Random) -> None:
    ids = rng.choice((frame.question.question_ids, frame.question.context_ids))
    ids[:] = [rng.choice(_NUMBERS)] * rng.choice((0, 1, 3, 100, 5000))


def _frame_numbers(frame: pb.UplinkFrame, rng: random.Random) -> None:
    field = rng.choice(("max_new_tokens", "deadline_ms", "encode_ms", "spent_ms"))
    setattr(frame.question, field, rng.choice(_NUMBERS))


def _frame_payloads(frame: pb.UplinkFrame, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 3, 10, 200))):
        frame.question.payloads.add().CopyFrom(
            frame.question.payloads[0] if frame.question.payloads else pb.TokenPayload()
        )


_FRAME_FAULTS: tuple[Callable[[pb.UplinkFrame, random.Random], None], ...] = (
    *(_frame_names, _frame_request_id, _frame_body, _frame_ids, _frame_numbers, _frame_payloads),
)
