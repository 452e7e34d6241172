from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from device_agent.channel import Channel, ChannelConfig, from_symbols
from edge_server.data.soundstage.dataset import Split
from edge_server.errors import ConfigurationError
from edge_server.model.link import Link
from edge_server.study.digital import ladder as ladder_module
from edge_server.study.digital.delivery import Plan, arrivals, meet
from edge_server.study.digital.ladder import Ladder, build_ladder
from edge_server.study.digital.media import JpegStep, OpusStep
from edge_server.study.digital.separate import adapt, expected_accuracy, receive
from edge_server.training.clips import encode_media
from tests.unit.edge_server.study.digital.conftest import CLIPS, ToldCode


def seen_only(visual: int | None, audio: int | None) -> float:
    """A question that only the picture answers, better with each step."""
    return 0.3 if visual is None else 0.4 + 0.1 * visual


def both_needed(visual: int | None, audio: int | None) -> float:
    return 0.9 if visual is not None and audio is not None else 0.2


def test_the_best_step_that_fits(ladders: dict[str, Ladder]) -> None:
    visual = ladders["visual"]
    assert visual.best(49).tolist() == [-1] * CLIPS
    assert visual.best(100)[:2].tolist() == [1, 0]
    assert visual.best(1000).tolist() == [2] * CLIPS
    assert visual.ranked([0.5, 0.9, 0.1]).best(1000).tolist() == [1] * CLIPS
    assert visual.ranked([-np.inf, 0.0, 1.0]).best(99).tolist() == [-1] * CLIPS
    with pytest.raises(ConfigurationError, match="one per step, 3"):
        visual.ranked([1.0])


def test_all_channel_uses_go_where_they_help(ladders: dict[str, Ladder], awgn: ChannelConfig) -> None:
    plan = adapt(ToldCode({1.0: 0.0}), awgn, 210, ladders, seen_only)
    assert plan.words["audio"] is None
    assert plan.words["visual"] is not None
    assert plan.words["visual"].channel_uses == 210
    assert plan.expected == pytest.approx(0.6)
    plan = adapt(ToldCode({1.0: 0.0}), awgn, 1000, ladders, both_needed)
    assert plan.words["audio"] is not None
    assert plan.words["visual"] is not None
    assert plan.words["visual"].channel_uses == plan.words["audio"].channel_uses == 500
    assert plan.expected == pytest.approx(0.9)


def test_rate_is_traded_against_loss(ladders: dict[str, Ladder], awgn: ChannelConfig) -> None:
    def word(loss: float) -> int:
        plan = adapt(ToldCode({1.0: 0.0, 2.1: loss}), awgn, 101, ladders, seen_only)
        assert plan.words["visual"] is not None
        return plan.words["visual"].bits

    # Step 1 surely, 0.5, against step 2, 0.6, or nothing, 0.3: even at a loss of one third.
    assert word(0.3) == 212
    assert word(0.4) == 101


def test_nothing_is_sent_where_nothing_fits(ladders: dict[str, Ladder], awgn: ChannelConfig) -> None:
    plan = adapt(ToldCode({1.0: 0.0}), awgn, 40, ladders, seen_only)
    assert plan == Plan({"visual": None, "audio": None}, 0.3)
    received = receive(ToldCode({1.0: 0.0}), plan, awgn, 40, ladders, seed=0)
    assert not received["visual"].arrived_N.any()
    assert not received["visual"].features_NPD.any()


