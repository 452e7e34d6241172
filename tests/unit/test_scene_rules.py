"""What the program that counts notices of standing questions sees: missing, doubled, or in another order."""

from __future__ import annotations

import json

from tests.benchmarks.scene_rules import judge, quantile


def heard(*events: tuple[int, str, str]) -> list[tuple[str, str, bool]]:
    return [
        ("tokenlink/rules/r/d/event", json.dumps({"id": number, "rule": rule, "state": state}), False)
        for number, rule, state in events
    ]


def told(events: list[tuple[str, str, bool]], **wanted: list[str]) -> tuple[int, int, int]:
    found = judge(events, {"a": [], "b": [], **wanted})
    return found["missed"], found["doubled"], found["rules_with_another_sequence"]


def test_it_sees_what_was_missed_doubled_and_out_of_order() -> None:
    good = heard((1, "a", "on"), (2, "b", "on"), (3, "a", "off"))
    assert told(good, a=["on", "off"], b=["on"]) == (0, 0, 0)
    assert told(good[:2], a=["on", "off"], b=["on"]) == (1, 0, 1)
    assert told([*good, good[0]], a=["on", "off"], b=["on"]) == (0, 1, 1)
    assert told([good[2], good[0], good[1]], a=["on", "off"], b=["on"]) == (0, 0, 1)
    assert told(good, a=["on", "off"]) == (0, 0, 1)
    # What a broker kept from before, and what tells of a state, are no events.
    kept = [(topic, body, True) for topic, body, _ in good]
    assert told([*good, *kept, ("tokenlink/rules/r/d/state", "on", False)], a=["on", "off"], b=["on"]) == (
        0,
        0,
        0,
    )


def test_the_slowest_of_a_hundred_is_one_that_was_seen() -> None:
    assert quantile([float(number) for number in range(100, 0, -1)], 0.99) == 99.0
    assert quantile([3.0], 0.99) == 3.0
