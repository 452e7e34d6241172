from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_server.cli import ELSEWHERE, build


@pytest.mark.parametrize(
    "module",
    [
        "edge_server.cli",
        "edge_server.server.process",
        "edge_server.server.loading",
        "edge_server.runtime.model_info",
    ],
)
def test_serving_starts_without_torch_or_training_code(module: str) -> None:
    heavy = ["torch", "transformers", "peft", "edge_server.training", "edge_server.data"]
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_help_shows_every_command_without_importing_any() -> None:
    shown = CliRunner().invoke(build(), ["--help"], env={"COLUMNS": "120"})
    assert shown.exit_code == 0
    for name in ("serve", *ELSEWHERE):
        assert name in shown.output


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--model", "/nowhere"], "/nowhere"),
        (["--grpc-port", "70000"], "grpc_port"),
        (["--log-level", "LOUD"], "log_level"),
    ],
)
def test_settings_that_cannot_be_exit_with_2_and_are_named(flags: list[str], named: str) -> None:
    # In a process of its own: logging is configured for the whole process.
    ran = subprocess.run(
        [sys.executable, "-c", "from edge_server.cli import main; main()", "serve", *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert named in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(("command", "ends"), [("serve", False), ("train", True)])
def test_sighup_ends_no_server_that_is_still_imported_but_every_other_command(
    command: str, ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "told_at_import.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGHUP)\ndef app(**_): print('came up')\n"
    )
    code = (
        # Whoever runs the tests may have told them to ignore it, as nohup does.
        "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "from dataclasses import replace\nfrom edge_server import cli\n"
        f"cli.ELSEWHERE = {{{command!r}: replace(cli.ELSEWHERE[{command!r}], module='told_at_import')}}\n"
        "cli.main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert ran.returncode == (-signal.SIGHUP if ends else 0), ran.stderr
    assert ("came up" in ran.stdout) != ends
