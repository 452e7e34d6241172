"""Token blocks as bytes, and back: dtype, shape, scale, checksum.

    x_TC ─codec.pack─▶ data, scale ─crc32─▶ TokenPayload ═══▶ checks ─codec.unpack─▶ x_TC float32

Decoding trusts nothing. Everything that can be told from the message's fields is checked before a value is
looked at: a payload that lies about its shape costs its reader no memory.

Shapes: T token_length, C channel_dim.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from protos.names import DTYPES, MAX_SNR_DB, MODALITIES, clamp_snr_db
from protos.tokenlink.v1 import tokenlink_pb2 as pb

MAX_MEAN_SQUARE = 1e4
"""A normalised block has 0.5. Deep fades under zero-forcing raise that; nothing honest raises it this far."""


class PayloadError(ValueError):
    """A token payload that cannot be used.

    Args:
        field: the field of ``TokenPayload`` at fault.
        message: what was found and what is allowed.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True)
class Codec:
    """How values of one dtype are packed.

    Attributes:
        value_bits: bits per value; what is left of the last byte is zero.
        pack: float32 block to (bytes, scale).
        unpack: (bytes, scale, number of values) to flat float32, or PayloadError for what is ruled out.
    """

    value_bits: int
    pack: Callable[[npt.NDArray[np.float32]], tuple[bytes, float]]
    unpack: Callable[[bytes, float, int], npt.NDArray[np.float32]]

    def data_bytes(self, values: int) -> int:
        """Bytes that so many values take."""
        return (values * self.value_bits + 7) // 8


def _pack_float32(x_TC: npt.NDArray[np.float32]) -> tuple[bytes, float]:
    return x_TC.astype("<f4").tobytes(), 0.0


def _unpack_float32(data: bytes, scale: float, values: int) -> npt.NDArray[np.float32]:
    return np.frombuffer(data, "<f4").astype(np.float32)


def _pack_float16(x_TC: npt.NDArray[np.float32]) -> tuple[bytes, float]:
    largest = float(np.abs(x_TC).max())
    if largest > float(np.finfo(np.float16).max):
        raise PayloadError("data", f"a value of magnitude {largest:g} does not fit float16")
    return x_TC.astype("<f2").tobytes(), 0.0


def _unpack_float16(data: bytes, scale: float, values: int) -> npt.NDArray[np.float32]:
    return np.frombuffer(data, "<f2").astype(np.float32)


def _pack_int8(x_TC: npt.NDArray[np.float32]) -> tuple[bytes, float]:
    scale = _step(float(np.abs(x_TC).max()) / 127.0)
    if scale is None:
        return bytes(x_TC.size), 1.0
    return _quantised(x_TC, scale, 127).tobytes(), scale


def _unpack_int8(data: bytes, scale: float, values: int) -> npt.NDArray[np.float32]:
    quantised = np.frombuffer(data, np.int8)
    if quantised.min() < -127:
        raise PayloadError("data", "holds the integer -128; int8 values lie within [-127, 127]")
    return _scaled(quantised, scale, "int8")


_INT4_LIMITS = tuple(np.linspace(0.4, 1.0, 25))
"""Where int4 may clip, as parts of the largest magnitude. So few steps are better spent on the many small
values than on the few large ones; of normally distributed values the best place is near 0.8."""


def _pack_int4(x_TC: npt.NDArray[np.float32]) -> tuple[bytes, float]:
    largest = float(np.abs(x_TC).max())
    steps = [step for limit in _INT4_LIMITS if (step := _step(limit * largest / 7.0)) is not None]
    if not steps:
        return bytes(CODECS[pb.DTYPE_INT4].data_bytes(x_TC.size)), 1.0
    scale = min(steps, key=lambda step: float(np.square(_quantised(x_TC, step, 7) * step - x_TC).sum()))
    nibbles = np.zeros(x_TC.size + x_TC.size % 2, np.uint8)
    nibbles[: x_TC.size] = _quantised(x_TC, scale, 7).ravel().view(np.uint8) & 0x0F
    return (nibbles[::2] | nibbles[1::2] << 4).tobytes(), scale


def _unpack_int4(data: bytes, scale: float, values: int) -> npt.NDArray[np.float32]:
    packed = np.frombuffer(data, np.uint8)
    if values % 2 and packed[-1] >> 4:
        raise PayloadError("data", "of an odd number of int4 values ends with a half byte that is not zero")
    # Shifting a signed byte to the right brings its sign along.
    quantised = np.stack([(packed << 4).view(np.int8) >> 4, packed.view(np.int8) >> 4], axis=1).ravel()[
        :values
    ]
    if quantised.min() < -7:
        raise PayloadError("data", "holds the integer -8; int4 values lie within [-7, 7]")
    return _scaled(quantised, scale, "int4")


def _step(scale: float) -> float | None:
    """The scale as it is on the wire, so that both ends' values are equal; None: too small to divide by."""
    rounded = float(np.float32(scale))
    return rounded if rounded >= float(np.finfo(np.float32).tiny) else None


def _quantised(x_TC: npt.NDArray[np.float32], scale: float, largest: int) -> npt.NDArray[np.int8]:
    return np.clip(np.rint(x_TC.astype(np.float64) / scale), -largest, largest).astype(np.int8)


def _scaled(quantised: npt.NDArray[np.int8], scale: float, dtype: str) -> npt.NDArray[np.float32]:
    if not (math.isfinite(scale) and scale > 0.0):
        raise PayloadError("scale", f"is {scale}; a finite number above 0 is needed with {dtype}")
    with np.errstate(over="ignore"):  # an overflow is found as a value that is not finite
        return quantised.astype(np.float32) * np.float32(scale)