def test_what_is_expected_is_what_arrives(ladders: dict[str, Ladder], awgn: ChannelConfig) -> None:
    code = ToldCode({1.0: 0.25})
    (visual,) = code.codewords(100, awgn)
    (audio,) = code.codewords(400, awgn)
    words = {"visual": visual, "audio": audio}
    received = receive(code, Plan(words, 0.0), awgn, 512, ladders, seed=1)
    for slot, fits in (("visual", np.ones(CLIPS, bool)), ("audio", np.arange(CLIPS) % 2 == 0)):
        arrived = received[slot].arrived_N
        assert not arrived[~fits].any()
        assert arrived[fits].mean() == pytest.approx(0.75, abs=0.1)
        tokens = received[slot].features_NPD
        assert not tokens[~arrived].any()
        assert (tokens[arrived] == (received[slot].step_N[arrived] + 1)[:, None, None]).all()
    happened = np.mean(
        [
            both_needed(1 if v else None, 1 if a else None)
            for v, a in zip(received["visual"].arrived_N, received["audio"].arrived_N, strict=True)
        ]
    )
    expected = expected_accuracy(code, words, awgn, ladders, both_needed)
    assert expected == pytest.approx(0.5 * 0.2 + 0.5 * (0.2 + 0.7 * 0.75**2))
    assert happened == pytest.approx(expected, abs=0.06)


def test_codewords_meet_the_gains_that_tokens_meet() -> None:
    config = ChannelConfig(model="rayleigh", fading="block", snr_db=3.0)
    for clip in range(5):
        snr_db, draws = meet(config, 512, clip, seed=7)
        channel = Channel(config, np.random.default_rng([7, clip]))
        x_TC = from_symbols(np.ones((16, 16), np.complex64))
        met = [channel.transmit(x_TC).effective_snr_db for _ in range(2)]
        np.testing.assert_allclose(snr_db, met, atol=1e-3)
        assert ((draws >= 0) & (draws < 1)).all()
    fast = ChannelConfig(model="rayleigh", fading="fast", snr_db=3.0)
    assert meet(fast, 512, 0, seed=7)[0].tolist() == [3.0, 3.0]


def test_a_worse_code_loses_all_that_a_better_one_loses(awgn: ChannelConfig) -> None:
    lost = []
    for loss in (0.1, 0.5):
        code = ToldCode({1.0: loss})
        (word,) = code.codewords(256, awgn)
        arrived = arrivals(code, {"visual": word, "audio": None}, awgn, 512, 300, seed=0)
        lost.append(~arrived["visual"])
        assert not arrived["audio"].any()
    assert (lost[1] | ~lost[0]).all()
    assert lost[0].sum() < lost[1].sum()


def test_a_ladder_is_built_once_and_only_for_its_clips(
    link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 1, 6, 10, 3), np.uint8)
    frames = np.tile(coarse.repeat(12, axis=2).repeat(12, axis=3), (1, 8, 1, 1, 1))
    pcm = np.asarray(rng.normal(0, 3000, (3, 64_000)), np.int16)
    split = Split(frames, pcm, (), (), ())
    steps = [JpegStep(1, 4, 10), JpegStep(8, 1, 95)]
    built = build_ladder(link, "visual", split, tmp_path, steps)
    assert built.clips == 3
    assert (built.bits_SN[0] < built.bits_SN[1]).all()
    assert built.worth_S[0] < built.worth_S[1] < 0
    intact = encode_media(link, "visual", frames)
    fine = torch.from_numpy(built.features[1].astype(np.float32))
    assert float((fine - intact).square().mean()) < 0.2 * float(intact.var())
    sounds = build_ladder(link, "audio", split, tmp_path, [OpusStep(6000, 1.0)], clips=2)
    assert sounds.clips == 2

    def refuse(*args: object) -> None:
        raise AssertionError("already there")

    monkeypatch.setattr(ladder_module, "through_jpeg", refuse)
    again = build_ladder(link, "visual", split, tmp_path, steps)
    assert (again.bits_SN == built.bits_SN).all()
    with pytest.raises(ConfigurationError, match="clips is 3, asked for 2"):
        build_ladder(link, "visual", split, tmp_path, steps, clips=2)
    with torch.no_grad():
        next(link.encoder("visual").parameters()).add_(1.0)
    with pytest.raises(ConfigurationError, match="encoders"):
        build_ladder(link, "visual", split, tmp_path, steps)
