"""``make demo`` without its installing: the shipped clips, model and agent, over gRPC and REST."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from edge_server.data.soundstage.questions import types
from edge_server.data.soundstage.scene import KINDS as KINDS_OF_INSTRUMENT
from tests.e2e.conftest import ROOT, load_script

DEMO = ROOT / "deploy" / "demo"
ROWS = json.loads((DEMO / "questions.json").read_text())
KINDS = {" ".join(row["type"]) for row in ROWS}


def test_the_demo_has_a_question_of_each_type_about_each_clip() -> None:
    demo = load_script(DEMO / "demo.py")
    chosen = demo.one_of_each_type(ROWS)
    assert {question.kind for question in chosen} == KINDS
    assert len(chosen) == len(KINDS) == 9
    assert {question.clip for question in chosen} == set((DEMO / "clips").glob("*.mp4"))


def test_the_demo_asks_everything_and_the_model_knows_more_than_chance(served: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, DEMO / "demo.py"],
        cwd=ROOT,
        env=served,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(kind in done.stdout for kind in KINDS)
    right = {int(snr): int(n) for snr, n in re.findall(r"(-?\d+) dB: (\d+) of 9 right", done.stdout)}
    assert set(right) == {10, -5}
    # Nine questions of a split of which all but a few in a hundred are answered rightly.
    assert right[10] >= 7
    verdicts = re.findall(r" (-?\d+) dB .*?([✓✗])", done.stdout)
    assert verdicts[:2] == [("10", "✓"), ("-5", "✓")], "what is seen first is no exception"
    for snr_db, count in right.items():
        assert verdicts.count((str(snr_db), "✓")) == count
    assert re.search(r"chat/completions: .+ ✓", done.stdout)


def test_the_demo_says_how_much_of_what_nobody_chose_is_right(served: dict[str, str]) -> None:
    demo = load_script(DEMO / "demo.py")
    measured = json.loads((ROOT / "docs" / "results" / "accuracy.json").read_text())
    said = demo.held_out(
        json.loads(demo.ACCURACY.read_text()), demo.served_model(served["TOKENLINK_REST_URL"])
    )
    assert {row["snr_db"] for row in measured["results"]} >= set(demo.SNRS_DB)
    for row in measured["results"]:
        assert f"{100 * row['accuracy']:.1f}% at {row['snr_db']:g} dB" in said
    assert f"Of {measured['results'][0]['questions']} held-out questions soundstage-small" in said
    assert (len(KINDS_OF_INSTRUMENT), len(types())) == (10, 9)
    assert "ten instruments" in said
    assert "nine types of question" in said
    assert "%" not in demo.held_out(measured, "another-model")


def test_the_demo_says_what_failed(served: dict[str, str]) -> None:
    nowhere = {"TOKENLINK_DEVICE_SERVER": "127.0.0.1:1", "TOKENLINK_DEVICE_RETRIES": "0"}
    done = subprocess.run(
        [sys.executable, DEMO / "demo.py"],
        cwd=ROOT,
        env=served | nowhere,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 1
    assert "device-agent ask" in done.stderr
    assert "127.0.0.1:1" in done.stderr


@pytest.mark.parametrize("missing", ["TOKENLINK_DEVICE_SERVER", "TOKENLINK_REST_URL"])
def test_the_demo_without_a_server_names_the_command_that_starts_one(
    served: dict[str, str], missing: str
) -> None:
    environment = {name: value for name, value in served.items() if name != missing}
    done = subprocess.run(
        [sys.executable, DEMO / "demo.py"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 1
    assert "make demo" in done.stderr
