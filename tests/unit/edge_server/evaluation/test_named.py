"""Files are named by what they show; an answer is right if it holds one of the names."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_server.errors import DatasetError
from edge_server.evaluation.named import is_named, read_lemmas, read_named, read_synsets


def test_names_come_from_files_and_from_wordnet(tmp_path: Path) -> None:
    for name in (
        "n01443537_goldfish.jpg",
        "red_fox_2.PNG",
        "notes.txt",
        "dog_1-100032-A.ogg",
        "flute_12.mp3",
    ):
        (tmp_path / name).touch()
    (tmp_path / "lemmas").write_text("n01443537\tgoldfish, Carassius auratus\nbroken line\n")
    lemmas = read_lemmas(tmp_path / "lemmas")
    photos = read_named(tmp_path, "visual", lemmas)
    assert [(photo.synset, photo.names) for photo in photos] == [
        ("n01443537", ("goldfish", "goldfish", "Carassius auratus")),
        ("", ("red fox",)),
    ]
    assert [sound.names for sound in read_named(tmp_path, "audio", {})] == [
        ("dog", "dog bark", "dog barking"),
        ("flute",),
    ]


def test_a_folder_without_any_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no file of .*\.jpg"):
        read_named(tmp_path, "visual", {})


def test_lists_that_were_not_fetched_are_empty(tmp_path: Path) -> None:
    assert read_lemmas(tmp_path / "none") == {}
    assert read_synsets(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("A goldfish.", True),
        ("This is a GOLDFISH, a fish.", True),
        ("Goldfishes.", False),
        ("A fish.", False),
        ("Carassius auratus", True),
        ("", False),
    ],
)
def test_an_answer_has_to_hold_a_whole_name(answer: str, right: bool) -> None:
    assert is_named(answer, ("goldfish", "Carassius auratus")) is right
