"""Token payloads: what goes in comes out, and nothing that lies gets in."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protos import payload as codec
from protos.names import DTYPES, MODALITIES
from protos.payload import CODECS, PayloadError, decode, encode
from protos.tokenlink.v1 import tokenlink_pb2 as pb

LIMITS = {"max_token_length": 32, "channel_dim": 8}

blocks = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 32), st.just(8)),
    elements=st.floats(-90.0, 90.0, width=32),
)


def good(dtype: str = "float16") -> pb.TokenPayload:
    return encode(np.linspace(-1.0, 1.0, 32, dtype=np.float32).reshape(4, 8), "audio", dtype)


def test_every_dtype_of_the_contract_has_a_codec() -> None:
    assert set(CODECS) == set(DTYPES.values())


@given(blocks, st.sampled_from(sorted(MODALITIES)))
def test_float32_comes_back_exactly(x_TC: np.ndarray, modality: str) -> None:
    payload = pb.TokenPayload.FromString(encode(x_TC, modality, "float32").SerializeToString())
    assert payload.modality == MODALITIES[modality]
    np.testing.assert_array_equal(decode(payload, **LIMITS), x_TC)


@given(blocks)
def test_float16_comes_back_within_its_rounding(x_TC: np.ndarray) -> None:
    decoded = decode(encode(x_TC, "video", "float16"), **LIMITS)
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, x_TC, rtol=2.0**-11, atol=2.0**-24)


@given(blocks)
def test_int8_comes_back_within_half_a_step(x_TC: np.ndarray) -> None:
    payload = pb.TokenPayload.FromString(encode(x_TC, "text", "int8").SerializeToString())
    decoded = decode(payload, **LIMITS)
    largest = float(np.abs(x_TC).max())
    np.testing.assert_allclose(decoded, x_TC, rtol=1e-5, atol=largest / 254.0 * 1.0001 + 1e-35)


@given(blocks)
def test_packing_int8_again_changes_nothing(x_TC: np.ndarray) -> None:
    once = encode(x_TC, "text", "int8")
    again = encode(decode(once, **LIMITS), "text", "int8")
    np.testing.assert_allclose(decode(again, **LIMITS), decode(once, **LIMITS), rtol=1e-6)


@given(blocks)
def test_int4_is_at_least_as_close_as_rounding_to_sevenths_of_the_largest(x_TC: np.ndarray) -> None:
    payload = pb.TokenPayload.FromString(encode(x_TC, "text", "int4").SerializeToString())
    assert len(payload.data) == x_TC.size // 2
    step = max(float(np.abs(x_TC).max()) / 7.0, 1e-38)
    plain = np.rint(x_TC.astype(np.float64) / step) * step
    error = np.square(decode(payload, **LIMITS) - x_TC.astype(np.float64)).sum()
    rounding = (float(np.abs(x_TC).max()) * 2.0**-22) ** 2 * x_TC.size  # of float32
    assert error <= np.square(plain - x_TC).sum() * 1.001 + rounding + 1e-30


@given(blocks)
def test_packing_int4_again_changes_nothing(x_TC: np.ndarray) -> None:
    once = encode(x_TC, "text", "int4")
    again = encode(decode(once, **LIMITS), "text", "int4")
    np.testing.assert_allclose(decode(again, **LIMITS), decode(once, **LIMITS), rtol=1e-6)


def test_int4_clips_what_is_normally_distributed_and_gains_by_it() -> None:
    x_TC = np.random.default_rng(0).normal(0.0, 0.5**0.5, (32, 1000)).astype(np.float32)
    decoded = decode(encode(x_TC, "audio", "int4"), max_token_length=32, channel_dim=1000)
    assert float(decoded.max()) < float(np.abs(x_TC).max())
    # The least error of 15 levels at equal distances, by numerical integration over the normal density.
    noise_db = 10.0 * np.log10(np.mean((decoded - x_TC) ** 2) / np.mean(x_TC**2))
    assert abs(noise_db - -18.90) < 0.15


def test_int4_puts_two_values_into_a_byte_and_zero_behind_an_odd_last_one() -> None:
    x_TC = np.array([[7.0, -7.0, 1.0], [0.0, -1.0, 3.0], [-2.0, 5.0, -7.0]], np.float32)
    payload = encode(x_TC, "audio", "int4")
    assert payload.data == bytes([0x97, 0x01, 0x3F, 0x5E, 0x09])
    assert payload.scale == 1.0
    limits = {"max_token_length": 3, "channel_dim": 3}
    np.testing.assert_array_equal(decode(payload, **limits), x_TC)
    _set(data=payload.data[:-1] + b"\x19")(payload)
    with pytest.raises(PayloadError, match="half byte") as refusal:
        decode(payload, **limits)
    assert refusal.value.field == "data"


@given(st.binary(max_size=200))
def test_no_bytes_from_the_network_do_more_than_raise_a_payload_error(noise: bytes) -> None:
    try:
        payload = pb.TokenPayload.FromString(noise)
    except Exception:  # protobuf's own refusal, before us
        return
    with pytest.raises(PayloadError):  # a good checksum does not come by accident
        decode(payload, **LIMITS)


@given(
    st.integers(0, 6),
    st.integers(0, 6),
    st.lists(st.integers(0, 2**32 - 1), max_size=4),
    st.binary(max_size=64),
    st.floats(width=32),
)
def test_made_up_payloads_are_refused_by_field_or_are_within_the_limits(
    modality: int, dtype: int, shape: list[int], data: bytes, scale: float
) -> None:
    payload = pb.TokenPayload(
        modality=modality,  # type: ignore[arg-type]
        dtype=dtype,  # type: ignore[arg-type]
        shape=shape,
        data=data,
        scale=scale,
        crc32=zlib.crc32(data),
    )
    fault: PayloadError | None = None
    try:
        x_TC = decode(payload, max_token_length=4, channel_dim=2)
    except PayloadError as error:
        fault = error
    if fault is not None:
        assert fault.field in {"modality", "dtype", "shape", "data", "scale"}
    else:
        assert x_TC.shape[0] <= 4
        assert x_TC.shape[1] == 2
        assert np.isfinite(x_TC).all()


def _set(**fields: object) -> Callable[[pb.TokenPayload], None]:
    def change(payload: pb.TokenPayload) -> None:
        for name, value in fields.items():
            if isinstance(value, list):
                del payload.shape[:]
                payload.shape.extend(value)
            else:
                setattr(payload, name, value)
        if "data" in fields and "crc32" not in fields:
            payload.crc32 = zlib.crc32(payload.data)

    return change


@pytest.mark.parametrize(
    ("dtype", "change", "field"),
    [
        ("float16", _set(modality=0), "modality"),
        ("float16", _set(modality=99), "modality"),
        ("float16", _set(dtype=0), "dtype"),
        ("float16", _set(dtype=77), "dtype"),
        ("float16", _set(shape=[]), "shape"),
        ("float16", _set(shape=[32]), "shape"),
        ("float16", _set(shape=[4, 8, 1]), "shape"),
        ("float16", _set(shape=[0, 8]), "shape"),
        ("float16", _set(shape=[33, 8]), "shape"),
        ("float16", _set(shape=[8, 4]), "shape"),
        ("float16", _set(shape=[2**32 - 1, 8]), "shape"),
        ("float16", _set(shape=[5, 8]), "data"),
        ("float16", _set(data=b""), "data"),
        ("float16", _set(crc32=1), "crc32"),
        ("float16", _set(data=bytes(62) + b"\x00\x7e"), "data"),  # NaN
        ("float16", _set(data=bytes(62) + b"\x00\x7c"), "data"),  # infinity
        ("float16", _set(data=b"\xff\x7b" * 32), "data"),  # 65504 throughout: an absurd norm
        ("int8", _set(scale=0.0), "scale"),
        ("int8", _set(scale=-1.0), "scale"),
        ("int8", _set(scale=float("nan")), "scale"),
        ("int8", _set(scale=float("inf")), "scale"),
        ("int8", _set(scale=3e38), "data"),  # finite, but its products are not
        ("int8", _set(data=b"\x80" * 32), "data"),  # -128
        ("int4", _set(scale=0.0), "scale"),
        ("int4", _set(scale=float("nan")), "scale"),
        ("int4", _set(scale=3e38), "data"),
        ("int4", _set(data=bytes(15) + b"\x08"), "data"),  # -8, in the lower half
        ("int4", _set(data=bytes(15) + b"\x80"), "data"),  # -8, in the upper half
        ("int4", _set(data=bytes(32)), "data"),  # a byte per value
    ],
)
def test_a_payload_that_lies_is_refused_by_field(
    dtype: str, change: Callable[[pb.TokenPayload], None], field: str
) -> None:
    payload = good(dtype)
    decode(payload, **LIMITS)  # good until changed
    change(payload)
    with pytest.raises(PayloadError) as refusal:
        decode(payload, **LIMITS)
    assert refusal.value.field == field
    assert str(refusal.value).startswith(field)


def test_fields_are_checked_in_order_of_cost() -> None:
    payload = good()
    for change, field in (
        (_set(crc32=1), "crc32"),
        (_set(data=b"x", crc32=1), "data"),
        (_set(shape=[4000, 8]), "shape"),
        (_set(dtype=9), "dtype"),
        (_set(modality=9), "modality"),
    ):
        change(payload)
        with pytest.raises(PayloadError) as refusal:
            decode(payload, **LIMITS)
        assert refusal.value.field == field


@pytest.mark.parametrize(
    ("x_TC", "modality", "dtype", "field"),
    [
        (np.zeros((2, 2), np.float32), "smell", "float16", "modality"),
        (np.zeros((2, 2), np.float32), "audio", "float8", "dtype"),
        (np.zeros(4, np.float32), "audio", "float16", "shape"),
        (np.zeros((0, 4), np.float32), "audio", "float16", "shape"),
        (np.full((2, 2), np.nan, np.float32), "audio", "float32", "data"),
        (np.full((2, 2), 1e6, np.float32), "audio", "float32", "data"),
        (np.pad(np.full((1, 1), 1e5, np.float32), ((0, 2047), (0, 511))), "audio", "float16", "data"),
    ],
)
def test_a_block_that_cannot_be_sent_is_refused_by_field(
    x_TC: np.ndarray, modality: str, dtype: str, field: str
) -> None:
    with pytest.raises(PayloadError) as refusal:
        encode(x_TC, modality, dtype)
    assert refusal.value.field == field


def test_the_channel_report_travels_and_is_clamped_for_the_receiver() -> None:
    report = pb.ChannelReport(model=pb.CHANNEL_MODEL_RAYLEIGH, effective_snr_db=99.0, channel_uses=7)
    payload = encode(np.zeros((1, 8), np.float32), "image", "float32", report)
    assert payload.channel == report
    assert codec.reported_snr_db(payload) == 40.0
    payload.channel.effective_snr_db = -99.0
    assert codec.reported_snr_db(payload) == -30.0
    payload.channel.effective_snr_db = 4.5
    assert codec.reported_snr_db(payload) == 4.5
    payload.channel.effective_snr_db = float("nan")
    with pytest.raises(PayloadError, match="effective_snr_db"):
        codec.reported_snr_db(payload)
    assert codec.reported_snr_db(good()) == 40.0
