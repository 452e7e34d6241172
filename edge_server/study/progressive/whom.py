"""Whom a server asks for more: all modalities together, or the one that helps most by measured loss; and
whether what arrived below outage comes again, to be combined.

The rules are the server's own (:mod:`edge_server.cell.rounds`), over one ladder. Every question is asked with
every pair of lengths, blocks being received once, however they are paired: so a rule's way through these is
what it would have been. Thresholds are chosen on the validation split, for each rule, channel and SNR, so
that nothing is lost there to the full length at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from device_agent.channel import Channel, ChannelConfig
from edge_server.cell.allocation import LossSurface
from edge_server.cell.rounds import MOST_REPEATS, Arrived, Ladder, ReceivedBlock, Segment
from edge_server.engine.calibration import Calibration
from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.evaluation.accuracy import Evaluator, say_all
from edge_server.evaluation.progressive import THRESHOLDS
from edge_server.model import tokenizer as tk
from protos.names import REQUEST_CHANNEL_USES, clamp_snr_db

RUNGS = (2, 4, 16)
"""The ladder."""
OUTAGE_SNR_DB = -12.0
"""Below this, what arrived is asked for again: a server's default (a study imports no server's settings)."""
_NEVER = 1.01
"""A threshold that no confidence reaches."""
TOGETHER, MOST_HELPFUL = "all together", "what helps most"

Lengths: TypeAlias = tuple[int, ...]
"""Of each modality, in the model's order."""


@dataclass(frozen=True)
class Plan:
    """What is asked.

    Attributes:
        snrs_db: of each channel [dB].
        questions: of each split.
        seed: of channel realisations.
    """

    snrs_db: tuple[float, ...] = (-5.0, 5.0)
    questions: int = 240
    seed: int = 1


QUICK = Plan((0.0,), 16)


@dataclass(frozen=True)
class Block:
    """What arrived of one modality at one length.

    Attributes:
        received: tokens and SNR, all receptions combined.
        repeats: how often it was asked for again.
    """

    received: ReceivedBlock
    repeats: int


