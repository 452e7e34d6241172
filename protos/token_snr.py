"""The SNR of each token on the wire: a byte each, in steps of half a decibel.

What a receiver is told by is smooth over decibels, and an estimate of a link is rarely better than this.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protos.names import MAX_SNR_DB, MIN_SNR_DB
from protos.payload import PayloadError
from protos.tokenlink.v1 import tokenlink_pb2 as pb

STEP_DB = 0.5
"""Between two values that can be told [dB]."""
_LAST = round((MAX_SNR_DB - MIN_SNR_DB) / STEP_DB)

SnrPerToken = npt.NDArray[np.float32]
"""Of each token, [T] [dB]."""


def pack(snr_db_T: SnrPerToken | None) -> bytes:
    """SNRs [dB], finite, as ``ChannelReport.token_snr`` has them; nothing of None.

    Raises:
        ValueError: one is not finite.
    """
    if snr_db_T is None:
        return b""
    if not np.isfinite(snr_db_T).all():
        raise ValueError("token_snr: holds values that are not finite")
    steps_T = np.rint((snr_db_T.astype(np.float64) - MIN_SNR_DB) / STEP_DB)
    return np.clip(steps_T, 0, _LAST).astype(np.uint8).tobytes()


def unpack(told: bytes) -> SnrPerToken | None:
    """What :func:`pack` made; None of nothing. What is above 40 dB is taken as 40."""
    if not told:
        return None
    steps_T = np.minimum(np.frombuffer(told, np.uint8), _LAST)
    return (MIN_SNR_DB + STEP_DB * steps_T).astype(np.float32)


def rounded(snr_db_T: SnrPerToken | None) -> SnrPerToken | None:
    """SNRs [dB] as they are told on the wire."""
    return unpack(pack(snr_db_T))


def reported(payload: pb.TokenPayload) -> SnrPerToken | None:
    """Es/N0 after equalisation of each token, within [-30, 40] [dB]; None: as the block's.

    Args:
        payload: whose shape was checked.

    Raises:
        PayloadError: there is not one for each token.
    """
    told = payload.channel.token_snr
    if told and len(told) != payload.shape[0]:
        raise PayloadError(
            "channel.token_snr", f"is {len(told)} bytes; one for each of {payload.shape[0]} tokens, or none"
        )
    return unpack(told)
