"""Whose a scene is and how long ago it was, in the words that models are trained with."""

from __future__ import annotations

import pytest

from edge_server.scenes.words import AGOS, ago_in_words, label_in_words


@pytest.mark.parametrize(
    ("age_s", "words"),
    [
        (-5.0, ""),
        (0.0, ""),
        (29.0, ""),
        (60.0, AGOS[0]),
        (600.0, AGOS[1]),
        (3600.0, AGOS[2]),
        (9e6, AGOS[-1]),
    ],
)
def test_how_long_ago(age_s: float, words: str) -> None:
    assert ago_in_words(age_s) == words


def test_a_name_becomes_words() -> None:
    assert label_in_words("porch/front-camera_2", 0.0) == "porch front camera 2"
    assert label_in_words("mic", 3600.0) == "mic an hour ago"
    assert len(label_in_words("x" * 128, 3600.0)) == 64
