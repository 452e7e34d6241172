"""Questions between door and engine: a request of the engine as a message, and back. Nothing is lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from edge_server.engine import FeatureBlock, Priority, Prompt, Request, Sampling
from edge_server.engine.ports import Role, Said
from protos import token_snr
from protos.names import MODALITIES, PRIORITIES
from protos.tokenlink.v1 import cluster_pb2 as cb
from protos.tokenlink.v1 import tokenlink_pb2 as pb

_SEED_MASK = 2**64 - 1


@dataclass(frozen=True)
class Ticket:
    """What goes with a question on its way.

    Attributes:
        uid: names it between its door and whoever runs it.
        inbox: where pieces of its answer go.
        deadline_at_s: seconds since the Unix epoch.
        deadline_s: how long that was from its submission [s].
        max_new_tokens: that it was accepted with.
        claim: its entry among the claims; empty: it has none.
        claimed: revision of that entry.
        digest: of its content, where it has one.
    """

    uid: str
    inbox: str
    deadline_at_s: float
    deadline_s: float
    max_new_tokens: int
    claim: str = ""
    claimed: int = 0
    digest: bytes = b""


def work_of(request: Request, ticket: Ticket) -> cb.Work:
    """A question that was accepted, as a message."""
    prompt, sampling = request.prompt, request.prompt.sampling
    return cb.Work(
        uid=ticket.uid,
        inbox=ticket.inbox,
        user=request.user,
        deadline_at_s=ticket.deadline_at_s,
        deadline_s=ticket.deadline_s,
        question=pb.Question(
            request_id=request.request_id,
            payloads=[_payload_of(block) for block in prompt.blocks],
            question_ids=prompt.question_ids,
            context_ids=prompt.context_ids,
            max_new_tokens=ticket.max_new_tokens,
            priority=PRIORITIES[request.priority],
            whole_answer=request.whole,
            sampling=pb.Sampling(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                # Of a seed, 64 bits count.
                seed=None if sampling.seed is None else sampling.seed & _SEED_MASK,
                frequency_penalty=sampling.frequency_penalty,
                presence_penalty=sampling.presence_penalty,
                logit_bias=[pb.LogitBias(token_id=id_, bias=bias) for id_, bias in sampling.logit_bias],
                stop=request.stop,
            ),
        ),
        alternatives=sampling.alternatives,
        tokens=request.tokens,
        conversation=prompt.conversation,
        kept_as=prompt.kept_as,
        turns=[
            cb.Turn(role=turn.role, pieces=[_piece_of(piece) for piece in turn.pieces])
            for turn in prompt.turns
        ],
        labels=_labels_of(prompt),
        claim=ticket.claim,
        claimed=ticket.claimed,
        digest=ticket.digest,
    )


def request_of(work: cb.Work, remaining_s: float) -> Request:
    """The question of a message.

    Args:
        work: the message.
        remaining_s: until its deadline.
    """
    question, sampling = work.question, work.question.sampling
    return Request(
        prompt=Prompt(
            blocks=_blocks_of(work),
            question_ids=tuple(question.question_ids),
            context_ids=tuple(question.context_ids),
            sampling=Sampling(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=sampling.seed if sampling.HasField("seed") else None,
                frequency_penalty=sampling.frequency_penalty,
                presence_penalty=sampling.presence_penalty,
                logit_bias=tuple((bias.token_id, bias.bias) for bias in sampling.logit_bias),
                alternatives=work.alternatives,
            ),
            turns=tuple(Said(cast(Role, turn.role), tuple(map(_piece, turn.pieces))) for turn in work.turns),
            conversation=work.conversation,
            kept_as=work.kept_as,
        ),
        user=work.user,
        max_new_tokens=question.max_new_tokens,
        deadline_s=remaining_s,
        request_id=question.request_id,
        priority=cast(Priority, PRIORITIES.of_number[question.priority]),
        whole=question.whole_answer,
        stop=tuple(sampling.stop),
        tokens=work.tokens,
    )


def _labels_of(prompt: Prompt) -> list[cb.TokenIds]:
    if not any(block.label for block in prompt.blocks):
        return []
    return [cb.TokenIds(ids=block.label) for block in prompt.blocks]


def _blocks_of(work: cb.Work) -> tuple[FeatureBlock, ...]:
    blocks = tuple(map(_block_of, work.question.payloads))
    if not work.labels:
        return blocks
    labelled = zip(blocks, work.labels, strict=True)
    return tuple(replace(block, label=tuple(label.ids)) for block, label in labelled)


def _payload_of(block: FeatureBlock) -> pb.TokenPayload:
    return pb.TokenPayload(
        modality=MODALITIES[block.modality],
        dtype=pb.DTYPE_FLOAT32,
        shape=block.x_TC.shape,
        data=np.ascontiguousarray(block.x_TC, "<f4").tobytes(),
        # A float on the wire has 32 bits; the model is told no finer.
        channel=pb.ChannelReport(
            effective_snr_db=block.snr_db, token_snr=token_snr.pack(block.token_snr_db_T)
        ),
    )


def _block_of(payload: pb.TokenPayload) -> FeatureBlock:
    x_TC = np.frombuffer(payload.data, "<f4").reshape(tuple(payload.shape)).astype(np.float32)
    channel = payload.channel
    of_each = token_snr.unpack(channel.token_snr)
    name = MODALITIES.of_number[payload.modality]
    return FeatureBlock(name, x_TC, channel.effective_snr_db, token_snr_db_T=of_each)


def _piece_of(piece: tuple[int, ...] | int) -> cb.TurnPiece:
    if isinstance(piece, int):
        return cb.TurnPiece(block=piece)
    return cb.TurnPiece(ids=cb.TokenIds(ids=piece))


def _piece(piece: cb.TurnPiece) -> tuple[int, ...] | int:
    return piece.block if piece.WhichOneof("piece") == "block" else tuple(piece.ids.ids)
