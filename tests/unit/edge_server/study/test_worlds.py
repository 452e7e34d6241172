"""The study of other artwork and soundfonts: paired with the usual world, and settled as far as it goes."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from edge_server.data.soundstage.dataset import generate
from edge_server.data.soundstage.picture import ARTWORK
from edge_server.study.cli import app

MODEL = Path(__file__).parents[4] / "deploy" / "models" / "soundstage-small"


def test_the_same_scenes_are_asked_about_in_each_world(tmp_path: Path) -> None:
    artwork = tmp_path / "squares"
    artwork.mkdir()
    for sign in ARTWORK.values():
        Image.new("RGBA", (64, 64), (90, 160, 30, 255)).save(artwork / f"{ord(sign):x}.png")
    usual, squares, others = tmp_path / "usual", tmp_path / "other", tmp_path / "of another seed"
    generate(usual, "test", 6, 1, 1)
    generate(squares, "test", 6, 1, 1, artwork=artwork)
    generate(others, "test", 6, 2, 1)
    asked = ["worlds", "--model", str(MODEL), "--data", str(usual), "--out", str(tmp_path / "out")]
    ran = CliRunner().invoke(app, [*asked, "--world", f"squares={squares}"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    report = json.loads((tmp_path / "out" / "worlds.json").read_text())
    assert [(row["world"], row["artwork"], row["snr_db"]) for row in report["rows"][3:]] == [
        ("squares", "squares", snr_db) for snr_db in (10.0, 0.0, -5.0)
    ]
    told = {row["world"]: row["accuracy"] for row in report["rows"] if row["snr_db"] == 10.0}
    assert told["squares"] < told["usual"], "a green square is no violin"
    (promise,) = report["promises"]
    assert promise["measured"].startswith("squares ")
    assert "| squares | squares | usual | 10 dB |" in (tmp_path / "out" / "README.md").read_text()

    refused = CliRunner().invoke(app, [*asked, "--world", f"others={others}"])
    assert "has other questions" in str(refused.exception)
    for wrong in ("squares", "=x", f"usual={squares}", f"squares={tmp_path / 'nowhere'}"):
        assert CliRunner().invoke(app, [*asked, "--world", wrong]).exit_code == 2
