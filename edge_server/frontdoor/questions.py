"""Questions of the contract as requests of the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from edge_server.cell import SentBlock, Session, count_sent
from edge_server.engine import FeatureBlock, Priority, Prompt, Request, Sampling
from edge_server.engine.sampling import GREEDY
from edge_server.errors import InvalidQuestionError, TextTooLongError
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.ports import LinkShape
from edge_server.frontdoor.sampling import check_biases, check_sampling, check_stops
from protos import payload, token_snr
from protos.names import MODALITIES, PRIORITIES, SLOT_OF
from protos.tokenlink.v1 import tokenlink_pb2 as pb

_BYTES_PER_TOKEN = 64
"""Longer language tokens are runs of blanks."""
_LEAST_TEXT_BYTES = 16 * 1024

MAX_USES_PER_SYMBOL = 1001
"""A thousand pilots for each symbol are the most that an agent can be told to send."""
MAX_AIRTIME_S = 3600.0
"""The most that a device's word adds to a counter, for a block [s]."""
MAX_ENCODE_S = 60.0
"""The most that making a question's tokens is believed to take [s]."""
MAX_DEADLINE_S = 3600.0
"""The longest deadline that is told apart from a longer one [s]."""


@dataclass(frozen=True)
class AboutScenes:
    """What a question about scenes became, before it was admitted.

    Attributes:
        blocks: that the model is shown.
        question_ids: of a question that came as text; empty: it brought its own.
        kept_as: names what is shown, for whoever keeps what was computed of it.
    """

    blocks: tuple[FeatureBlock, ...]
    question_ids: tuple[int, ...]
    kept_as: str


def request_of(
    question: pb.Question,
    session: Session,
    shape: LinkShape,
    metrics: Metrics,
    about: AboutScenes | None = None,
) -> Request:
    """Decode a question that was admitted.

    Args:
        question: as it came.
        session: who asks.
        shape: token blocks that the model takes.
        metrics: counts the blocks that it brought.
        about: the scenes that it names; None: it names none.

    Raises:
        InvalidQuestionError: names the field, what was found and what is allowed.
    """
    if len(question.payloads) > len(MODALITIES):
        raise InvalidQuestionError(
            "payloads", f"holds {len(question.payloads)} blocks; at most one per modality"
        )
    blocks = tuple(
        block_of(received, f"payloads[{index}]", session.grant.max_token_length, shape)
        for index, received in enumerate(question.payloads)
    )
    check_modalities([block.modality for block in blocks], "payloads")
    analog = any(block.modality == "text" for block in blocks)
    question_ids = tuple(question.question_ids)
    if about is not None:
        question_ids = question_ids or about.question_ids
        blocks = (*blocks, *about.blocks)
    if not question_ids and not analog:
        raise InvalidQuestionError(
            "question_ids", "is empty, and no text block carries the question; one of them is needed"
        )
    if question.question_ids and analog:
        raise InvalidQuestionError(
            "question_ids", f"holds {len(question.question_ids)} ids, and a text block came too; one of them"
        )
    for block, received in zip(blocks[: len(question.payloads)], question.payloads, strict=True):
        airtime_s = told_airtime_s(received.channel.airtime_s)
        metrics.block(block.modality, len(block.x_TC), airtime_s, block.snr_db)
    note_sent(question, session, metrics)
    sampling = GREEDY
    if question.HasField("sampling"):  # few do, and questions are many
        try:
            check_biases(len(question.sampling.logit_bias))
            check_sampling(sampling := sampling_of(question.sampling))
            check_stops(question.sampling.stop)
        except InvalidQuestionError as error:
            raise InvalidQuestionError(f"sampling.{error.field}", f"sampling.{error}") from error
    return Request(
        prompt=Prompt(
            blocks=blocks,
            question_ids=question_ids,
            context_ids=tuple(question.context_ids),
            sampling=sampling,
            conversation=session.session_id,
            kept_as="" if about is None or question.context_ids else about.kept_as,
        ),
        user=session.session_id,
        max_new_tokens=question.max_new_tokens,
        deadline_s=question.deadline_ms / 1000.0,
        request_id=question.request_id,
        priority=priority_of(question.priority),
        whole=question.whole_answer,
        stop=tuple(question.sampling.stop),
    )


def sampling_of(sent: pb.Sampling) -> Sampling:
    """How an answer is decoded, as the wire says it; one that says nothing is greedy."""
    return Sampling(
        temperature=sent.temperature,
        top_p=sent.top_p if sent.HasField("top_p") else 1.0,
        seed=sent.seed if sent.HasField("seed") else None,
        frequency_penalty=sent.frequency_penalty,
        presence_penalty=sent.presence_penalty,
        logit_bias=tuple((bias.token_id, bias.bias) for bias in sent.logit_bias),
    )


def note_sent(question: pb.Question, session: Session, metrics: Metrics) -> None:
    """Note what a question's media took of the radio and of time, and count what exceeds its grant."""
    excess = count_sent(
        session,
        sent_blocks(question.payloads),
        deadline_s=told_deadline_s(question),
        encode_s=_told_encode_s(question),
        spent_s=min(question.spent_ms / 1000.0, MAX_DEADLINE_S),
    )
    for what in excess:
        metrics.exceeded(what)


