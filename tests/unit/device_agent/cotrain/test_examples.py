"""Examples of a device: which lines count, what is held out; features are made once and bounded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from device_agent.cotrain.examples import read_examples
from device_agent.cotrain.features import ClipFeatures, FeatureCache
from device_agent.cotrain.questions_file import OwnClip
from device_agent.errors import ConfigurationError


def tokenize(text: str) -> list[int]:
    return [len(word) for word in text.split()]


def write(folder: Path, *lines: dict[str, object]) -> None:
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(b"media")
    (folder / "questions.jsonl").write_text("\n".join(json.dumps(line) for line in lines))


def line(media: str, split: str, **more: object) -> dict[str, object]:
    return {"media": media, "question": "is it dark", "answer": "yes", "split": split, **more}


def test_clips_gather_their_questions_and_splits_are_kept_apart(tmp_path: Path) -> None:
    write(
        tmp_path,
        line("a.mp4", "train"),
        line("a.mp4", "train", answer="no"),
        line("b.mp4", "val"),
        line("gone.mp4", "train"),
        {"media": "a.mp4"},
        line("a.mp4", "train", answer=""),
    )
    found = read_examples(tmp_path, tokenize)
    assert [len(each.asked) for each in found.train] == [2]
    assert found.train[0].asked[0].question == (2, 2, 4)
    assert [each.clip.files for each in found.held_out] == [("b.mp4",)]
    assert len(found.left_out) == 3
    assert "gone.mp4 is not there" in found.left_out[0]


def test_what_is_held_out_is_not_learned(tmp_path: Path) -> None:
    write(tmp_path, line("a.mp4", "train"), line("a.mp4", "val"))
    with pytest.raises(ConfigurationError, match="a line before learns from it"):
        read_examples(tmp_path, tokenize)


@pytest.mark.parametrize(("split", "part"), [("train", "held out"), ("val", "to learn from")])
def test_both_parts_are_needed(tmp_path: Path, split: str, part: str) -> None:
    write(tmp_path, line("a.mp4", split))
    with pytest.raises(ConfigurationError, match=part):
        read_examples(tmp_path, tokenize)


def test_features_are_made_once_and_the_longest_unread_go(tmp_path: Path) -> None:
    made: list[OwnClip] = []

    def encode(clip: OwnClip) -> ClipFeatures:
        made.append(clip)
        return ClipFeatures({"visual": np.full((4, 8), len(made), np.float32)}, {"visual": "video"})

    clips = [OwnClip((f"{index}.mp4",), 0.0) for index in range(6)]
    cache = FeatureCache(tmp_path / "cache", tmp_path, "ab", encode, max_bytes=1300)
    for clip in clips:
        cache.of(clip)
    again = FeatureCache(tmp_path / "cache", tmp_path, "ab", encode, max_bytes=1300)
    assert again.of(clips[-1]).by_slot["visual"][0, 0] == 6
    assert again.of(clips[-1]).modalities == {"visual": "video"}
    assert len(made) == 6
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= 1300
    again.of(clips[0])
    assert len(made) == 7
    FeatureCache(tmp_path / "cache", tmp_path, "cd", encode).of(clips[-1])  # of another bundle
    assert len(made) == 8
