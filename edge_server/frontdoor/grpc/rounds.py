"""Questions in rounds as the contract says them: what may come so, what is asked for, what comes."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping

from edge_server.cell import Cell, Hold, Ladder, Peer, ReceivedBlock, Segment, Session
from edge_server.engine import AnswerStream, EngineConfig, FeatureBlock, Request, deadline_of
from edge_server.errors import (
    EdgeServerError,
    InvalidQuestionError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from edge_server.frontdoor.backend import Backends, EngineBackend
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.questions import block_of, told_airtime_s
from edge_server.frontdoor.rounds import Climb, RoundsRun, Submit, Wanted
from protos.names import MODALITIES, SLOT_OF
from protos.tokenlink.v1 import tokenlink_pb2 as pb

logger = logging.getLogger(__name__)

MAX_RUNGS = 16
"""Lengths that a question may climb over; the contract says so."""


class RoundsDesk:
    """The questions that are in rounds now.

    Args:
        cell: admits what comes.
        backends: the models that are served.
        metrics: counts blocks, and requests for more.
        config: of the engine; its deadlines bound all rounds of a question together.
    """

    def __init__(
        self, cell: Cell[EngineBackend], backends: Backends, metrics: Metrics, config: EngineConfig
    ) -> None:
        self._cell = cell
        self._backends = backends
        self._metrics = metrics
        self._config = config
        self._runs: dict[tuple[str, str], RoundsRun] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def begin(self, question: pb.Question, bundle_hash: str) -> Callable[..., AnswerStream]:
        """What has a question answered in rounds, to be given to :meth:`Cell.ask`.

        Args:
            question: with its rounds.
            bundle_hash: of the bundle that made its tokens.

        Returns:
            Raises InvalidQuestionError, beside what the engine raises.
        """

        def run(session: Session, request: Request, submit: Submit) -> AnswerStream:
            climb = self._climb(question.rounds, session, bundle_hash)
            received = _first_round(question, request)
            deadline_s = deadline_of(request, self._config)
            started = RoundsRun(
                request, received, climb, submit, deadline_s=deadline_s, on_wanted=self._count
            )
            key = (session.device_id, question.request_id)
            self._runs[key] = started
            # The stream's own callback is the cell's: a wrapper ends with it.
            started.when_over(lambda: self._runs.pop(key, None))
            return started.answer

        return run

    def of(self, session_id: str, request_id: str) -> RoundsRun | None:
        """The run of a device's question; None: it is not in rounds, or over."""
        device_id = self._cell.device_of(session_id)
        return None if device_id is None else self._runs.get((device_id, request_id))

    def more(self, frame: pb.UplinkFrame, peer: Peer | None, hold: Callable[[int], Hold]) -> None:
        """Take in what a request asked for; what nobody waits for is dropped, what is wrong ends it.

        Args:
            frame: with a ``more``.
            peer: who sent it.
            hold: counts bytes for as long as they are in memory.
        """
        more = frame.more
        run = self.of(frame.session_id, more.request_id)
        if run is None or run.wanted is None or run.wanted.round != more.round:
            return  # its question has ended, or it was answered twice
        try:
            session = self._cell.more(frame.session_id, frame.ByteSize(), peer=peer)
        except (NotFoundError, PermissionDeniedError, UnauthenticatedError) as error:
            logger.debug("tokens for another's question: %s", error)
            return
        except EdgeServerError as error:
            run.fail(error)
            return
        try:
            held = hold(frame.ByteSize())
            try:
                received = self._received(frame, session, run.wanted, run.received)
            except EdgeServerError:
                held.release()
                raise
        except EdgeServerError as error:
            run.fail(error)
        else:
            run.deliver(received, held)

    def _received(
        self, frame: pb.UplinkFrame, session: Session, wanted: Wanted, there: Mapping[str, ReceivedBlock]
    ) -> dict[str, ReceivedBlock]:
        """What has grown of a question's blocks by what came, by modality."""
        shape = self._backends.of(frame.bundle_hash).served.shape
        received: dict[str, ReceivedBlock] = {}
        for index, sent in enumerate(frame.more.payloads):
            field = f"more.payloads[{index}]"
            name = MODALITIES.of_number.get(sent.modality, "")
            if name not in wanted.lengths or name in received:
                asked = ", ".join(wanted.lengths)
                raise InvalidQuestionError(f"{field}.modality", f"asked for, once each: {asked}")
            block = block_of(sent, field, session.grant.max_token_length, shape)
            segment = _segment(block, sent)
            received[name] = _grown(there[name], segment, sent.first_token, wanted, name, field)
            airtime_s = told_airtime_s(sent.channel.airtime_s)
            self._metrics.block(name, len(block.x_TC), airtime_s, block.snr_db)
        return received

    def drain(self) -> None:
        """Ask for nothing more: what is under way ends with what is here."""
        for run in list(self._runs.values()):
            run.end_soon()

    def _climb(self, rounds: pb.Rounds, session: Session, bundle_hash: str) -> Climb:
        served = self._backends.of(bundle_hash).served
        lengths = list(rounds.token_lengths)
        if served.calibration is None:
            raise InvalidQuestionError(
                "rounds", "nobody knows how sure this model's answers are; send all at once"
            )
        if not 1 <= len(lengths) <= MAX_RUNGS:
            raise InvalidQuestionError(
                "rounds.token_lengths", f"are {len(lengths)}; 1 to {MAX_RUNGS} are allowed"
            )
        known = [length for length in served.token_lengths if length <= session.grant.max_token_length]
        if any(b <= a for a, b in itertools.pairwise(lengths)) or not set(lengths) <= set(known):
            raise InvalidQuestionError(
                "rounds.token_lengths",
                f"are {lengths}; rising ones of {', '.join(map(str, known))} are allowed",
            )
        if not 0.0 <= rounds.until <= 1.0:
            raise InvalidQuestionError("rounds.until", f"is {rounds.until}; 0 to 1 is allowed")
        ladder = Ladder(lengths, rounds.nested, session.grant.outage_snr_db, served.loss)
        return Climb(ladder, rounds.until, rounds.abstain, served.calibration.unsure)

    def _count(self, wanted: Wanted) -> None:
        self._metrics.more_wanted(len(wanted.lengths) - len(wanted.again), len(wanted.again))


