"""Questions about clips of one's own: what lines may say, who is in which split, what is left out."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from device_agent.cotrain.questions_file import FILE, OwnClip
from edge_server.data.questions_file import OwnMedia, load_questions, survey
from edge_server.errors import DatasetError


def picture(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), (value, 0, 0)).save(path)


def sound(path: Path, seconds: float = 1.0) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.full(int(16_000 * seconds), 1000, "<i2").tobytes())


def folder_of(folder: Path, *lines: dict[str, Any] | str) -> OwnMedia:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / FILE).write_text(text + "\n\n", encoding="utf-8")
    return OwnMedia(folder)


def line(media: str | list[str] = "a.png", **more: Any) -> dict[str, Any]:
    return {"media": media, "question": "Is the door open?", "answer": "no", "split": "train"} | more


def test_a_line_names_a_file_or_a_picture_with_its_sound(tmp_path: Path) -> None:
    picture(tmp_path / "hall" / "a.png")
    sound(tmp_path / "a.wav", 3.0)
    media = folder_of(tmp_path, line("hall/a.png"), line(["hall/a.png", "a.wav"]), line("a.wav", start_s=2))
    loaded = load_questions(media, "train")
    assert [q.clip for q in loaded.questions] == [0, 1, 2]
    shown = [media.read(clip).modalities for clip in loaded.clips]
    assert shown == [("image",), ("image", "audio"), ("audio",)]
    heard = media.read(loaded.clips[2]).pcm_S
    assert heard is not None
    assert len(heard) == 16_000
    assert (loaded.report.rows, loaded.report.bad_rows) == (3, 0)


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / FILE).write_bytes(b"\xef\xbb\xbf" + json.dumps(line()).encode() + b"\r\n")
    assert len(load_questions(OwnMedia(tmp_path), "train").questions) == 1


def test_a_clip_s_split_depends_on_its_name_alone_and_is_drawn_eight_to_one_to_one() -> None:
    drawn = [OwnClip((f"clip{i}.mp4",), 0.0).drawn for i in range(5000)]
    assert {split: round(drawn.count(split) / 5000, 1) for split in ("train", "val", "test")} == {
        "train": 0.8,
        "val": 0.1,
        "test": 0.1,
    }
    assert OwnClip(("clip7.mp4",), 3.0).drawn == drawn[7]


def test_all_windows_of_a_recording_are_in_the_split_that_one_line_names(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", 5.0)
    later = line("a.wav", start_s=3)
    del later["split"]
    media = folder_of(tmp_path, line("a.wav", split="test"), later)
    assert len(load_questions(media, "test").questions) == 2


def test_a_recording_cannot_be_trained_on_and_tested_with(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    media = folder_of(tmp_path, line(), line(split="test"))
    with pytest.raises(DatasetError, match=r"line 1 puts a\.png into 'train', line 2 into 'test'"):
        load_questions(media, "train")


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ("{", "line 2"),
        ("[1]", "line 2"),
        (line("../a.png"), "media.*inside the folder"),
        (line("/etc/passwd"), "media.*inside the folder"),
        (line(["a.png", "b.wav", "c.wav"]), "media"),
        (line(answer=""), "answer"),
        (line(anser="no"), "anser"),
        (line(split="dev"), "split.*'train', 'val' or 'test'"),
        (line(start_s=-1), "start_s"),
    ],
)
def test_a_wrong_line_is_named_with_its_field(tmp_path: Path, bad: dict[str, Any] | str, named: str) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=f"1 malformed row.*line 2.*{named}|1 malformed row.*{named}"):
        load_questions(folder_of(tmp_path, line(), bad), "train")


def test_missing_and_broken_files_are_counted_and_one_in_a_hundred_is_left_out(
    tmp_path: Path,
) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    media = folder_of(tmp_path, *[line()] * 199, line("gone.png"), line("broken.png"))
    faults = survey(media, [OwnClip((name,), 0.0) for name in ("a.png", "gone.png", "broken.png")])
    assert list(faults.values()) == ["missing media", "unreadable media"]
    loaded = load_questions(media, "train")
    assert len(loaded.questions) == 199
    assert loaded.report.bad == {"missing media": ["line 200"], "unreadable media": ["line 201"]}


def test_a_split_without_lines_and_a_folder_without_the_file_say_so(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(DatasetError, match="of split 'val'; clips by split: 1 train, 0 val, 0 test"):
        load_questions(folder_of(tmp_path, line()), "val")
    with pytest.raises(DatasetError, match="cannot be read"):
        load_questions(OwnMedia(tmp_path / "elsewhere"), "train")