CODECS: Mapping[int, Codec] = MappingProxyType(
    {
        pb.DTYPE_FLOAT32: Codec(32, _pack_float32, _unpack_float32),
        pb.DTYPE_FLOAT16: Codec(16, _pack_float16, _unpack_float16),
        pb.DTYPE_INT8: Codec(8, _pack_int8, _unpack_int8),
        pb.DTYPE_INT4: Codec(4, _pack_int4, _unpack_int4),
    }
)
"""Every dtype of the contract, except ``DTYPE_UNSPECIFIED``."""


def encode(
    x_TC: npt.NDArray[np.float32],
    modality: str,
    dtype: str = "float16",
    channel: pb.ChannelReport | None = None,
) -> pb.TokenPayload:
    """Pack a token block.

    Args:
        x_TC: float32, [token_length, channel_dim], finite.
        modality: a name in :data:`protos.names.MODALITIES`.
        dtype: a name in :data:`protos.names.DTYPES`.
        channel: what the channel did to this block.

    Raises:
        PayloadError: names the field, what was found and what is allowed.
    """
    if modality not in MODALITIES:
        raise PayloadError("modality", f"is {modality!r}; allowed: {', '.join(MODALITIES)}")
    if dtype not in DTYPES:
        raise PayloadError("dtype", f"is {dtype!r}; allowed: {', '.join(DTYPES)}")
    if x_TC.ndim != 2 or not x_TC.size:
        raise PayloadError("shape", f"is {list(x_TC.shape)}; [token_length, channel_dim], each at least 1")
    _check_values(x_TC)
    data, scale = CODECS[DTYPES[dtype]].pack(x_TC)
    payload = pb.TokenPayload(
        modality=MODALITIES[modality],
        dtype=DTYPES[dtype],
        shape=x_TC.shape,
        scale=scale,
        data=data,
        crc32=zlib.crc32(data),
    )
    if channel is not None:
        payload.channel.CopyFrom(channel)
    return payload


def decode(payload: pb.TokenPayload, *, max_token_length: int, channel_dim: int) -> npt.NDArray[np.float32]:
    """Unpack a token block that came from someone else.

    Args:
        payload: as received.
        max_token_length: what the sender's grant allows for this modality.
        channel_dim: of the model that is served.

    Returns:
        float32, [token_length, channel_dim].

    Raises:
        PayloadError: names the field, what was found and what is allowed.
    """
    if payload.modality not in MODALITIES.of_number:
        raise PayloadError("modality", f"is {payload.modality}; allowed: {_numbered(MODALITIES)}")
    codec = CODECS.get(payload.dtype)
    if codec is None:
        raise PayloadError("dtype", f"is {payload.dtype}; allowed: {_numbered(DTYPES)}")
    dimensions = len(payload.shape)
    shape = list(payload.shape[:2])
    if dimensions != 2 or min(shape) < 1:
        found = shape if dimensions <= 2 else f"{dimensions} dimensions"
        raise PayloadError("shape", f"is {found}; [token_length, channel_dim], each at least 1")
    if shape[0] > max_token_length:
        raise PayloadError("shape", f"token_length is {shape[0]}; at most {max_token_length} is granted")
    if shape[1] != channel_dim:
        raise PayloadError("shape", f"channel_dim is {shape[1]}; the served model has {channel_dim}")
    expected_bytes = codec.data_bytes(shape[0] * shape[1])
    if len(payload.data) != expected_bytes:
        raise PayloadError(
            "data", f"is {len(payload.data)} bytes; shape {shape} of this dtype takes {expected_bytes}"
        )
    if zlib.crc32(payload.data) != payload.crc32:
        raise PayloadError(
            "crc32", f"is {payload.crc32:#010x}; the data has {zlib.crc32(payload.data):#010x}"
        )
    x_TC = codec.unpack(payload.data, payload.scale, math.prod(shape)).reshape(shape)
    _check_values(x_TC)
    return x_TC


def reported_snr_db(payload: pb.TokenPayload) -> float:
    """Es/N0 after equalisation that a receiver is told, within [-30, 40] dB; 40 where none was reported.

    Raises:
        PayloadError: the report is not a number.
    """
    if not payload.HasField("channel"):
        return MAX_SNR_DB
    snr_db = payload.channel.effective_snr_db
    if math.isnan(snr_db):
        raise PayloadError("channel.effective_snr_db", "is not a number")
    return clamp_snr_db(snr_db)


def _check_values(x_TC: npt.NDArray[np.float32]) -> None:
    # Whatever is not finite makes the sum so. One pass over an honest block; a closer look at any other.
    with np.errstate(over="ignore", invalid="ignore"):
        if float(np.vdot(x_TC, x_TC)) < 0.99 * MAX_MEAN_SQUARE * x_TC.size:
            return
    if not np.isfinite(x_TC).all():
        raise PayloadError("data", "holds values that are not finite")
    mean_square = float(np.mean(np.square(x_TC, dtype=np.float64)))
    if mean_square > MAX_MEAN_SQUARE:
        raise PayloadError("data", f"has a mean square of {mean_square:.3g}; at most {MAX_MEAN_SQUARE:g}")


def _numbered(names: Mapping[str, int]) -> str:
    return ", ".join(f"{int(number)} ({name})" for name, number in names.items())
