from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_server.errors import ConfigurationError, InvalidQuestionError, QuestionTooLargeError
from edge_server.ui.clips import Shelf, StoredClip, shipped_clips

ROOT = Path(__file__).parents[4]


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    keys = itertools.count()
    made = Shelf((), max_clip_bytes=100, max_uploads=2, new_key=lambda: f"key-{next(keys)}")
    yield made
    made.close()


def test_questions_to_which_nobody_knows_the_one_right_answer_have_no_truth() -> None:
    clips = {clip.key: clip for clip in shipped_clips(ROOT / "deploy" / "demo" / "open-small")}
    assert {clip.modality for clip in clips.values()} == {"image", "audio"}
    assert [example.truth for example in clips["cat.jpg"].examples] == [None, None]
    assert next(iter(clips)) == "cat.jpg"  # what is asked first when the page is opened: as they are listed


def test_the_shipped_clips_come_with_their_questions() -> None:
    clips = shipped_clips(ROOT / "deploy" / "demo")
    assert len(clips) == 3
    rows = json.loads((ROOT / "deploy" / "demo" / "questions.json").read_text())
    assert sum(len(clip.examples) for clip in clips) == len(rows)
    for clip in clips:
        assert clip.path.stat().st_size == clip.size_bytes
        assert (clip.modality, clip.media_type) == ("video", "video/mp4")


@pytest.mark.parametrize("content", ["{", '[{"clip": "a.mp4"}]', "7", '[{"clip": "a.mp4", "type": []}]'])
def test_a_demo_folder_that_cannot_be_read_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "questions.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"ui_demo: .*questions\.json"):
        shipped_clips(tmp_path)


def test_a_clip_that_questions_name_stays_within_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"x")
    demo = tmp_path / "demo"
    (demo / "clips").mkdir(parents=True)
    row = {"clip": "../../secret.mp4", "type": ["a"], "question": "q", "answer": "a"}
    (demo / "questions.json").write_text(json.dumps([row]))
    with pytest.raises(ConfigurationError, match="ui_demo"):
        shipped_clips(demo)


async def test_an_upload_is_found_under_its_key(shelf: Shelf) -> None:
    clip = await shelf.put("../../holiday.WEBM", b"data")
    assert (clip.name, clip.key, clip.size_bytes) == ("holiday.WEBM", "key-0", 4)
    assert (clip.modality, clip.media_type) == ("video", "video/webm")
    assert clip.path.read_bytes() == b"data"
    assert clip.path.name == "key-0", "nothing of the visitor's file name is a path here"
    assert shelf.find("key-0") is clip
    assert shelf.find("key-1") is None
    assert (await shelf.put("a.png", b"x")).modality == "image"
    assert (await shelf.put("a.wav", b"x")).modality == "audio"


async def test_uploads_are_bounded_and_the_oldest_leaves(shelf: Shelf) -> None:
    first, second, third = [await shelf.put("a.mp4", b"x") for _ in range(3)]
    assert shelf.find(first.key) is None
    assert not first.path.exists()
    assert shelf.find(second.key) is second
    folder = third.path.parent
    shelf.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "data", "error", "says"),
    [
        ("notes.txt", b"x", InvalidQuestionError, "no video, image or sound"),
        ("page.svg", b"<svg/>", InvalidQuestionError, "no video, image or sound"),
        ("a.mp4", b"", InvalidQuestionError, "empty"),
        ("a.mp4", b"x" * 101, QuestionTooLargeError, "101 bytes; at most 100"),
    ],
)
async def test_what_cannot_be_a_clip_is_refused(
    shelf: Shelf, name: str, data: bytes, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        await shelf.put(name, data)


async def test_an_upload_goes_to_its_place_without_passing_through_memory(shelf: Shelf) -> None:
    async def save(path: Path) -> None:
        path.write_bytes(b"12345")

    clip = await shelf.take("IMG_0001.HEIC", 5, save)
    assert (clip.modality, clip.size_bytes, clip.path.read_bytes()) == ("image", 5, b"12345")
    stored = StoredClip(clip)
    assert (stored.seek(-2, 2), stored.read(10), stored.seek(1), stored.read(2)) == (3, b"45", 1, b"23")
    with pytest.raises(QuestionTooLargeError, match="at most 100 are allowed"):
        await shelf.take("film.mp4", 101, save)
