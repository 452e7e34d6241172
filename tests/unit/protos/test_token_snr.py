"""The SNR of each token on the wire: a byte each, half a decibel apart, checked where it comes in."""

from __future__ import annotations

import numpy as np
import pytest

from protos import payload, token_snr
from protos.payload import PayloadError
from protos.tokenlink.v1 import tokenlink_pb2 as pb


def sent(told: bytes, tokens: int = 3) -> pb.TokenPayload:
    report = pb.ChannelReport(effective_snr_db=4.0, token_snr=told)
    return payload.encode(np.ones((tokens, 4), np.float32), "video", channel=report)


def test_it_comes_out_as_it_went_in_to_a_quarter_of_a_decibel() -> None:
    snr_db_T = np.linspace(-30.0, 40.0, 997, dtype=np.float32)
    told = token_snr.pack(snr_db_T)
    assert len(told) == 997
    found = token_snr.unpack(told)
    assert found is not None
    assert found.dtype == np.float32
    assert np.abs(found - snr_db_T).max() <= 0.25 + 1e-5
    assert token_snr.pack(found) == told, "told twice it is the same"
    np.testing.assert_array_equal(token_snr.rounded(snr_db_T), found)


def test_beyond_its_bounds_it_is_the_bound() -> None:
    found = token_snr.rounded(np.array([-200.0, 200.0], np.float32))
    assert found is not None
    assert found.tolist() == [-30.0, 40.0]
    read = token_snr.unpack(bytes([0, 140, 141, 255]))
    assert read is not None
    assert read.tolist() == [-30.0, 40.0, 40.0, 40.0]


def test_what_is_not_told_is_the_blocks() -> None:
    assert token_snr.pack(None) == b""
    assert token_snr.unpack(b"") is None
    assert token_snr.rounded(None) is None
    assert token_snr.reported(sent(b"")) is None
    assert token_snr.reported(payload.encode(np.ones((3, 4), np.float32), "video")) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_only_numbers_can_be_told(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        token_snr.pack(np.array([1.0, bad], np.float32))


@pytest.mark.parametrize("told", [bytes(1), bytes(2), bytes(4), bytes(5000)])
def test_there_is_one_for_each_token_or_none(told: bytes) -> None:
    with pytest.raises(PayloadError) as refused:
        token_snr.reported(sent(told))
    assert refused.value.field == "channel.token_snr"
    assert f"{len(told)} bytes" in refused.value.message


def test_a_byte_a_token_is_what_it_costs() -> None:
    with_it, without = sent(bytes([60, 61, 80])), sent(b"")
    assert with_it.ByteSize() - without.ByteSize() == 3 + 2, "tag and length on top"
    assert payload.reported_snr_db(with_it) == payload.reported_snr_db(without) == 4.0
    found = token_snr.reported(with_it)
    assert found is not None
    assert found.tolist() == [0.0, 0.5, 10.0]
