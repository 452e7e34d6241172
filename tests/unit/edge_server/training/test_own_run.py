"""Teaching the shipped model questions of one's own: its loss falls, and what comes out can be asked."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from device_agent.bundle.bundle import load_bundle
from device_agent.places import shipped_model
from edge_server.engine.canary import FILE as CANARY_FILE
from edge_server.errors import DatasetError, ModelError
from edge_server.evaluation.cli import app as evaluate_app
from edge_server.model.link import Link
from edge_server.training.cli import finetune_app

MODEL = shipped_model()
QUESTION = "What colour is the door?"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Doors of two colours, half of them with a hum, and what colour each is."""
    folder = tmp_path_factory.mktemp("doors")
    rng = np.random.default_rng(1)
    lines = []
    for split, count in (("train", 24), ("val", 2), ("test", 8)):
        for i in range(count):
            colour = ("red", "blue")[i % 2]
            left, top = (int(x) for x in rng.integers(10, 60, 2))
            image = Image.new("RGB", (160, 120), (200, 200, 200))
            ImageDraw.Draw(image).rectangle((left, top, left + 70, top + 50), fill=colour)
            name = f"{split}{i}.png"
            image.save(folder / name)
            media: str | list[str] = name
            if i % 4 == 0:
                media = [name, f"{split}{i}.wav"]
                with wave.open(str(folder / media[1]), "wb") as file:
                    file.setparams((1, 2, 16_000, 0, "NONE", ""))
                    hum = 3000 * np.sin(np.arange(16_000) * 0.08)
                    file.writeframes(hum.astype("<i2").tobytes())
            row = {"media": media, "question": QUESTION, "answer": colour.title(), "split": split}
            lines.append(json.dumps(row))
    (folder / "questions.jsonl").write_text("\n".join(lines))
    return folder


def test_a_model_is_taught_and_can_be_served_and_asked(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "doors"
    told = [str(MODEL), "--data", str(data), "--out", str(out), "--steps", "16", "--learning-rate", "1e-3"]
    result = CliRunner().invoke(finetune_app, [*told, "--jobs", "1"])
    assert result.exit_code == 0, result.output
    assert load_bundle(out / "bundle").manifest.name == Link.load(out).config.name == "doors"
    assert (out / CANARY_FILE).is_file()
    record = json.loads((out / "training.json").read_text())
    assert record["command"].startswith("edge-server finetune soundstage-small --seed 1 --data doors")
    assert record["data"]["rows"] == 24
    log = [
        json.loads(line)["loss"]
        for line in (tmp_path / "doors.run/finetune/log.jsonl").read_text().splitlines()
    ]
    assert log[-1] < log[0] / 2
    report = tmp_path / "report.json"
    asked = CliRunner().invoke(evaluate_app, [str(out), "--data", str(data), "--out", str(report)])
    assert asked.exit_code == 0, asked.output
    found = json.loads(report.read_text())
    assert found["blind_prior"]["accuracy"] == 0.5
    assert found["results"][0]["per_type"].keys() == {"Own question"}
    again = CliRunner().invoke(finetune_app, [*told[:-1], "2e-3"])
    assert isinstance(again.exception, ModelError)
    assert "holds a run of" in str(again.exception)


def test_the_model_to_begin_with_is_not_written_over(data: Path) -> None:
    result = CliRunner().invoke(finetune_app, [str(MODEL), "--data", str(data), "--out", str(MODEL)])
    assert result.exit_code == 2
    assert "--out" in result.output


def test_a_wrong_file_of_questions_is_told_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text('{"media": "a.png", "question": "?", "anser": "no"}')
    result = CliRunner().invoke(finetune_app, [str(MODEL), "--data", str(tmp_path), "--out", "x"])
    assert isinstance(result.exception, DatasetError)
    assert "line 1: " in str(result.exception)
    assert "anser: Extra inputs are not permitted" in str(result.exception)
