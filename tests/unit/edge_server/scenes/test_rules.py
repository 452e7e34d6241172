"""When a standing question's answer counts, and that each turn is noticed once, whatever is killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_server.errors import ConfigurationError
from edge_server.scenes import SqliteScenes
from edge_server.scenes.rule_file import RuleFile
from edge_server.scenes.rules import Rule, RuleState, check_rule, named
from tests.unit.edge_server.scenes.test_stores import scene

RULE = Rule("violin", "Is a violin playing?", "camera-*", "yes", 30.0, ("mqtt://broker",), 0.0)


def after(answers: list[tuple[float, str]], rule: Rule = RULE) -> list[bool | None]:
    state, seen = RuleState(), []
    for start_s, answer in answers:
        state = state.after(rule, answer, start_s, start_s + 4.0)
        seen.append(state.is_on)
    return seen


def test_it_holds_once_the_answers_have_said_so_for_long_enough() -> None:
    assert after([(0, "yes"), (10, "Yes."), (20, " yes"), (30, "yes")]) == [None, None, None, True]


def test_one_odd_answer_changes_nothing() -> None:
    on = [(float(s), "yes") for s in range(0, 40, 10)]
    assert after([*on, (40.0, "no"), (50.0, "yes"), (60.0, "no"), (70.0, "no")])[3:] == [True] * 5
    assert after([*on, *((float(s), "no") for s in range(40, 80, 10))])[-2:] == [True, False]


def test_an_answer_that_is_none_changes_nothing() -> None:
    assert after([(0, "yes"), (10, ""), (30, "yes")]) == [None, None, True]


def test_only_what_held_is_told() -> None:
    never, off, on = RuleState(), RuleState(is_on=False), RuleState(is_on=True)
    assert [on.turned(never), on.turned(off), off.turned(on)] == [True, True, True]
    assert [off.turned(never), on.turned(on)] == [False, False]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"rule_id": "A b"}, "name"),
        ({"question": " "}, "question"),
        ({"becomes": "."}, "becomes"),
        ({"devices": "porch\n*"}, "device"),
        ({"for_s": -1.0}, "for"),
        ({"notify": ()}, "notify"),
        ({"notify": ("ftp://u:secret@host/x",)}, "notify"),
        ({"notify": ("mqtt:///x",)}, "notify"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{field}: ") as told:
        check_rule(replace(RULE, **change))  # type: ignore[arg-type]
    assert "secret" not in str(told.value)


def test_who_may_send_is_not_said() -> None:
    assert named("mqtts://user:secret@broker:8883/x?y") == "mqtts://broker:8883"


def test_scenes_wait_for_their_questions_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "scenes.db"
    store = SqliteScenes(path)
    store.put(scene(start_s=-10.0))  # before there was a rule
    rules = RuleFile(store)
    rules.add(replace(RULE, for_s=0.0, notify=("mqtt://broker", "https://hook/x")))
    for start_s in (0.0, 10.0, 20.0):
        store.put(scene(start_s=start_s))
    store.put(scene("mic", 0.0))
    store.close()

    store = SqliteScenes(path)
    rules = RuleFile(store)
    seen, answers = [], {"camera-1": iter(("yes", "yes", "no")), "mic": iter(("",))}
    while waiting := rules.unjudged(9):
        # The oldest of each device.
        assert len({s.device for _, s, _ in waiting}) == len(waiting)
        number, asked_about, asked = waiting[0]
        seen.append((asked_about.device, asked_about.start_s, len(asked)))
        answer = next(answers[asked_about.device])
        for _ in range(2):  # judged twice, it counts once
            rules.judge(number, asked_about, [(rule, answer) for rule in asked], 99.0)
    assert seen == [("camera-1", 0.0, 1), ("camera-1", 10.0, 1), ("camera-1", 20.0, 1), ("mic", 0.0, 0)]
    told = [(notice.url, notice.is_on, notice.body["device"]) for notice in rules.notices(9)]
    # A broker is told how things are; a webhook, that something happened.
    assert told == [
        ("mqtt://broker", True, "camera-1"),
        ("https://hook/x", True, "camera-1"),
        ("mqtt://broker", False, "camera-1"),
    ]
    rules.delivered([rules.notices(9)[0].number])
    assert len(rules.notices(9)) == 2
    assert rules.states("violin")["camera-1"].answer == "no"
    rules.remove("violin")
    assert (rules.rules(), rules.notices(9), rules.states("violin")) == ([], [], {})
    with pytest.raises(ConfigurationError, match="there is no rule"):
        rules.remove("violin")
    store.close()


def test_names_are_taken_once(tmp_path: Path) -> None:
    store = SqliteScenes(tmp_path / "scenes.db")
    rules = RuleFile(store)
    rules.add(RULE)
    with pytest.raises(ConfigurationError, match="there is a rule 'violin' already"):
        rules.add(RULE)
    assert rules.rules() == [RULE]
    store.close()


def test_rules_of_a_device_are_its_own_and_those_of_its_pattern(tmp_path: Path) -> None:
    store = SqliteScenes(tmp_path / "scenes.db")
    file = RuleFile(store)
    for number, devices in enumerate(("cam", "cam*", "cam-1", "mic", "*")):
        file.add(replace(RULE, rule_id=f"r{number}", devices=devices, created_s=float(number)))
    assert [rule.rule_id for rule in file.rules("cam-1")] == ["r1", "r2", "r4"]
    assert [rule.rule_id for rule in file.rules("cam")] == ["r0", "r1", "r4"]
    assert set(file.named(["r3", "gone", "r4"])) == {"r3", "r4"}
    assert file.named([]) == {}
    store.close()


def test_its_history_is_kept_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_server.scenes.rule_file.TURNS_KEPT", 3)
    store = SqliteScenes(tmp_path / "scenes.db")
    file = RuleFile(store)
    file.add(replace(RULE, for_s=0.0))
    for number in range(6):
        store.put(scene(start_s=float(10 * number)))
        ((place, kept, (rule,)),) = file.unjudged(2)
        file.judge(place, kept, [(rule, "yes" if number % 2 == 0 else "no")], 1.0)
    assert [(turn.is_on, turn.answer, turn.turned_s) for turn in file.history("violin", 9)] == [
        (False, "no", 50.0),
        (True, "yes", 40.0),
        (False, "no", 30.0),
    ]
    assert len(file.history("violin", 2)) == 2
    file.remove("violin")
    assert file.history("violin", 9) == []
    store.close()
