"""Recorded data sets in the authors' layout: filled, counted, named; too many bad rows stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from edge_server.data.annotations import fill, questions_by_clip
from edge_server.data.authors_layout import FRAMES, SOUND, MediaFolder, Videos, survey
from edge_server.data.cli import app
from edge_server.data.music_avqa import load_music_avqa
from edge_server.data.soundstage.dataset import sample_scenes
from edge_server.data.soundstage.picture import render_frames
from edge_server.data.soundstage.sound import render_sound
from edge_server.data.valor import load_valor
from edge_server.errors import DatasetError

CLIPS = 4


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    arguments = ["authors-layout", "--out", str(folder), "--clips", str(CLIPS), "--seed", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def data(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "data"))


def music(data: Path) -> MediaFolder:
    return MediaFolder(data / "MUSIC-AVQA", frames=8)


def valor(data: Path) -> MediaFolder:
    return MediaFolder(data / "VALOR", frames=8)


def edit(path: Path, change: Callable[[list[Any]], None]) -> None:
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def many(rows: list[Any]) -> None:
    """So many good rows that one bad one is less than 1 %."""
    rows[:] = (rows * 200)[:200]


def test_what_was_written_is_read_back(written: Path) -> None:
    loaded = load_music_avqa(music(written), "train")
    scenes = sample_scenes("train", 2 * CLIPS, seed=3)
    assert loaded.video_ids == tuple(f"soundstage_train_{i:06d}" for i in range(CLIPS, 2 * CLIPS))
    assert loaded.report.bad_rows == 0
    rows = json.loads((written / "MUSIC-AVQA/annotation/avqa-train.json").read_text())
    assert [(q.text, q.answer) for q in loaded.questions] == [
        (fill(row["question_content"], json.loads(row["templ_values"])), row["anser"]) for row in rows
    ]
    assert not any("<" in q.text for q in loaded.questions)
    grouped = questions_by_clip(loaded.questions, CLIPS)
    assert sum(map(len, grouped)) == len(loaded.questions) == loaded.report.rows
    assert all(q.clip == i for i, questions in enumerate(grouped) for q in questions)
    scene = scenes[CLIPS]
    frames = loaded.media.read_frames(loaded.video_ids[0])
    # Those that the front end picks: 2 of every 8, JPEG's loss apart.
    expected = render_frames(scene, [(2 * i + 1) * 32 // 16 for i in range(8)])
    assert frames.shape == expected.shape
    assert np.abs(frames.astype(float) - expected).mean() < 4
    sound = loaded.media.read_sound(loaded.video_ids[0])
    np.testing.assert_allclose(sound, render_sound(scene) / 32768, atol=1e-4)


def test_a_caption_serves_picture_and_sound(written: Path) -> None:
    loaded = load_valor(valor(written), "train")
    assert len(loaded.captions) == len(loaded.video_ids) == CLIPS
    assert all(c.full == c.picture == c.sound for c in loaded.captions)
    assert {c.full for c in loaded.captions} == {
        row["desc"] for row in json.loads((written / "VALOR/annotation/desc_train.json").read_text())
    }


def test_rows_taken_back_by_their_authors_are_no_bad_rows(data: Path) -> None:
    path = data / "MUSIC-AVQA/annotation/avqa-train.json"
    edit(path, lambda rows: rows[0].update(question_deleted=1))
    loaded = load_music_avqa(music(data), "train")
    assert loaded.report.bad_rows == 0
    assert loaded.report.rows == len(json.loads(path.read_text())) - 1


def test_the_answer_may_be_spelt_right_and_a_video_be_a_number(data: Path) -> None:
    name = "00000007"
    for part in (FRAMES, SOUND):
        for path in (data / "MUSIC-AVQA" / part).glob("*_000004*"):
            path.rename(path.with_name(name + path.suffix))

    def change(rows: list[Any]) -> None:
        for row in rows:
            if row["video_id"].endswith("000004"):
                row["video_id"] = name
                row["answer"] = row.pop("anser")

    edit(data / "MUSIC-AVQA/annotation/avqa-train.json", change)
    loaded = load_music_avqa(music(data), "train")
    assert name in loaded.video_ids
    assert loaded.report.bad_rows == 0


def test_of_the_authors_three_files_of_a_split_the_one_that_is_asked_for_is_read(data: Path) -> None:
    folder = data / "MUSIC-AVQA" / "annotation"
    rows = json.loads((folder / "avqa-train.json").read_text())
    (folder / "avqa-train_real.json").write_text(json.dumps(rows[:5]))
    (folder / "avqa-train_fake.json").write_text(json.dumps(rows[5:]))
    read = {
        videos: load_music_avqa(music(data), "train", videos=videos).report.rows
        for videos in get_args(Videos)
    }
    assert read == {"all": len(rows), "real": 5, "fake": len(rows) - 5}
    (folder / "avqa-train_fake.json").unlink()
    with pytest.raises(DatasetError, match="says 'train' and 'fake' is needed"):
        load_music_avqa(music(data), "train", videos="fake")


def test_full_width_letters_and_underscores_are_read_as_a_keyboard_types_them(data: Path) -> None:
    def change(rows: list[Any]) -> None:
        rows[0] |= {
            "question_content": "Where is the ＜Object＞？",
            "templ_values": '["acoustic_guitar"]',
            "anser": "more_than_ten",
        }

    edit(data / "MUSIC-AVQA/annotation/avqa-train.json", change)
    question = load_music_avqa(music(data), "train").questions[0]
    assert (question.text, question.answer) == ("Where is the acoustic guitar?", "more than ten")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"templ_values": '["one", "two", "three", "four"]'}, "wrong number of values"),
        ({"templ_values": '["one"'}, "malformed row"),
        ({"type": "Audio"}, "malformed row"),
        ({"anser": 3}, "malformed row"),
        ({"question_content": " "}, "malformed row"),
        ({"video_id": "../../secret"}, "malformed row"),
        ({"video_id": "never_extracted"}, "missing frames"),
    ],
)
def test_a_bad_question_is_counted_and_named(data: Path, change: dict[str, object], fault: str) -> None:
    def spoil(rows: list[Any]) -> None:
        many(rows)
        rows[2] = rows[2] | change

    edit(data / "MUSIC-AVQA/annotation/avqa-train.json", spoil)
    report = load_music_avqa(music(data), "train").report
    assert report.bad_rows == 1
    assert list(report.bad) == [fault]
    assert report.bad[fault][0].startswith("row 3")  # type: ignore[index]
    assert fault in str(report)
    assert report.to_json()["rows"] == 200


def cut_frame(folder: Path, name: str) -> None:
    path = sorted((folder / FRAMES / name).iterdir())[2]
    path.write_bytes(path.read_bytes()[:300])


def other_size(folder: Path, name: str) -> None:
    paths = sorted((folder / FRAMES / name).iterdir())
    Image.new("RGB", (40, 30)).save(paths[2])


def cut_sound(folder: Path, name: str) -> None:
    path = folder / SOUND / f"{name}.wav"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (cut_frame, "unreadable frames"),
        (other_size, "unreadable frames"),
        (cut_sound, "unreadable sound"),
        (lambda folder, name: (folder / SOUND / f"{name}.wav").unlink(), "missing sound"),
        (lambda folder, name: shutil.rmtree(folder / FRAMES / name), "missing frames"),
    ],
)
def test_a_clip_that_cannot_be_read_is_left_out(
    data: Path, damage: Callable[[Path, str], None], fault: str
) -> None:
    # All frames are read, so the damaged one is among them.
    media = MediaFolder(data / "VALOR", frames=32)
    ids = [f"soundstage_train_{i:06d}" for i in range(CLIPS)]
    damage(media.folder, ids[1])
    assert survey(media, ids, threads=2) == {ids[1]: fault}
    with pytest.raises(DatasetError, match=rf"1 of 4 rows are bad: 1 {fault} \(row 2 \({ids[1]}\)\)"):
        load_valor(media, "train")


def test_more_than_one_percent_of_bad_rows_stops(data: Path) -> None:
    def spoil(rows: list[Any], bad: int) -> None:
        for i in range(bad):
            rows[i] = rows[i] | {"anser": ""}

    path = data / "MUSIC-AVQA/annotation/avqa-train.json"
    edit(path, many)
    edit(path, lambda rows: spoil(rows, 2))
    assert load_music_avqa(music(data), "train").report.bad_rows == 2  # exactly 1 %
    edit(path, lambda rows: [rows[i].update(anser="") for i in range(9)])
    with pytest.raises(
        DatasetError, match=r"9 of 200 rows are bad: 9 malformed row \(row 1 .*, \.\.\.\); at"
    ):
        load_music_avqa(music(data), "train")


def test_an_annotation_file_that_is_none_is_named(data: Path) -> None:
    with pytest.raises(DatasetError, match=r"says 'val' is needed, found avqa-train\.json"):
        load_music_avqa(music(data), "val")
    (data / "VALOR/annotation/desc_train.json").write_text("[{")
    with pytest.raises(DatasetError, match=r"desc_train\.json: cannot be read"):
        load_valor(valor(data), "train")
    (data / "VALOR/annotation/desc_train.json").write_text("{}")
    with pytest.raises(DatasetError, match="a JSON array of rows"):
        load_valor(valor(data), "train")


def test_a_clip_has_one_caption(data: Path) -> None:
    def spoil(rows: list[Any]) -> None:
        rows.append(rows[0])

    edit(data / "VALOR/annotation/desc_train.json", spoil)
    with pytest.raises(DatasetError, match="1 malformed row"):
        load_valor(valor(data), "train")
