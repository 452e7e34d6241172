from __future__ import annotations

import math

import numpy as np
import pytest

from device_agent.channel import ChannelConfig
from edge_server.errors import ConfigurationError
from edge_server.study.digital.quantised import (
    BITS_PER_REAL,
    FORMS,
    Form,
    Quantiser,
    adapt,
    receive,
    worthwhile_forms,
)
from tests.unit.edge_server.study.digital.conftest import ToldCode

#: Least distortion of a uniform quantiser for Gaussian reals (Max 1960, table II).
UNIFORM_DISTORTION = {1: 0.3634, 2: 0.1188, 3: 0.03744, 4: 0.01154}


@pytest.mark.parametrize("bits", UNIFORM_DISTORTION)
def test_distortion_is_max_s(bits: int) -> None:
    x = np.random.default_rng(0).standard_normal(200_000).astype(np.float32) * np.float32(0.5**0.5)
    quantiser = Quantiser.fit(x, bits)
    assert quantiser.distortion == pytest.approx(UNIFORM_DISTORTION[bits], rel=0.03)
    snr = 10 ** (quantiser.snr_db / 10)
    assert 1 / (1 + snr) == pytest.approx(quantiser.distortion)


@pytest.mark.parametrize("bits", BITS_PER_REAL)
def test_reals_come_back_within_half_a_cell(bits: int) -> None:
    quantiser = Quantiser(bits, clip=1.5)
    x = np.linspace(-1.5, 1.5, 1001, dtype=np.float32)
    cells = quantiser.quantise(x)
    assert (cells.min(), cells.max()) == (0, 2**bits - 1)
    assert np.abs(quantiser.restore(cells) - x).max() <= quantiser.step / 2 + 1e-6
    far = quantiser.restore(quantiser.quantise(np.array([-9.0, 9.0], np.float32)))
    assert far.tolist() == pytest.approx([-1.5 + quantiser.step / 2, 1.5 - quantiser.step / 2])


def test_more_bits_are_finer_and_refusals_name_what_is_wrong() -> None:
    x = np.random.default_rng(1).standard_normal((40, 8, 32)).astype(np.float32)
    fitted = [Quantiser.fit(x, bits) for bits in BITS_PER_REAL]
    assert [q.snr_db for q in fitted] == sorted(q.snr_db for q in fitted)
    assert fitted[-1].snr_db > 35
    with pytest.raises(ConfigurationError, match="bits is 9"):
        Quantiser.fit(x, 9)
    with pytest.raises(ConfigurationError, match="no tokens"):
        Quantiser.fit(x[:0], 2)


def finer_is_better(form: Form, visual: bool, audio: bool) -> float:
    alone = 0.1 * math.log2(form.token_length * form.bits_per_real + 1) / 8
    return 0.3 + (0.2 + alone) * visual + (0.1 + alone) * audio


def test_forms_that_fit() -> None:
    assert worthwhile_forms(63, 32) == [Form(1, 1)]
    assert worthwhile_forms(10**6, 32) == list(FORMS)


def test_the_plan_holds_the_tokens_and_the_most_of_them(awgn: ChannelConfig) -> None:
    code = ToldCode({0.5: 0.0, 1.0: 0.15, 2.0: 0.9})
    plan = adapt(code, awgn, 512, 32, finer_is_better)
    assert plan.form is not None
    words = [plan.words["visual"], plan.words["audio"]]
    for word in words:
        assert word is not None
        assert word.channel_uses == 256
        assert word.bits >= plan.form.bits(32)
        assert word.bits == 128  # what fits here surely arrives
    assert plan.form.bits(32) == 128
    expected = finer_is_better(plan.form, True, True)
    assert plan.expected == pytest.approx(expected)
    assert plan.to_json()["form"] == {
        "token_length": plan.form.token_length,
        "bits_per_real": plan.form.bits_per_real,
    }


def test_what_helps_alone_is_sent_alone(awgn: ChannelConfig) -> None:
    def picture_only(form: Form, visual: bool, audio: bool) -> float:
        return 0.3 + 0.01 * form.bits_per_real * form.token_length * visual

    plan = adapt(ToldCode({1.0: 0.0}), awgn, 64, 32, picture_only)
    assert plan.form is not None
    assert plan.form.bits(32) == 64
    assert plan.words["visual"] is not None
    assert plan.words["audio"] is None


def test_nothing_is_sent_where_nothing_fits(awgn: ChannelConfig) -> None:
    plan = adapt(ToldCode({0.1: 0.0}), awgn, 100, 32, finer_is_better)
    assert plan.form is None
    assert plan.expected == pytest.approx(0.3)
    assert plan.to_json()["form"] is None


def test_tokens_arrive_quantised_or_not_at_all(awgn: ChannelConfig) -> None:
    code = ToldCode({1.0: 0.3})
    plan = adapt(code, awgn, 512, 32, finer_is_better)
    assert plan.form is not None
    rng = np.random.default_rng(0)
    shape = (400, plan.form.token_length, 32)
    sent = {
        slot: np.asarray(rng.standard_normal(shape) * 0.5**0.5, np.float32) for slot in ("visual", "audio")
    }
    quantisers = {slot: Quantiser.fit(x, plan.form.bits_per_real) for slot, x in sent.items()}
    received = receive(code, plan, awgn, 512, sent, quantisers, seed=0)
    for slot, tokens in received.items():
        assert tokens.arrived_N.mean() == pytest.approx(0.7, abs=0.1)
        assert not tokens.x_NTC[~tokens.arrived_N].any()
        error = np.square(tokens.x_NTC - sent[slot])[tokens.arrived_N].mean() / np.square(sent[slot]).mean()
        assert error == pytest.approx(quantisers[slot].distortion, rel=0.05)
        assert tokens.snr_db == quantisers[slot].snr_db
    with pytest.raises(ConfigurationError, match="visual: 0 tokens"):
        receive(code, plan, awgn, 512, {slot: x[:, :0] for slot, x in sent.items()}, quantisers, seed=0)
