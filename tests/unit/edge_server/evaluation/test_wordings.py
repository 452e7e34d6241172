"""Answers in words of a model's own are judged by what they name; Soundstage's clips reach any encoder."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_server.evaluation.held_out import StageAsMedia
from edge_server.evaluation.wordings import tells

WHERE = "Where is the loudest instrument?"
LOUDER = "Is the <Object1> louder than the <Object2>?"


@pytest.mark.parametrize(
    ("text", "answer", "template", "right"),
    [
        ("left", "left", WHERE, True),
        ("It is on the left.", "left", WHERE, True),
        ("On the left or the right.", "left", WHERE, False),
        ("It is off stage.", "off stage", WHERE, True),
        ("I am not sure.", "left", WHERE, False),
        ("Yes.", "yes", LOUDER, True),
        ("No, yesterday it was.", "no", LOUDER, True),
        ("No, yesterday it was.", "yes", LOUDER, False),
        ("left", "right", "a template of somebody else", False),
    ],
)
def test_a_sentence_is_right_that_names_the_answer_and_no_other(
    text: str, answer: str, template: str, right: bool
) -> None:
    assert tells(text, answer, template) is right


def test_clips_reach_an_encoder_through_its_own_preprocessing() -> None:
    split: Any = SimpleNamespace(
        frames=np.arange(3 * 2 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 2, 4, 4, 3),
        pcm=np.full((3, 8), 16384, np.int16),
    )

    class Encoder:
        def front_end(self, media: Tensor) -> Tensor:
            return media.float().mean()[None]

        def __call__(self, inputs: Tensor) -> Tensor:
            return inputs

    link: Any = SimpleNamespace(encoder=lambda slot: Encoder())
    clips = StageAsMedia(split)
    seen, heard = (clips.encode(link, slot, 1, 3) for slot in ("visual", "audio"))
    torch.testing.assert_close(seen[:, 0], torch.from_numpy(split.frames[1:3]).float().mean(dim=(1, 2, 3, 4)))
    torch.testing.assert_close(heard, torch.full((2, 1), 0.5))
    assert clips.has(0, "audio")
