"""docs/settings.md, and the flags: made from the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from device_agent import config as device
from edge_server.server import check, reference, serve
from edge_server.server.config import FLAGGED, SETTINGS

PAGE = Path(__file__).resolve().parents[4] / "docs" / "settings.md"

FLAGS = re.findall(
    r"[\w-]+",
    """model host grpc-port rest-port batches threads max-batch max-queue drain-s answers ready-file log-level
    tls-cert tls-key tls-ca access enrol-port ca-key rest-behind-proxy trusted-network device""",
)
"""What a release with hand-written flags had, and one that was missed."""


def test_the_page_is_what_the_settings_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference.page(), "stale: make docs"


def test_the_page_has_a_row_for_every_setting(tmp_path: Path) -> None:
    file = tmp_path / "settings.md"
    assert CliRunner().invoke(reference.app, ["--markdown", str(file)]).exit_code == 0
    variables = re.findall(r"`(TOKENLINK_\w+)` \|$", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(variables) == sorted(each.variable for each in (*SETTINGS, *device.SETTINGS))


def test_every_setting_says_what_it_is() -> None:
    assert [each.key for each in (*SETTINGS, *device.SETTINGS) if not each.info.description] == []


def test_the_list_tells_defaults_units_and_bounds() -> None:
    shown = CliRunner().invoke(reference.app, []).output
    for line in (
        "grpc.port = 50051 (0 to 65535)",
        "server.receive_s = 20 s (above 0, at most 600)",
        "media.max_bytes = 100663296 bytes (above 0)",
        "page.ui = auto (auto, on, off)",
    ):
        assert line in shown.splitlines()


@pytest.mark.parametrize("app", [serve.app, check.app])
def test_flags_are_made_from_the_settings_with_their_defaults(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    for name in FLAGS:
        assert f"--{name} " in shown, name
    assert {each.flag for each in FLAGGED} <= set(re.findall(r"--[\w-]+", shown))
    for default in ("127.0.0.1", "50051", "30 s", "deploy/models/soundstage-small"):
        assert f"[default: ({default})]" in shown
