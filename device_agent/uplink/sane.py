"""What a server sends, within bounds: a server that errs, or means harm, must not hold or fill a device.

Every number of a session, an answer or a refusal passes here before anything is computed, waited for or shown
from it.
"""

from __future__ import annotations

import math
import re

from protos.names import MAX_ABS_SNR_DB
from protos.tokenlink.v1 import tokenlink_pb2 as pb

MIN_BANDWIDTH_HZ, MAX_BANDWIDTH_HZ = 1.0, 1e12
"""Granted bandwidths lie here [Hz]; 0 says that nothing is granted. What would hold a device for long ends
with its deadline."""
MAX_TX_POWER_DB = 120.0
"""Largest gain, or loss, that a grant can put on a symbol's energy [dB]: the largest power that a server can
be set to grant, 60 dB, over a millionth of the bandwidth that powers are told by."""
MIN_VALID_S, MAX_VALID_S = 1.0, 7 * 86_400.0
MAX_IN_FLIGHT = 1024
MAX_TOKEN_LENGTH = 65_536
MAX_RETRY_DELAY_S = 60.0
"""No server can tell a device to stay away for longer than this at a time [s]."""
MAX_ANSWER_CHARACTERS = 1_000_000
MAX_NAME_CHARACTERS = 256
MAX_WORDS_CHARACTERS = 2_000
"""Of an error's message."""
MAX_REQUESTS = 64
"""For more tokens of one question, tries after a cut link included: each takes the radio."""
MAX_WAITING_FRAMES, MAX_WAITING_BYTES = 16_384, 8 * 2**20
"""What may lie ready of one question's answer before it is taken. A frame is as large as gRPC lets it be."""
_HASH = re.compile(r"[0-9a-f]{64}")


def sane_grant(sent: pb.Grant) -> pb.Grant:
    """A grant whose numbers can be worked with; a bandwidth that is raised keeps its power."""
    grant = pb.Grant()
    grant.CopyFrom(sent)
    if grant.bandwidth_hz != 0.0:
        grant.bandwidth_hz = _within(grant.bandwidth_hz, MIN_BANDWIDTH_HZ, MAX_BANDWIDTH_HZ)
    if 0.0 < sent.bandwidth_hz < grant.bandwidth_hz:
        # The same power over more bandwidth: less energy for each symbol.
        grant.tx_power_db += 10.0 * math.log10(sent.bandwidth_hz / grant.bandwidth_hz)
    grant.valid_s = _within(grant.valid_s, MIN_VALID_S, MAX_VALID_S)
    grant.max_questions_in_flight = min(max(grant.max_questions_in_flight, 1), MAX_IN_FLIGHT)
    grant.max_token_length = min(max(grant.max_token_length, 1), MAX_TOKEN_LENGTH)
    grant.token_length = min(grant.token_length, MAX_TOKEN_LENGTH)
    if grant.HasField("tx_power_db"):
        grant.tx_power_db = _within(grant.tx_power_db, -MAX_TX_POWER_DB, MAX_TX_POWER_DB)
    if grant.HasField("outage_snr_db"):
        grant.outage_snr_db = _within(grant.outage_snr_db, -MAX_ABS_SNR_DB, MAX_ABS_SNR_DB)
    return grant


def sane_answer(sent: pb.Answer) -> pb.Answer:
    """An answer that can be shown and written as JSON."""
    answer = pb.Answer()
    answer.CopyFrom(sent)
    answer.text = answer.text[:MAX_ANSWER_CHARACTERS]
    answer.finish_reason = answer.finish_reason[:MAX_NAME_CHARACTERS]
    answer.probability = _within(answer.probability, 0.0, 1.0)
    if answer.HasField("logprob"):
        answer.logprob = _within(answer.logprob, -1e9, 0.0)
    answer.guess = answer.guess[:MAX_ANSWER_CHARACTERS]
    if answer.HasField("confidence"):
        answer.confidence = _within(answer.confidence, 0.0, 1.0)
    answer.queue_s = _within(answer.queue_s, 0.0, 1e9)
    answer.compute_s = _within(answer.compute_s, 0.0, 1e9)
    return answer


def sane_delay_s(retry_delay_ms: int) -> float:
    """How long to stay away at least [s]."""
    return min(retry_delay_ms / 1000.0, MAX_RETRY_DELAY_S)


def sane_time_s(sent: float) -> float:
    """A server's clock [s since the Unix epoch]."""
    return _within(sent, 0.0, 1e11)


def sane_name(sent: str) -> str:
    """A name or a version."""
    return sent[:MAX_NAME_CHARACTERS]


def sane_words(sent: str) -> str:
    """An error's message."""
    return sent if len(sent) <= MAX_WORDS_CHARACTERS else f"{sent[:MAX_WORDS_CHARACTERS]}..."


def sane_hash(sent: str) -> str:
    """The hash of a bundle; empty where it is none."""
    return sent if _HASH.fullmatch(sent) else ""


def _within(value: float, least: float, most: float) -> float:
    """The nearest value between two; what is no number is the least."""
    return least if math.isnan(value) else min(max(value, least), most)
