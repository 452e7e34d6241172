"""Heads that begin aligned: what they see of another world has the statistics of what they are used to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_agent.bundle.bundle import Bundle
from device_agent.cotrain.alignment import UsualFeatures, aligned
from device_agent.errors import UplinkError
from edge_server.cotrain.model_half import ModelHalf
from edge_server.cotrain.plan import Plan
from edge_server.errors import ConfigurationError
from edge_server.model.link import Link
from protos.tokenlink.v1 import cotrain_pb2 as cpb
from tests.cotraining import Edge, MadeUp, device, learner
from tests.unit.edge_server.cotrain.test_rehearsal import rehearsal

PLAN = Plan(rounds=2, min_devices=1, clips=2, token_lengths=(4,), align=1.0)


def usual_of(link: Link, slot: str) -> UsualFeatures:
    encoder = link.encoder(slot)
    return UsualFeatures.read(rehearsal(link, PLAN).usual()[slot], encoder.patches, encoder.hidden_size)


def test_what_is_usual_is_what_heads_get_of_old_clips(link: Link) -> None:
    old = rehearsal(link, PLAN)
    for slot in link.slots:
        usual = usual_of(link, slot)
        assert len(usual.selection_TP) == 4
        # Clip 0 makes no sound.
        rows = np.arange(0 if slot == "visual" else 1, 16)
        seen = np.concatenate([usual.normalised(x.numpy()) for x in old._clips.take(slot, rows).float()])
        np.testing.assert_allclose(seen.mean(0), usual.mean_D, atol=1e-4)
        np.testing.assert_allclose(seen.std(0), usual.deviation_D, atol=1e-4)


def test_another_world_is_seen_with_mean_and_deviation_as_usual(link: Link) -> None:
    rng = np.random.default_rng(1)
    usual = usual_of(link, "visual")
    patches, width = usual.selection_TP.shape[1], len(usual.mean_D)
    others = [
        (3.0 * rng.standard_normal((patches, width)) + rng.standard_normal(width)).astype(np.float32)
        for _ in range(20)
    ]
    weights = {
        "norm.weight": rng.uniform(0.5, 2.0, width).astype(np.float32),
        "norm.bias": rng.standard_normal(width).astype(np.float32),
        "outer.weight": rng.standard_normal((3, width)).astype(np.float32),
    }
    wide = replace(usual, deviation_D=rng.uniform(0.3, 3.0, width).astype(np.float32))
    made = aligned(weights, others, wide, 1.0)
    seen = np.concatenate([wide.normalised(each) for each in others])
    after = seen * made["norm.weight"] + made["norm.bias"]
    np.testing.assert_allclose(
        after.mean(0), wide.mean_D * weights["norm.weight"] + weights["norm.bias"], atol=1e-4
    )
    np.testing.assert_allclose(after.std(0), wide.deviation_D * weights["norm.weight"], rtol=1e-3)
    assert (made["outer.weight"] == weights["outer.weight"]).all()
    for name, each in aligned(weights, others, wide, 0.0).items():
        np.testing.assert_allclose(each, weights[name], atol=1e-5)


def test_a_learner_begins_a_round_aligned_and_goes_on_with_what_it_learned(
    link: Link, bundle: Bundle, tmp_path: Path
) -> None:
    one = learner(bundle, MadeUp(link, 1), "hall", tmp_path)
    first = {slot: head.weights["norm.bias"].copy() for slot, head in one.heads.items()}
    joined = PLAN.joined("round", rehearsal(link, PLAN).usual())
    one.joined(joined)
    begun = {slot: head.weights["norm.bias"].copy() for slot, head in one.heads.items()}
    assert all((begun[slot] != first[slot]).any() for slot in first)
    one.save()
    again = learner(bundle, MadeUp(link, 1), "hall", tmp_path)
    again.joined(joined)
    assert all((again.heads[slot].weights["norm.bias"] == begun[slot]).all() for slot in first)
    # Heads that are averaged, or do not learn, are nobody's own.
    assert not replace(PLAN, heads="shared").joined("round", rehearsal(link, PLAN).usual()).usual
    again.joined(PLAN.joined("another"))
    assert all((again.heads[slot].weights["norm.bias"] == first[slot]).all() for slot in first)


async def test_the_edge_tells_devices_what_is_usual(link: Link, bundle: Bundle, tmp_path: Path) -> None:
    one = learner(bundle, MadeUp(link, 1), "hall", tmp_path / "hall")
    first = {slot: head.weights["norm.weight"].copy() for slot, head in one.heads.items()}
    plan = replace(PLAN, learning_rate=1e-6)
    async with Edge(link, plan, bundle, tmp_path / "edge") as edge:
        edge.half.usual = ModelHalf(link, plan, rehearsal=rehearsal(link, plan)).usual
        assert await device(one, edge.door) == "done"
    expected = rehearsal(link, plan).usual()
    for slot, head in one.heads.items():
        usual = UsualFeatures.read(expected[slot], *head.features_shape)
        seen = [one._features(each.clip).by_slot[slot] for each in one.examples.train]
        bundled = {"norm.weight": first[slot], "norm.bias": np.zeros_like(first[slot])}
        begun = aligned(bundled, seen, usual, 1.0)["norm.weight"]
        np.testing.assert_allclose(head.weights["norm.weight"], begun, atol=1e-4)
        assert np.abs(begun - first[slot]).max() > 1e-2


def test_what_the_edge_tells_is_looked_at(link: Link) -> None:
    good = rehearsal(link, PLAN).usual()["visual"]
    encoder = link.encoder("visual")

    def broken(**changed: object) -> cpb.UsualFeatures:
        made = cpb.UsualFeatures()
        made.CopyFrom(good)
        for name, value in changed.items():
            made.ClearField(name)
            if isinstance(value, list):
                getattr(made, name).extend(value)
            elif value is not None:
                setattr(made, name, value)
        return made

    cases = {
        "usual.selection has 5 bytes; 4 x": broken(selection=b"12345"),
        "usual.selection has 0 bytes": broken(selection=None, token_length=None),
        "usual.mean has 1 features": broken(mean=[1.0]),
        "usual.deviation has 0 features": broken(deviation=None),
        "not all of it is finite": broken(mean=[float("nan")] * encoder.hidden_size),
    }
    for words, told in cases.items():
        with pytest.raises(UplinkError, match=words):
            UsualFeatures.read(told, encoder.patches, encoder.hidden_size)


def test_it_goes_from_not_at_all_to_wholly() -> None:
    with pytest.raises(ConfigurationError, match=r"align is 1\.5; 0 to 1"):
        Plan(align=1.5)