def told_deadline_s(question: pb.Question) -> float:
    """A question's deadline as it was when it was asked, by its device's word [s]; 0: it tells none."""
    if not question.deadline_ms:
        return 0.0
    return min((question.deadline_ms + question.spent_ms) / 1000.0, MAX_DEADLINE_S)


def told_late_s(late: pb.Late) -> tuple[float, float]:
    """Of a question that was given up, its deadline and what making its tokens took [s]."""
    return min(late.deadline_ms / 1000.0, MAX_DEADLINE_S), _told_encode_s(late)


def _told_encode_s(sent: pb.Question | pb.Late) -> float:
    return min(sent.encode_ms / 1000.0, MAX_ENCODE_S)


def sent_blocks(payloads: Sequence[pb.TokenPayload]) -> list[SentBlock]:
    """What the media of a question took of the radio, as its device tells it."""
    return [
        SentBlock(
            slot=SLOT_OF[name],
            token_length=block.shape[0],
            symbols=(symbols := block.shape[0] * block.shape[1] // 2),
            channel_uses=min(block.channel.channel_uses, symbols * MAX_USES_PER_SYMBOL),
            airtime_s=told_airtime_s(block.channel.airtime_s),
        )
        for block in payloads
        if (name := MODALITIES.of_number[block.modality]) in SLOT_OF
    ]


def told_airtime_s(sent: float) -> float:
    """An airtime as a device tells it, which may be any number: one that can be counted [s]."""
    return min(max(sent, 0.0), MAX_AIRTIME_S) if math.isfinite(sent) else 0.0


def priority_of(sent: int) -> Priority:
    """The class that a question asks for, as the wire says it.

    Raises:
        InvalidQuestionError: there is no such class.
    """
    name = PRIORITIES.of_number.get(sent or pb.PRIORITY_INTERACTIVE)
    if name is None:
        raise InvalidQuestionError(
            "priority", f"is {sent}; allowed: {', '.join(str(number) for number in pb.Priority.values())}"
        )
    return cast(Priority, name)


def block_of(received: pb.TokenPayload, field: str, max_token_length: int, shape: LinkShape) -> FeatureBlock:
    """Decode one token block.

    Args:
        received: the block.
        field: where it stood, as a path.
        max_token_length: granted, for all modalities but text.
        shape: what the model takes.

    Raises:
        InvalidQuestionError: names the field, what was found and what is allowed.
    """
    if received.modality == pb.MODALITY_TEXT:
        max_token_length = shape.max_text_token_length
    try:
        x_TC = payload.decode(received, max_token_length=max_token_length, channel_dim=shape.channel_dim)
        snr_db, of_each = payload.reported_snr_db(received), token_snr.reported(received)
    except payload.PayloadError as error:
        raise InvalidQuestionError(f"{field}.{error.field}", error.message) from error
    modality, pilots = MODALITIES.of_number[received.modality], received.channel.pilots
    if shape.refine is not None and pilots and of_each is None and not received.first_token:
        x_TC, snr_db = shape.refine(modality, x_TC, snr_db, pilots)
    return FeatureBlock(modality, x_TC, snr_db, token_snr_db_T=of_each)


def check_text(text: str, field: str, shape: LinkShape) -> None:
    """Let a text pass that may be worth looking at: bounded in bytes, before anything is made of it.

    Making language tokens of a text takes a hundred times its bytes of memory, and microseconds for each; a
    text that the model would refuse by its tokens is refused here by its bytes, with room for long tokens.

    Args:
        text: of a question, or what goes with one.
        field: where it stood, as a path.
        shape: what the model takes.

    Raises:
        TextTooLongError: names the field, what was found and what is allowed.
    """
    most_bytes = most_text_bytes(shape)
    # Characters first: a text far too long is not even encoded.
    size_bytes = len(text) if len(text) > most_bytes else len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > most_bytes:
        raise TextTooLongError(field, found=size_bytes, allowed=most_bytes, unit="bytes")


def most_text_bytes(shape: LinkShape) -> int:
    """Bytes of the longest text that is looked at."""
    return max(shape.max_text_token_length * _BYTES_PER_TOKEN, _LEAST_TEXT_BYTES)


def check_modalities(modalities: Sequence[str], field: str) -> None:
    """Each modality at most once, and one for each transmitter: image or video.

    Raises:
        InvalidQuestionError: names the field and the modality.
    """
    for modality in modalities:
        if modalities.count(modality) > 1:
            raise InvalidQuestionError(
                field, f"{modality} comes {modalities.count(modality)} times; at most once"
            )
    for slot in SLOT_OF.values():
        together = [modality for modality in SLOT_OF if SLOT_OF[modality] == slot and modality in modalities]
        if len(together) > 1:
            raise InvalidQuestionError(field, f"{' and '.join(together)} came together; one of them")
