"""Teacher-forced answers are those of the served model, and systems meet the same channel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_agent.channel import ChannelConfig
from edge_server.data.soundstage.dataset import Split, generate, load_split
from edge_server.errors import DatasetError
from edge_server.evaluation.accuracy import Evaluator, Setting
from edge_server.evaluation.held_out import HeldOut
from edge_server.model.link import Link
from edge_server.study.teacher_forced import TeacherForcedQuestions, over_channel
from edge_server.training.clips import EncodedClips, encode_clips
from edge_server.training.soundstage import SoundstageSplit

MODEL = Path(__file__).parents[4] / "deploy/models/soundstage-small"


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("soundstage")
    generate(folder, "test", 12, seed=5, workers=1)
    return load_split(folder, "test")


@pytest.fixture(scope="module")
def shipped() -> Link:
    link = Link.load(MODEL)
    link.merge_lora()
    return link


@pytest.fixture(scope="module")
def clips(
    shipped: Link, split: Split, tmp_path_factory: pytest.TempPathFactory
) -> EncodedClips[SoundstageSplit]:
    return encode_clips(shipped, SoundstageSplit(split), tmp_path_factory.mktemp("features"), "test")


@pytest.mark.parametrize("token_length", [1, 16])
def test_teacher_forcing_counts_what_the_served_model_answers(
    shipped: Link, split: Split, clips: EncodedClips[SoundstageSplit], token_length: int
) -> None:
    setting = Setting(ChannelConfig(model="none"), token_length)
    marked = TeacherForcedQuestions(split, batch_size=5).score(
        shipped, over_channel(shipped, clips.features, setting)
    )
    served = Evaluator(shipped, HeldOut.of_soundstage(split)).through_channel(setting)
    assert marked.to_json() == served.to_json()
    assert 0.3 < marked.accuracy < 1.0  # right and wrong ones both


def test_clips_that_were_encoded_are_not_taken_for_others(
    shipped: Link, split: Split, tmp_path: Path
) -> None:
    fewer = SoundstageSplit(replace(split, scenes=split.scenes[:2]))
    encode_clips(shipped, fewer, tmp_path, "test")
    with pytest.raises(DatasetError, match="2 clips, the split has 12"):
        encode_clips(shipped, SoundstageSplit(split), tmp_path, "test")


def test_only_the_first_clips_are_asked_about(
    shipped: Link, split: Split, clips: EncodedClips[SoundstageSplit]
) -> None:
    setting = Setting(ChannelConfig(model="none"), 4)
    score = TeacherForcedQuestions(split, clips=3).score(
        shipped, over_channel(shipped, clips.features, setting)
    )
    assert score.asked.total() == sum(question.clip < 3 for question in split.questions)


def test_a_clip_meets_the_same_noise_in_every_batch(
    shipped: Link, clips: EncodedClips[SoundstageSplit]
) -> None:
    setting = Setting(ChannelConfig(model="rayleigh", snr_db=0.0), 4)
    receive = over_channel(shipped, clips.features, setting)
    alone, together = receive(range(4, 5))[0], receive(range(0, 12))[4]
    for slot, embeddings in alone.items():
        np.testing.assert_allclose(embeddings.numpy(), together[slot].numpy(), atol=1e-4)


def test_a_lost_modality_costs_accuracy(
    shipped: Link, split: Split, clips: EncodedClips[SoundstageSplit]
) -> None:
    receive = over_channel(shipped, clips.features, Setting(ChannelConfig(model="none"), 16))

    def deaf(rows: range) -> list[dict[str, object]]:
        return [{"visual": slots["visual"]} for slots in receive(rows)]

    questions = TeacherForcedQuestions(split)
    assert questions.score(shipped, deaf).accuracy < questions.score(shipped, receive).accuracy - 0.1  # type: ignore[arg-type]
