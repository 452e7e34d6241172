"""Questions on the wire, as devices of the model without weights ask them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from protos import payload
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.weightless import CHANNEL_DIM


def block(modality: str = "video", token_length: int = 4) -> pb.TokenPayload:
    """Feature tokens, all alike, of the width that :mod:`tests.weightless` expects."""
    return payload.encode(np.full((token_length, CHANNEL_DIM), 0.5, np.float32), modality)


def question(
    request_id: str = "q1", *blocks: pb.TokenPayload, question_ids: Iterable[int] = (1, 2), **fields: Any
) -> pb.Question:
    """A question; with other fields of the message where a test wants them."""
    return pb.Question(request_id=request_id, question_ids=question_ids, payloads=blocks, **fields)


def about_video(request_id: str = "q1", **fields: Any) -> pb.Question:
    """A question about a block of a video; the model without weights says ``2+video:4`` to it."""
    return question(request_id, block(), **fields)
