"""The ``edge-server`` command line as a newcomer meets it."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

from device_agent.cli.conventions import MARKUP
from edge_server.cli import ELSEWHERE, main
from edge_server.errors import ConfigurationError
from edge_server.server import logs
from edge_server.server.config import ServerConfig
from edge_server.server.loading import load_served


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["edge-server", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0), capsys.readouterr().out


@pytest.mark.parametrize("command", [(), ("serve",), *((name,) for name in ELSEWHERE)])
def test_every_command_has_short_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    code, out = said(monkeypatch, capsys, *command, "-h")
    assert code == 0
    assert "Usage: edge-server" in out


def test_units_in_brackets_are_text_in_help(capsys: pytest.CaptureFixture[str]) -> None:
    shown = typer.Typer(rich_markup_mode=MARKUP)

    @shown.command()
    def command(snr_db: Annotated[float, typer.Option(help="SNR [dB]; after [s].")] = 0.0) -> None:
        """Ask."""

    with pytest.raises(SystemExit):
        shown(args=["--help"])
    assert "SNR [dB]; after [s]." in capsys.readouterr().out


def test_it_says_its_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = said(monkeypatch, capsys, "--version")
    assert (code, out.split()[0]) == (0, "edge-server")


def test_help_for_training_needs_no_synthesiser() -> None:
    program = (
        "import sys; sys.modules['fluidsynth'] = None; sys.argv = ['edge-server', 'train', '--help']\n"
        "from edge_server.cli import main\nmain()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Train a model" in ended.stdout


def test_a_model_without_a_bundle_is_told_what_a_server_can_do_about_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="edge-server export") as error:
        load_served(ServerConfig(model=tmp_path))
    assert "device-agent pull" not in str(error.value)


@pytest.mark.parametrize("processes", [True, False])
def test_weights_that_were_cut_short_are_told_by_the_name_of_the_operators_file(
    processes: bool, tmp_path: Path
) -> None:
    shutil.copytree(ServerConfig().runtime.model, tmp_path / "mine")
    weights = tmp_path / "mine" / "foundation.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ConfigurationError, match=f"model: {weights}: .*cut short"):
        load_served(ServerConfig(model=tmp_path / "mine", model_runner_processes=processes))


def record(**extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO", "msg": "serving"})
    vars(made).update(extra)
    return made


def test_a_terminal_is_told_in_words_and_a_collector_in_json() -> None:
    serving = record(rest="http://127.0.0.1:8080", in_words="serving at http://127.0.0.1:8080")
    words = logs.TerminalFormatter().format(serving)
    assert words.endswith(" serving at http://127.0.0.1:8080")
    line = json.loads(logs.JsonFormatter().format(serving))
    assert (line["message"], line["rest"]) == ("serving", "http://127.0.0.1:8080")
    assert "in_words" not in line
    plain = logs.TerminalFormatter().format(record(unanswered=3, nothing=None, name_of="\x1b[31m"))
    assert plain.endswith(" serving  unanswered=3  name_of=\\x1b[31m")