def wanted_frame(request_id: str, wanted: Wanted) -> pb.DownlinkFrame:
    """A request for more as it goes down to the device."""
    blocks = [
        pb.WantedBlock(
            modality=MODALITIES[modality], token_length=length, first_token=wanted.begins[modality]
        )
        for modality, length in wanted.lengths.items()
    ]
    return pb.DownlinkFrame(request_id=request_id, wanted=pb.MoreWanted(round=wanted.round, blocks=blocks))


def _first_round(question: pb.Question, request: Request) -> dict[str, ReceivedBlock]:
    """The blocks that can be asked for more of, each as long as the first rung."""
    first = question.rounds.token_lengths[0]
    received = {}
    for index, (block, sent) in enumerate(zip(request.prompt.blocks, question.payloads, strict=True)):
        if block.modality not in SLOT_OF:
            continue
        if len(block.x_TC) != first:
            raise InvalidQuestionError(
                f"payloads[{index}].shape", f"token_length is {len(block.x_TC)}; rounds begin with {first}"
            )
        segment = _segment(block, sent)
        received[block.modality] = ReceivedBlock((segment,))
    if not received:
        raise InvalidQuestionError("rounds", "no payload could be asked for more of")
    return received


def _segment(block: FeatureBlock, sent: pb.TokenPayload) -> Segment:
    return Segment(block.x_TC, block.snr_db, sent.channel.zero_forcing, token_snr_db_T=block.token_snr_db_T)


def _grown(
    there: ReceivedBlock, segment: Segment, first_token: int, wanted: Wanted, modality: str, field: str
) -> ReceivedBlock:
    """A block with what has come of it: the same tokens again, those behind them, or all of them anew."""
    begins = wanted.begins[modality]
    # Where blocks are not nested, what is longer comes whole, in place of what was there.
    grow: dict[int, Callable[[Segment], ReceivedBlock]] = {
        begins: there.with_more,
        0: lambda segment: ReceivedBlock((segment,)),
    }
    if modality in wanted.again:
        grow = {begins: there.with_again}
    length = wanted.lengths[modality]
    if first_token not in grow or first_token + len(segment.x_TC) != length:
        allowed = " or ".join(f"{length - begin} from {begin}" for begin in grow)
        raise InvalidQuestionError(
            f"{field}.shape", f"holds {len(segment.x_TC)} tokens from {first_token}; asked for: {allowed}"
        )
    try:
        return grow[first_token](segment)
    except ValueError as error:
        raise InvalidQuestionError(f"{field}.channel.zero_forcing", str(error)) from error
