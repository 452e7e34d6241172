"""What devices tell of themselves is counted only as far as it can be."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from edge_server.frontdoor.ports import LinkShape
from edge_server.frontdoor.questions import MAX_AIRTIME_S, block_of, told_airtime_s
from protos import payload, token_snr
from protos.tokenlink.v1 import tokenlink_pb2 as pb


@pytest.mark.parametrize(
    ("told", "counted"),
    [
        (0.0005, 0.0005),
        (-1.0, 0.0),
        (math.nan, 0.0),
        (math.inf, 0.0),
        (-math.inf, 0.0),
        (1e300, MAX_AIRTIME_S),
    ],
)
def test_a_device_moves_no_counter_by_more_than_an_hour(told: float, counted: float) -> None:
    assert told_airtime_s(told) == counted


def turned(
    modality: str, x_TC: npt.NDArray[np.float32], snr_db: float, pilots: int
) -> tuple[npt.NDArray[np.float32], float]:
    assert modality == "video"
    return -x_TC, snr_db + pilots


@pytest.mark.parametrize(
    ("told", "first_token", "is_refined"),
    [
        ({"pilots": 4}, 0, True),
        ({}, 0, False),
        # Gains that differ within the codeword, and tokens behind those that are there already.
        ({"pilots": 4, "token_snr": token_snr.pack(np.zeros(3, np.float32))}, 0, False),
        ({"pilots": 4}, 5, False),
    ],
)
def test_one_gain_that_was_estimated_is_refined(
    told: dict[str, int], first_token: int, is_refined: bool
) -> None:
    x_TC = np.ones((3, 8), np.float32)
    received = payload.encode(x_TC, "video", "float32", pb.ChannelReport(effective_snr_db=2.0, **told))
    received.first_token = first_token
    block = block_of(received, "payloads[0]", 8, LinkShape(8, 0, refine=turned))
    np.testing.assert_array_equal(block.x_TC, -x_TC if is_refined else x_TC)
    assert block.snr_db == (6.0 if is_refined else 2.0)
    plain = block_of(received, "payloads[0]", 8, LinkShape(8, 0))
    np.testing.assert_array_equal(plain.x_TC, x_TC)
