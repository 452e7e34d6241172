"""A question of the outbox becomes an example."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.cotrain.corrections import correct, entry_of
from device_agent.cotrain.examples import read_examples
from device_agent.errors import ConfigurationError
from device_agent.outbox.records import Entry


def entry(folder: Path) -> Entry:
    (folder / "a.mp4").write_bytes(b"media")
    facts = {"question": "Is the door open?", "window": {"start_s": 4.0, "end_s": 8.0}}
    return Entry(1, "abcd1", f"watch {folder}", "a.mp4", "delivered", "answered", 0.0, 1.0, 9, {}, facts)


def test_a_wrong_answer_becomes_an_example(tmp_path: Path) -> None:
    watched, examples = tmp_path / "watched", tmp_path / "examples"
    watched.mkdir()
    one = entry(watched)
    for answer in ("no", "not at all"):
        line = correct(one, answer, examples)
    assert (line.question, line.answer, line.start_s) == ("Is the door open?", "not at all", 4.0)
    assert [path.read_bytes() for path in examples.glob("*.mp4")] == [b"media"]
    assert (examples / "questions.jsonl").read_text().count("\n") == 2
    with pytest.raises(ConfigurationError, match=r"held out|to learn from"):
        read_examples(examples, lambda text: [1])


def test_what_cannot_become_one_is_said(tmp_path: Path) -> None:
    one = entry(tmp_path)
    with pytest.raises(ConfigurationError, match="--question"):
        correct(replace(one, facts={}), "no", tmp_path / "out")
    assert correct(replace(one, facts={}), "no", tmp_path / "out", "Is it?").question == "Is it?"
    with pytest.raises(ConfigurationError, match="not about a file of a watched folder"):
        correct(replace(one, source="ask abcd"), "no", tmp_path / "out")
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(ConfigurationError, match="is gone"):
        correct(one, "no", tmp_path / "out")


def test_an_id_names_one_question(tmp_path: Path) -> None:
    one = entry(tmp_path)
    other = replace(one, request_id="abcd12")
    assert entry_of([one, other], "abcd1") is one
    assert entry_of([one, other], "abcd12") is other
    for request_id in ("abcd", "x"):
        with pytest.raises(ConfigurationError, match="request_id"):
            entry_of([one, other], request_id)
