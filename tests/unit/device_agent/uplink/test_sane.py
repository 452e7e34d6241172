"""A server's numbers, whatever they are, are ones that a device can work with."""

from __future__ import annotations

import json
import math

import pytest

from device_agent.uplink.sane import (
    MAX_ANSWER_CHARACTERS,
    MAX_RETRY_DELAY_S,
    MIN_BANDWIDTH_HZ,
    sane_answer,
    sane_delay_s,
    sane_grant,
    sane_name,
    sane_time_s,
)
from device_agent.uplink.status import TryAgainError, error_of_failure
from protos.tokenlink.v1 import tokenlink_pb2 as pb

GOOD = pb.Grant(
    max_token_length=32,
    token_length=16,
    max_questions_in_flight=4,
    max_question_bytes=4096,
    bandwidth_hz=1e6,
    valid_s=3600,
    outage_snr_db=-12,
)


def test_an_honest_grant_stays_as_it_is() -> None:
    assert sane_grant(GOOD) == GOOD
    assert sane_grant(pb.Grant(max_token_length=1, max_questions_in_flight=1, valid_s=5)).bandwidth_hz == 0.0


@pytest.mark.parametrize(("bandwidth_hz", "tx_power_db"), [(500.0, 33.0), (4.0, 54.0), (2e7, -73.0)])
def test_a_share_of_a_crowded_cell_is_taken_as_it_was_granted(
    bandwidth_hz: float, tx_power_db: float
) -> None:
    sent = pb.Grant(bandwidth_hz=bandwidth_hz, tx_power_db=tx_power_db, valid_s=5)
    grant = sane_grant(sent)
    assert (grant.bandwidth_hz, grant.tx_power_db) == (bandwidth_hz, tx_power_db)


def test_a_bandwidth_that_is_raised_keeps_its_power() -> None:
    def power(grant: pb.Grant) -> float:
        return grant.bandwidth_hz * 10.0 ** (grant.tx_power_db / 10.0)

    sent = pb.Grant(bandwidth_hz=0.01, tx_power_db=30.0, valid_s=5)
    grant = sane_grant(sent)
    assert grant.bandwidth_hz == MIN_BANDWIDTH_HZ
    assert power(grant) == pytest.approx(power(sent))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e-9, 1e300])
def test_no_number_of_a_grant_holds_a_device(value: float) -> None:
    sent = pb.Grant(bandwidth_hz=value, valid_s=value, outage_snr_db=value, max_questions_in_flight=2**32 - 1)
    grant = sane_grant(sent)
    assert MIN_BANDWIDTH_HZ <= grant.bandwidth_hz <= 1e12
    assert 1.0 <= grant.valid_s <= 7 * 86_400
    assert abs(grant.outage_snr_db) <= 200
    assert grant.max_questions_in_flight <= 1024
    assert grant.max_token_length >= 1


def test_an_answer_can_be_written_as_json() -> None:
    sent = pb.Answer(
        text="x" * 2_000_000, probability=math.nan, queue_s=-math.inf, compute_s=math.inf, logprob=-math.inf
    )
    answer = sane_answer(sent)
    assert len(answer.text) == MAX_ANSWER_CHARACTERS
    figures = [answer.probability, answer.queue_s, answer.compute_s, answer.logprob]
    json.dumps(figures, allow_nan=False)
    honest = pb.Answer(text="left", probability=0.5, queue_s=1.5, compute_s=2.5, finish_reason="stop")
    assert sane_answer(honest) == honest


def test_a_server_cannot_send_a_device_away_for_weeks() -> None:
    assert sane_delay_s(1500) == 1.5
    error = error_of_failure(pb.Failure(code=8, message="full", retry_delay_ms=2**32 - 1))
    assert isinstance(error, TryAgainError)
    assert error.floor_s == MAX_RETRY_DELAY_S


def test_names_and_times_are_bounded() -> None:
    assert len(sane_name("x" * 10_000)) == 256
    assert sane_time_s(math.nan) == 0.0
    assert sane_time_s(1_790_000_000.5) == 1_790_000_000.5
