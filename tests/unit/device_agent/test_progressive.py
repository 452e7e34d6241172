"""The device's side of a question in rounds: what is in reserve, and what answers a request."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from device_agent.progressive import Ladder, Reserve, first_round, in_order
from protos import payload
from protos.tokenlink.v1 import tokenlink_pb2 as pb

LONGEST = np.random.default_rng(1).standard_normal((16, 8)).astype(np.float16).astype(np.float32)


class Encoder:
    """Gives blocks of tokens, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    async def __call__(self, length: int) -> Mapping[str, np.ndarray]:
        self.lengths.append(length)
        return {"video": LONGEST[:length], "audio": -LONGEST[:length]}


def wanted(*blocks: tuple[int, int, int]) -> pb.MoreWanted:
    return pb.MoreWanted(
        round=1,
        blocks=[pb.WantedBlock(modality=m, token_length=n, first_token=first) for m, n, first in blocks],  # type: ignore[arg-type]
    )


async def test_what_is_nested_is_encoded_once_and_only_what_is_new_is_sent() -> None:
    encoder = Encoder()
    reserve = Reserve((2, 8, 16), True, encoder)
    np.testing.assert_array_equal((await reserve.blocks(2))["video"], LONGEST[:2])
    more = await reserve.wanted(wanted((pb.MODALITY_VIDEO, 8, 2), (pb.MODALITY_AUDIO, 16, 8)))
    np.testing.assert_array_equal(more["video"], LONGEST[2:8])
    np.testing.assert_array_equal(more["audio"], -LONGEST[8:16])
    again = await reserve.wanted(wanted((pb.MODALITY_VIDEO, 8, 2)))
    np.testing.assert_array_equal(again["video"], more["video"])
    assert encoder.lengths == [16]
    assert reserve.encode_s > 0.0


async def test_what_is_not_is_encoded_when_it_is_asked_for_and_sent_whole() -> None:
    encoder = Encoder()
    reserve = Reserve((2, 8, 16), False, encoder)
    await reserve.blocks(2)
    more = await reserve.wanted(wanted((pb.MODALITY_VIDEO, 8, 2)))
    assert {name: len(x_TC) for name, x_TC in more.items()} == {"video": 8}
    await reserve.wanted(wanted((pb.MODALITY_VIDEO, 8, 0)))
    assert encoder.lengths == [2, 8]


@pytest.mark.parametrize(
    "block", [(pb.MODALITY_VIDEO, 4, 2), (pb.MODALITY_IMAGE, 8, 2), (99, 8, 2), (pb.MODALITY_VIDEO, 8, 8)]
)
async def test_what_there_is_not_is_left_out(block: tuple[int, int, int]) -> None:
    assert await Reserve((2, 8, 16), True, Encoder()).wanted(wanted(block)) == {}


@pytest.mark.parametrize("nested", [True, False])
async def test_a_question_that_waits_has_its_reserve_with_it_and_does_not_send_it(nested: bool) -> None:
    ladder = Ladder((2, 8, 16), 0.9, abstain=True)
    reserve = Reserve(ladder.lengths, nested, Encoder())
    sent = [
        payload.encode(x_TC, modality, channel=pb.ChannelReport(channel_uses=8))
        for modality, x_TC in (await reserve.blocks(2)).items()
    ]
    question = pb.Question(request_id="q", payloads=sent, rounds=ladder.message(nested=nested))
    goes_out = question.SerializeToString(deterministic=True)
    question.payloads.extend(await reserve.payloads())
    kept = pb.Question.FromString(question.SerializeToString())
    assert first_round(kept).SerializeToString(deterministic=True) == goes_out
    request = wanted((pb.MODALITY_AUDIO, 16, 8))
    for length in (8, 16):
        found = await Reserve.of(kept).blocks(length)
        np.testing.assert_array_equal(found["video"], (await reserve.blocks(length))["video"])
    more = (await Reserve.of(kept).wanted(request))["audio"]
    np.testing.assert_array_equal(more, -LONGEST[8:16] if nested else -LONGEST[:16])
    answer = [payload.encode(more, "audio")]
    in_order(request, answer, nested=nested)
    assert answer[0].first_token == (8 if nested else 0)


def test_a_question_at_once_goes_out_as_it_is() -> None:
    question = pb.Question(request_id="q", payloads=[payload.encode(LONGEST, "video")])
    assert first_round(question) is question


def test_a_ladder_ends_at_what_is_granted() -> None:
    ladder = Ladder((2, 8, 16), 0.9)
    assert ladder.up_to(16) == ladder
    assert ladder.up_to(9).lengths == (2, 8)
    assert ladder.up_to(1).lengths == (2,), "which the agent refuses by name"
