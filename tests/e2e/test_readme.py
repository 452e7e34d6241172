"""What the documents tell a reader to type, works: README for real, CONTRIBUTING as far as it is cheap."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import typer

from device_agent.cli.main import app as device_app
from edge_server.cli import ELSEWHERE
from edge_server.data.soundstage.questions import types
from edge_server.data.soundstage.scene import KINDS
from tests.e2e.conftest import ROOT, load_script

FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)\)")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/decisions/README.md", "docs/install.md")
#: Has to be typed by a reader and not by a test, which runs in an environment of its own.
ACTIVATION = ". .venv/bin/activate\n"
SERVE = ".venv/bin/edge-server serve\n"
MOST_LINES = 68
RIGHT = re.compile(r"\(what is right: (.+?)\):$", re.MULTILINE)
QUESTIONS = ROOT / "deploy" / "demo" / "questions.json"


def blocks(document: str) -> list[str]:
    found = FENCE.findall((ROOT / document).read_text())
    assert found, f"{document} has no shell blocks"
    return found


def commands(document: str, program: str) -> list[list[str]]:
    lines = "".join(blocks(document)).replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]
    assert split, f"{document} has no {program} commands"
    return split


def is_make(block: str) -> bool:
    return all(line.startswith("make ") for line in block.splitlines())


TO_RUN = [block for block in blocks("README.md") if not is_make(block) and block != SERVE]


def test_the_readme_is_short_and_leads_with_two_commands() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_LINES
    first = blocks("README.md")[0]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]
    assert SERVE in blocks("README.md")


@pytest.mark.parametrize("block", TO_RUN, ids=lambda block: block.splitlines()[-1].split()[0])
def test_commands_of_the_readme_work(served: dict[str, str], block: str) -> None:
    if "curl" in block and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    script = block.removeprefix(ACTIVATION).replace("http://127.0.0.1:8080", served["TOKENLINK_REST_URL"])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=served,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def asked() -> list[list[str]]:
    return [command for command in commands("README.md", "device-agent") if command[1] == "ask"]


def promised() -> list[list[str]]:
    """The answers that README calls right: by hand, then over OpenAI's API."""
    return [re.findall(r"\*(.+?)\*", listed) for listed in RIGHT.findall((ROOT / "README.md").read_text())]


def truth(question: str, clip: str) -> str:
    rows = json.loads(QUESTIONS.read_text())
    (found,) = {
        row["answer"] for row in rows if (row["question"], row["clip"]) == (question, Path(clip).name)
    }
    return str(found)


def known_truth(command: list[str]) -> str:
    """Of a clip it is known; of a text it stands in it, beside the instrument that the question names."""
    arguments = command[2:]
    clips = [argument for argument in arguments if argument.endswith(".mp4")]
    question = next(argument for argument in arguments if argument.endswith("?"))
    if clips:
        return truth(question, clips[0])
    (kind,) = re.findall(r"Where is the (\w+)\?", question)
    places = re.findall(rf"on the (\w+) (?:\w+ )*{kind}\b", arguments[arguments.index("--context") + 1])
    (place,) = places[-1:]
    return str(place)


@pytest.mark.parametrize("number", range(len(asked())))
def test_what_the_readme_asks_is_answered_rightly(served: dict[str, str], number: int) -> None:
    command = asked()[number]
    by_hand, _ = promised()
    assert len(by_hand) == len(asked())
    assert by_hand[number] == known_truth(command)
    done = subprocess.run(
        [*command, *([] if "--json" in command else ["--json"])],
        cwd=ROOT,
        env=served,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answer"] == by_hand[number]


def test_what_the_readme_asks_over_openai_s_api_is_answered_rightly(served: dict[str, str]) -> None:
    demo = load_script(ROOT / "deploy" / "demo" / "demo.py")
    (block,) = [block for block in blocks("README.md") if "chat/completions" in block]
    (question,) = re.findall(r'"text": "(.+?)"', block)
    (clip,) = re.findall(r"base64 -w0 (\S+?\.mp4)", block)
    _, (right,) = promised()
    assert right == truth(question, clip)
    url = served["TOKENLINK_REST_URL"]
    answer = demo.ask_over_rest(
        url, demo.served_model(url), demo.Question("any", question, right, ROOT / clip)
    )
    assert answer.strip() == right


def test_the_readme_says_how_much_of_what_nobody_chose_is_right() -> None:
    measured = json.loads((ROOT / "docs" / "results" / "accuracy.json").read_text())
    text = " ".join((ROOT / "README.md").read_text().split())
    shares = [f"{100 * row['accuracy']:.1f} % at {row['snr_db']:g} dB" for row in measured["results"]]
    questions = measured["results"][0]["questions"]
    listed = f"{', '.join(shares[:-1])} and {shares[-1]}"
    assert f"Of {questions} held-out questions it answers rightly {listed}" in text
    assert (len(KINDS), len(types())) == (10, 9)
    assert "ten instruments, drawn as emoji, and nine types of question" in text


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_exist(document: str) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for _, target, *_ in commands(document, "make"):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/install.md", "docs/own-data.md"])
def test_commands_that_take_long_have_the_right_flags(document: str) -> None:
    for _, name, *arguments in commands(document, "edge-server"):
        elsewhere = ELSEWHERE[name]
        app = getattr(importlib.import_module(elsewhere.module), elsewhere.app)
        parse(typer.main.get_command(app), arguments)


def test_a_board_s_commands_have_the_right_flags() -> None:
    for block in blocks("docs/install.md"):
        for line in block.replace("~/tokenlink/bin/", "").splitlines():
            if line.startswith("device-agent "):
                _, name, *arguments = shlex.split(line)
                parse(typer.main.get_command(device_app), [name, *arguments])


def parse(command: click.Command, arguments: list[str]) -> None:
    """Parse as the command would, without running it; raises on flags or values that it does not take."""
    subcommands = getattr(command, "commands", None)
    if subcommands:
        parse(subcommands[arguments[0]], arguments[1:])
    else:
        command.make_context(command.name, list(arguments))


def test_parsing_notices_a_wrong_flag() -> None:
    elsewhere = ELSEWHERE["evaluate"]
    app = getattr(importlib.import_module(elsewhere.module), elsewhere.app)
    with pytest.raises(Exception, match="no-such-flag"):
        parse(typer.main.get_command(app), ["--no-such-flag"])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = LINK.findall(path.read_text())
    assert links
    missing = [link for link in links if not Path(path.parent, link).exists()]
    assert not missing
