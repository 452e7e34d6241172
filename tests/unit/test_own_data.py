"""What docs/own-data.md tells to write is what the readers take, and as it says."""

from __future__ import annotations

import json
import re
import wave
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from device_agent.cotrain.questions_file import QuestionLine
from edge_server.data import music_avqa, valor
from edge_server.data.authors_layout import FRAMES, SOUND, MediaFolder
from edge_server.data.faults import MAX_BAD_SHARE, Fault
from edge_server.data.music_avqa import load_music_avqa
from edge_server.data.valor import load_valor

PAGE = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
QUESTIONS, CAPTIONS = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def laid_out(folder: Path, annotation: str, content: str) -> MediaFolder:
    """A folder of a data set with the page's annotation, and a clip for each of its rows."""
    (folder / "annotation").mkdir(parents=True)
    (folder / "annotation" / annotation).write_text(content)
    for row in json.loads(content):
        frames = folder / FRAMES / row["video_id"]
        frames.mkdir(parents=True)
        for number in range(1, 4):
            Image.new("RGB", (32, 24), (60 * number, 0, 0)).save(frames / f"frame_{number:04d}.jpg")
        sound = folder / SOUND / f"{row['video_id']}.wav"
        sound.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(sound), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(np.ones(16_000, "<i2").tobytes())
    return MediaFolder(folder, frames=2)


def test_the_page_s_lines_are_lines() -> None:
    (lines,) = re.findall(r"^```jsonl\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    read = [QuestionLine.model_validate_json(line) for line in lines.splitlines()]
    assert [line.files for line in read] == [("0412.mp4",), ("yard.jpg", "yard.ogg"), ("0412.mp4",)]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_page_s_question_is_read(tmp_path: Path, split: str) -> None:
    named = re.search(rf"{music_avqa.FOLDER}/annotation/(\S+)", PAGE)
    assert named
    media = laid_out(tmp_path / music_avqa.FOLDER, named[1].replace("train", split), QUESTIONS)
    loaded = load_music_avqa(media, split)
    assert [(row.text, row.answer, row.type) for row in loaded.questions] == [
        ("Where is the guitar?", "left", ("Visual", "Location"))
    ]
    assert loaded.report.bad_rows == 0
    assert media.read_frames(loaded.video_ids[0]).shape == (2, 24, 32, 3)


def test_an_answer_may_be_spelt_rightly(tmp_path: Path) -> None:
    media = laid_out(tmp_path / "spelt", "test.json", QUESTIONS.replace('"anser"', '"answer"'))
    assert load_music_avqa(media, "test").questions[0].answer == "left"


def test_the_page_s_caption_is_read(tmp_path: Path) -> None:
    named = re.search(rf"{valor.FOLDER}/annotation/(\S+)", PAGE)
    assert named
    loaded = load_valor(laid_out(tmp_path / valor.FOLDER, named[1], CAPTIONS), "train")
    assert [caption.full for caption in loaded.captions] == [json.loads(CAPTIONS)[0]["desc"]]


def test_the_page_names_the_places_and_the_causes() -> None:
    assert str(FRAMES) in PAGE
    assert str(SOUND) in PAGE
    for cause in get_args(Fault):
        assert cause in " ".join(PAGE.split())
    assert f"Above {100 * MAX_BAD_SHARE:g} % of them" in PAGE
