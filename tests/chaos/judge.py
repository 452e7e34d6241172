"""What came of questions, read from outboxes and from what agents showed, after everything has ended."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from device_agent.outbox.records import Delivery, Entry
from device_agent.outbox.store import Spool
from tests.chaos.device import outbox_of, shown_by
from tests.chaos.questions import expected


@dataclass(frozen=True)
class Verdict:
    """Counts over all agents.

    Attributes:
        asked: questions.
        answered: that have their answer in the outbox, delivered.
        lost: that do not, and of which nobody said why.
        dropped: that ended with a report in place of an answer.
        twice: shown more than once.
        wrong: with another answer than the right one.
        unordered: delivered before one that was asked earlier.
        unprinted: delivered, in the outbox, but killed before they were shown.
    """

    asked: int
    answered: int
    lost: int
    dropped: int
    twice: int
    wrong: int
    unordered: int
    unprinted: int


def entries_of(folder: Path, agent: int) -> list[Entry]:
    """Everything in an agent's outbox."""
    spool = Spool(outbox_of(folder, agent))
    try:
        return spool.entries(delivered=True)
    finally:
        spool.close()


def judge(folder: Path, agents: Sequence[int], questions: int) -> Verdict:
    """Judge agents that ran as processes.

    Args:
        folder: of their files.
        agents: their numbers.
        questions: that each asked.
    """
    verdicts = [
        judge_one(
            agent,
            questions,
            entries_of(folder, agent),
            [json.loads(line)["request_id"] for line in _whole_lines(shown_by(folder, agent))],
        )
        for agent in agents
    ]
    return total(verdicts)


def judge_one(agent: int, questions: int, entries: Iterable[Entry], shown: Sequence[str]) -> Verdict:
    """Judge one agent by its outbox and what it showed, request_ids in order."""
    by_id = {entry.request_id: entry for entry in entries}
    asked = [f"a{agent}-{number}" for number in range(questions)]
    delivered = {key: entry for key, entry in by_id.items() if entry.state == "delivered"}
    answered = [key for key in asked if key in delivered and delivered[key].outcome == "answered"]
    dropped = [key for key in asked if key in delivered and delivered[key].outcome != "answered"]
    wrong = sum(
        delivered[key].record["answer"] != expected(agent, number)
        for number, key in enumerate(asked)
        if key in delivered and delivered[key].outcome == "answered"
    )
    numbers = [int(key.split("-")[1]) for key in shown]
    return Verdict(
        asked=questions,
        answered=len(answered),
        lost=questions - len(answered) - len(dropped),
        dropped=len(dropped),
        twice=sum(count - 1 for count in Counter(shown).values()),
        wrong=wrong,
        unordered=sum(later < earlier for earlier, later in itertools.pairwise(numbers)),
        unprinted=len(set(answered) - set(shown)),
    )


def judge_deliveries(agent: int, questions: int, folder: Path, deliveries: Sequence[Delivery]) -> Verdict:
    """Judge an agent that ran in this process."""
    shown = [delivery.request_id for delivery in deliveries]
    return judge_one(agent, questions, entries_of(folder, agent), shown)


def total(verdicts: Sequence[Verdict]) -> Verdict:
    """The sum."""
    return Verdict(*(sum(values) for values in zip(*(vars(v).values() for v in verdicts), strict=True)))


def _whole_lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = text.split("\n")
    # A killed process may leave half a line, and the next one go on behind it: each is judged for itself.
    return [line for line in lines if line.startswith("{") and line.endswith("}")]
