"""Questions and answers between door and engine: nothing is lost, nothing is told twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_server import errors
from edge_server.cluster.answers import completion_of, delta_of, error_of, refusal_of, text_of, whole_of
from edge_server.cluster.questions import Ticket, request_of, work_of
from edge_server.cluster.retelling import CutOffError, Retelling
from edge_server.cluster.subjects import claim_key, queue_name
from edge_server.engine import AnswerStream, Completion, Delta, FeatureBlock, Prompt, Request, Sampling, Token
from edge_server.engine.ports import Said
from protos.tokenlink.v1 import cluster_pb2 as cb

SAMPLED = Sampling(
    temperature=0.75,
    top_p=0.5,
    seed=2**64 - 1,
    frequency_penalty=-1.5,
    presence_penalty=2.0,
    logit_bias=((3, 0.25), (900, -100.0)),
    alternatives=4,
)
BLOCK = FeatureBlock("video", np.arange(6, dtype=np.float32).reshape(2, 3) / 7, 12.5)
WHOLE = Completion(
    text="two words",
    probability=0.25,
    prompt_tokens=9,
    answer_tokens=2,
    queue_s=0.5,
    compute_s=0.125,
    finish_reason="length",
    first_token_s=0.25,
    logprobs=(-0.5, -1.25),
    tokens=(Token(1, -0.5, ((1, -0.5), (2, -1.0))), Token(7, -1.25)),
    confidence=0.75,
    abstained=True,
    guess="one",
)


TOLD = replace(BLOCK, token_snr_db_T=np.array([-2.5, 40.0], np.float32))


@pytest.mark.parametrize("blocks", [(BLOCK,), (TOLD,), (BLOCK, replace(TOLD, label=(5, 6)))])
def test_a_question_comes_out_as_it_went_in(blocks: tuple[FeatureBlock, ...]) -> None:
    request = Request(
        prompt=Prompt(
            blocks=blocks,
            question_ids=(1, 2),
            context_ids=(3,),
            sampling=SAMPLED,
            turns=(Said("user", ((1, 2), 0)), Said("assistant", ((),))),
            conversation="c",
            kept_as="k",
        ),
        user="somebody",
        max_new_tokens=5,
        deadline_s=3.0,
        request_id="r",
        priority="background",
        whole=True,
        stop=("\n", "."),
        tokens=True,
    )
    ticket = Ticket("uid", "inbox", 1e9, 4.0, max_new_tokens=5, claim="c", claimed=7, digest=b"d")
    work = cb.Work.FromString(work_of(request, ticket).SerializeToString())
    back = request_of(work, 3.0)
    for sent, came in zip(request.prompt.blocks, back.prompt.blocks, strict=True):
        assert np.array_equal(sent.x_TC, came.x_TC)
        assert came.x_TC.dtype == np.float32
        assert came.x_TC.flags.writeable
        assert (came.modality, came.snr_db, came.label) == (sent.modality, sent.snr_db, sent.label)
        assert (came.token_snr_db_T is None) == (sent.token_snr_db_T is None)
        assert np.array_equal(came.told_db(), sent.told_db())
    for made in (request, back):
        object.__setattr__(made.prompt, "blocks", ())
    assert back == request
    assert (work.uid, work.inbox, work.claim, work.claimed, work.digest) == ("uid", "inbox", "c", 7, b"d")


def test_an_answer_comes_out_as_it_went_in() -> None:
    assert completion_of(whole_of(WHOLE)) == WHOLE
    delta = Delta("ü", WHOLE.tokens)
    assert delta_of(text_of(delta)) == delta


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidQuestionError("payloads[0].shape", "is wrong"),
        errors.DeadlineExpiredError(2.5),
        errors.QuestionCancelledError(),
        errors.EngineFailureError("the model failed"),
    ],
)
def test_an_error_comes_out_as_it_went_in(error: errors.EdgeServerError) -> None:
    back = error_of(refusal_of(error), 2.5)
    assert (type(back), str(back)) == (type(error), str(error))
    assert getattr(back, "field", None) == getattr(error, "field", None)


async def told(*pieces: tuple[int, int, Delta] | Completion) -> list[object]:
    stream = AnswerStream(lambda: None)
    retelling = Retelling(stream)
    for piece in pieces:
        if isinstance(piece, Completion):
            retelling.end(piece)
        else:
            retelling.piece(*piece)
    return [event async for event in stream]


def words(events: list[object]) -> list[str]:
    return [event.text for event in events if isinstance(event, Delta)]


async def test_what_was_told_is_not_told_again() -> None:
    first, second = WHOLE.tokens
    events = await told(
        (0, 0, Delta("two", (first,))),
        (0, 0, Delta("tw")),
        (2, 0, Delta("o wo", (first, second))),
        WHOLE,
    )
    assert words(events) == ["two", " wo", "rds"]
    assert [token for event in events if isinstance(event, Delta) for token in event.tokens] == [
        first,
        second,
    ]
    assert events[-1] == WHOLE


async def test_what_was_lost_on_its_way_comes_with_the_end() -> None:
    assert words(await told((0, 0, Delta("t")), (2, 0, Delta("o wo")), WHOLE)) == ["t", "wo words"]


async def test_what_comes_out_differently_is_no_answer() -> None:
    with pytest.raises(CutOffError):
        await told((0, 0, Delta("two")), (0, 0, Delta("too")))
    with pytest.raises(CutOffError):
        await told((0, 0, Delta("too")), WHOLE)


def test_names_tell_apart_what_is_not_the_same() -> None:
    assert claim_key("a", "bc") != claim_key("ab", "c")
    assert queue_name("m", "b", "d") != queue_name("m", "b", "e")