@dataclass(frozen=True)
class Grid:
    """Every question at every pair of lengths.

    Attributes:
        blocks: by question and slot, what arrived at each rung.
        confidence: by lengths, of each question; 1 where it is not known.
        right: likewise, 1 or 0.
    """

    blocks: Sequence[Mapping[str, Mapping[int, Block]]]
    confidence: Mapping[Lengths, npt.NDArray[np.float64]]
    right: Mapping[Lengths, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Way:
    """What a rule does with one question: lengths after each round, and channel uses by then."""

    lengths: tuple[Lengths, ...]
    uses: tuple[float, ...]


def ask_grid(
    evaluator: Evaluator,
    calibration: Calibration,
    channel: ChannelConfig,
    plan: Plan,
    *,
    repeats: int,
    advance: Callable[[int], None],
) -> Grid:
    """Ask the evaluator's questions with every pair of lengths.

    Args:
        evaluator: of the model.
        calibration: of it.
        channel: what lies between.
        plan: what is asked.
        repeats: so often a block that arrives below outage comes again.
        advance: told of questions that were asked.
    """
    link, questions = evaluator.link, evaluator.questions[: plan.questions]
    modalities = link.config.modalities
    sent = {(m.slot, rung): evaluator.sent(m.slot, rung) for m in modalities for rung in RUNGS}
    blocks = []
    for index, question in enumerate(questions):
        rng = np.random.default_rng([plan.seed, index])
        radio = Channel(channel, rng)
        blocks.append(
            {
                m.slot: {rung: _received(radio, sent[m.slot, rung][question.clip], repeats) for rung in RUNGS}
                for m in modalities
            }
        )
    confidence, right = {}, {}
    for lengths in itertools.product(RUNGS, repeat=len(modalities)):
        prompts = [
            Prompt(
                tuple(
                    _feature_block(m.of_clip, blocks[index][m.slot][length])
                    for m, length in zip(modalities, lengths, strict=True)
                ),
                tuple(tk.encode(link.tokenizer, question.text)),
            )
            for index, question in enumerate(questions)
        ]
        said = []
        for begin in range(0, len(prompts), evaluator.batch_size):
            said += say_all(evaluator.served, prompts[begin : begin + evaluator.batch_size])
            advance(min(evaluator.batch_size, len(prompts) - begin))
        judged = [calibration.judge(each.text, each.logprobs).confidence for each in said]
        confidence[lengths] = np.array([1.0 if each is None else each for each in judged])
        right[lengths] = np.array(
            [float(s.text == question.answer) for s, question in zip(said, questions, strict=True)]
        )
    return Grid(blocks, confidence, right)


def way(blocks: Mapping[str, Mapping[int, Block]], ladder: Ladder, symbols: float) -> Way:
    """Where a rule leads one question, round by round, to the ladder's end.

    Args:
        blocks: what would arrive of each slot at each rung.
        ladder: the rule.
        symbols: complex symbols of one token of one modality.
    """
    at = dict.fromkeys(blocks, RUNGS[0])
    uses = 0.0
    after, spent = [], []
    fresh = tuple(blocks)
    while True:
        for slot in fresh:
            block = blocks[slot][at[slot]]
            uses += at[slot] * symbols * (1 + block.repeats)
        uses += REQUEST_CHANNEL_USES * max(blocks[slot][at[slot]].repeats for slot in fresh)
        after.append(tuple(at.values()))
        spent.append(uses)
        arrived = {
            slot: Arrived(slot, length, blocks[slot][length].received.snr_db()) for slot, length in at.items()
        }
        wanted = ladder.next(arrived)
        if not wanted:
            return Way(tuple(after), tuple(spent))
        at |= wanted
        fresh = tuple(wanted)
        uses += REQUEST_CHANNEL_USES


def judge(grid: Grid, ways: Sequence[Way], until: float) -> dict[str, float]:
    """What a rule makes of all questions with one threshold."""
    uses, right, requests = [], [], []
    for index, each in enumerate(ways):
        last = len(each.lengths) - 1
        ended = next((r for r in range(last) if grid.confidence[each.lengths[r]][index] >= until), last)
        uses.append(each.uses[ended])
        requests.append(ended)
        right.append(grid.right[each.lengths[ended]][index])
    return {
        "accuracy": float(np.mean(right)),
        "channel_uses": float(np.mean(uses)),
        "rounds": 1.0 + float(np.mean(requests)),
    }


def compare(
    validation: Evaluator,
    test: Evaluator,
    calibration: Calibration,
    loss: Mapping[str, LossSurface],
    plan: Plan,
    advance: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """A row for every channel, SNR, rule, and with and without repeats, as JSON.

    Args:
        validation: thresholds are chosen on it.
        test: rules are judged on it.
        calibration: of the model.
        loss: of single slots, as it was measured.
        plan: what is asked.
        advance: told of questions that were asked.
    """
    symbols = test.link.config.channel_dim / 2.0
    rules: dict[str, Mapping[str, LossSurface]] = {TOGETHER: {}, MOST_HELPFUL: loss}
    rows = []
    for model, most in (("awgn", (0,)), ("rayleigh", (0, MOST_REPEATS))):
        for snr_db in plan.snrs_db:
            channel = ChannelConfig(model=model, fading="block", snr_db=snr_db)
            for repeats in most:
                grids = [
                    ask_grid(each, calibration, channel, plan, repeats=repeats, advance=advance)
                    for each in (validation, test)
                ]
                full = tuple(RUNGS[-1] for _ in test.link.config.modalities)
                for rule, surfaces in rules.items():
                    ladder = Ladder(RUNGS, False, -np.inf, surfaces)
                    chosen_on, judged = ([way(b, ladder, symbols) for b in grid.blocks] for grid in grids)
                    until = _threshold(grids[0], chosen_on, float(grids[0].right[full].mean()))
                    rows.append(
                        {
                            "channel": model,
                            "snr_db": snr_db,
                            "repeats": repeats,
                            "rule": rule,
                            "until": until,
                            "full_accuracy": float(grids[1].right[full].mean()),
                            **judge(grids[1], judged, until),
                        }
                    )
    return rows


def questions_asked(evaluator: Evaluator, plan: Plan) -> int:
    """How many questions :func:`compare` asks of one split."""
    pairs: int = len(RUNGS) ** len(evaluator.link.config.modalities)
    return min(len(evaluator.questions), plan.questions) * pairs * len(plan.snrs_db) * 3


def _threshold(grid: Grid, ways: Sequence[Way], full_accuracy: float) -> float:
    """The one that takes least and loses nothing."""
    found = {until: judge(grid, ways, until) for until in (*THRESHOLDS, _NEVER)}
    kept = [until for until, each in found.items() if each["accuracy"] >= full_accuracy]
    return min(kept or [_NEVER], key=lambda until: found[until]["channel_uses"])


def _received(radio: Channel, x_TC: npt.NDArray[np.float32], repeats: int) -> Block:
    block = None
    for repeat in range(repeats + 1):
        reception = radio.transmit(x_TC)
        segment = Segment(reception.x_TC, reception.effective_snr_db)
        block = ReceivedBlock((segment,)) if block is None else block.with_again(segment)
        if block.snr_db() >= OUTAGE_SNR_DB or repeat == repeats:
            return Block(block, repeat)
    raise AssertionError("a block arrives at least once")


def _feature_block(modality: str, block: Block) -> FeatureBlock:
    return FeatureBlock(modality, block.received.tokens(), clamp_snr_db(block.received.snr_db()))
