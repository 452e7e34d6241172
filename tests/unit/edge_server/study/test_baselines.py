"""The digital baselines on the shipped model, with real codecs and an ideal code."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from device_agent.channel import ChannelConfig
from edge_server.data.soundstage.dataset import Split, generate, load_split
from edge_server.model.link import Link
from edge_server.study.baselines import Baselines, BaselineSplit
from edge_server.study.digital.codes import IdealCode
from edge_server.study.digital.ladder import build_ladder
from edge_server.study.digital.media import JpegStep, OpusStep
from edge_server.study.media_sizes import worthwhile_steps
from edge_server.training.clips import encode_batch

MODEL = Path(__file__).parents[4] / "deploy/models/soundstage-small"
STEPS = {
    "visual": [JpegStep(1, 4, 10), JpegStep(2, 1, 40), JpegStep(8, 1, 95)],
    "audio": [OpusStep(6000, 0.5), OpusStep(64_000, 4.0)],
}
CLIPS = 10


@pytest.fixture(scope="module")
def baselines(tmp_path_factory: pytest.TempPathFactory) -> Baselines:
    folder = tmp_path_factory.mktemp("baselines")
    generate(folder, "test", CLIPS, seed=7, workers=1)
    split: Split = load_split(folder, "test")
    link = Link.load(MODEL)
    link.merge_lora()
    features = {slot: encode_batch(link, slot, split, 0, CLIPS).numpy().astype(np.float16) for slot in STEPS}
    ladders = {slot: build_ladder(link, slot, split, folder, steps) for slot, steps in STEPS.items()}
    half = BaselineSplit.first(split, features, ladders, CLIPS)
    return Baselines(link, half, half, token_length=16)


def at(baselines: Baselines, snr_db: float) -> dict[str, float]:
    channel = ChannelConfig(snr_db=snr_db)
    told = {"media": baselines.media(IdealCode(), channel), "tokens": baselines.tokens(IdealCode(), channel)}
    return {name: found["score"]["accuracy"] for name, found in told.items()}


def test_media_need_far_more_than_tokens_at_the_same_channel_uses(baselines: Baselines) -> None:
    assert baselines.channel_uses == 2 * 16 * 32 // 2
    nothing = baselines.at_steps(baselines.test, {"visual": None, "audio": None}).accuracy
    weak, strong = at(baselines, -10.0), at(baselines, 20.0)
    assert weak["media"] == nothing  # not one picture fits
    assert strong["tokens"] > 0.85
    assert strong["tokens"] > strong["media"] + 0.1
    assert strong["tokens"] >= weak["tokens"]


def test_intact_media_are_answered_as_well_as_tokens_without_a_channel(baselines: Baselines) -> None:
    best = baselines.at_steps(baselines.test, {"visual": 2, "audio": 1}).accuracy
    assert best > 0.85
    lost = baselines.at_steps(baselines.test, {"visual": 2, "audio": None}).accuracy
    assert lost < best


def test_steps_are_ranked_by_what_they_are_worth_to_the_answers(baselines: Baselines) -> None:
    worth = baselines.test.ladders["visual"].worth_S
    assert worth[2] >= worth[1]
    assert all(w == -math.inf or 0.0 < w <= 1.0 for w in worth)
    assert worthwhile_steps(baselines.test.ladders["visual"])[-1] in (1, 2)
