"""What becomes of a question: prepared behind the channel, answered, at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from device_agent.media.clip import Clip, Window
from device_agent.progressive import Reserve
from device_agent.uplink.session import Reply
from protos.names import MODALITIES, REQUEST_CHANNEL_USES
from protos.tokenlink.v1 import tokenlink_pb2 as pb


@dataclass(frozen=True)
class Cost:
    """What an answer cost.

    Attributes:
        channel_uses: complex symbols over the radio: pilots included, and what the server's requests for more
            took.
        bytes_on_wire: of the question's frames in the network behind the radio.
        airtime_s: what the symbols took on the air [s].
        encode_s: what the transmitters took [s].
        round_trip_s: from sending the question to having the answer, retries included; airtime not, but for
            that of later rounds [s].
        request_bytes: of the server's requests for more, on the way down.
    """

    channel_uses: int
    bytes_on_wire: int
    airtime_s: float
    encode_s: float
    round_trip_s: float
    request_bytes: int = 0


@dataclass(frozen=True)
class Outcome:
    """An answer and its cost.

    Attributes:
        text: the answer.
        probability: product of its language tokens' probabilities.
        finish_reason: ``"stop"`` or ``"length"``.
        confidence: probability that it is right, calibrated; of an answer that was held back, that of
            ``guess``; None: the server does not say.
        abstained: whether the model is not sure, so that ``text`` is no answer.
        guess: the answer that was held back; empty where none was.
        token_length: tokens sent per modality of the clip; in rounds, the most of any.
        effective_snr_db: per modality, what the receiver was told [dB].
        cost: what it took.
        queue_s: waiting at the server [s].
        compute_s: the server's model [s].
        model: name of the model that answered.
        tries: how often the question was sent.
        window: which part of a file it is about: ``start_s``, ``end_s``, and ``duration_s`` of the file, if
            that is known; None: of no recording.
        rounds: of each round the tokens that the blocks have then, by modality; empty: it was sent at once.
        scenes: of a question about scenes, what it was answered from; of one that was shared, the scene.
    """

    text: str
    probability: float
    finish_reason: str
    token_length: int
    confidence: float | None = None
    abstained: bool = False
    guess: str = ""
    effective_snr_db: Mapping[str, float] = field(default_factory=dict)
    cost: Cost = field(default_factory=lambda: Cost(0, 0, 0.0, 0.0, 0.0))
    queue_s: float = 0.0
    compute_s: float = 0.0
    model: str = ""
    tries: int = 1
    window: Mapping[str, float | None] | None = None
    rounds: Sequence[Mapping[str, int]] = ()
    scenes: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values; the answer's key is ``answer``."""
        values = asdict(self)
        if self.window is None:
            values.pop("window")
        if self.rounds:
            values["rounds"] = [dict(lengths) for lengths in self.rounds]
        else:
            values.pop("rounds")
        if self.scenes:
            values["scenes"] = [dict(scene) for scene in self.scenes]
        else:
            values.pop("scenes")
        return {"answer": values.pop("text"), **values, "effective_snr_db": dict(self.effective_snr_db)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Outcome:
        """From what :meth:`to_json` gave."""
        rest = {name: value for name, value in values.items() if name not in ("answer", "cost")}
        return cls(text=values["answer"], cost=Cost(**values["cost"]), **rest)


@dataclass(frozen=True)
class Prepared:
    """A question that has crossed the channel and can be sent.

    Attributes:
        question: as it goes over the network.
        token_length: tokens sent per modality of the clip.
        encode_s: what the transmitters took [s].
        bundle_hash: of the bundle that made its tokens; empty: it is not known any more.
        reserve: what of it can be asked for further, where it goes in rounds.
    """

    question: pb.Question
    token_length: int
    encode_s: float
    bundle_hash: str = ""
    reserve: Reserve | None = None


def window_of(values: Mapping[str, float | None]) -> Window:
    """A window from its plain values."""
    return Window(values["start_s"] or 0.0, values["end_s"] or 0.0, values["duration_s"])


def about(outcome: Outcome, clip: Clip) -> Outcome:
    """The outcome, saying which part of a file its clip showed."""
    return outcome if clip.window is None else replace(outcome, window=clip.window.to_json())


def outcome_of(prepared: Prepared, reply: Reply, model: str) -> Outcome:
    """An answer and its cost, from what was sent and what came back."""
    answer, first = reply.answer, prepared.question.payloads
    blocks = [*first, *(block for sent in reply.more for block in sent)]
    requests_s = [_request_airtime_s(sent or first) for sent in reply.more]
    return Outcome(
        text=answer.text,
        probability=answer.probability,
        finish_reason=answer.finish_reason,
        confidence=answer.confidence if answer.HasField("confidence") else None,
        abstained=answer.abstained,
        guess=answer.guess,
        token_length=max([prepared.token_length, *(_reached(b) for sent in reply.more for b in sent)]),
        effective_snr_db={
            MODALITIES.of_number[block.modality]: block.channel.effective_snr_db for block in blocks
        },
        rounds=[
            {MODALITIES.of_number[b.modality]: _reached(b) for b in sent if b.modality != pb.MODALITY_TEXT}
            for sent in ([first, *reply.more] if prepared.question.HasField("rounds") else [])
        ],
        cost=Cost(
            channel_uses=sum(block.channel.channel_uses for block in blocks)
            + REQUEST_CHANNEL_USES * len(reply.more),
            bytes_on_wire=reply.bytes_on_wire,
            airtime_s=sum(block.channel.airtime_s for block in blocks) + sum(requests_s),
            encode_s=prepared.encode_s + (prepared.reserve.encode_s if prepared.reserve else 0.0),
            round_trip_s=reply.round_trip_s,
            request_bytes=reply.request_bytes,
        ),
        queue_s=answer.queue_s,
        compute_s=answer.compute_s,
        model=model,
        tries=reply.tries,
        scenes=[
            {
                "device": scene.device,
                "scene_id": scene.scene_id,
                "start_s": scene.start_s,
                "length_s": scene.length_s,
                "age_s": scene.age_s,
                "stale": scene.stale,
            }
            for scene in answer.scenes
        ],
    )


def _reached(block: pb.TokenPayload) -> int:
    """Tokens that a block has, those of earlier rounds included."""
    return int(block.first_token + block.shape[0])


def _request_airtime_s(sent: Sequence[pb.TokenPayload]) -> float:
    """What a request takes of the air, at the rate at which what it asked for was sent [s]."""
    uses = sum(block.channel.channel_uses for block in sent)
    airtime_s = sum(block.channel.airtime_s for block in sent)
    return REQUEST_CHANNEL_USES * airtime_s / uses if uses else 0.0
