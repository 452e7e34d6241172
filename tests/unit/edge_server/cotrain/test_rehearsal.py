"""Each device's gradient from one pass, and what is rehearsed beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from device_agent.cotrain.examples import Asked
from edge_server.cotrain import one_pass
from edge_server.cotrain.asking import of_missed
from edge_server.cotrain.batches import DeviceBatch, SlotTokens
from edge_server.cotrain.members import Latecomers, Wanted
from edge_server.cotrain.model_half import ModelHalf
from edge_server.cotrain.one_pass import Part, gradients_apart, packed
from edge_server.cotrain.plan import Plan
from edge_server.cotrain.rehearsal import Rehearsal, some_clips
from edge_server.data.annotations import Caption
from edge_server.data.soundstage.dataset import generate, load_split
from edge_server.errors import ConfigurationError, DatasetError
from edge_server.model.link import Link
from edge_server.training.clips import EncodedClips
from edge_server.training.split import TrainingSplit
from edge_server.training.teacher_forcing import answer_logits
from protos.tokenlink.v1 import cotrain_pb2 as cpb

PLAN = Plan(rounds=60, learning_rate=3e-3, warmup_steps=3, token_lengths=(4,), rehearse_clips=6)


def batch(link: Link, seed: int, clips: int, questions: int = 1, length: int = 4) -> DeviceBatch:
    rng = np.random.default_rng(seed)
    slots = {
        slot: SlotTokens(
            tuple(range(clips)),
            rng.standard_normal((clips, length, link.config.channel_dim)).astype(np.float32),
            np.full((clips, length), 10.0, np.float32),
        )
        for slot in link.slots
    }
    asked = [
        [Asked((20, 21), tuple(map(int, rng.integers(30, 60, 1 + row % 2)))) for _ in range(questions)]
        for row in range(clips)
    ]
    return DeviceBatch(slots, asked, 0, seed)


def alone(link: Link, given: DeviceBatch, learned: dict[str, nn.Parameter]) -> Part:
    """As it is computed without any care for other devices."""
    x = {slot: torch.from_numpy(each.x_BTC).requires_grad_() for slot, each in given.slots.items()}
    received = {
        slot: link.receiver(slot)(x[slot], torch.from_numpy(each.told_db_BT))
        for slot, each in given.slots.items()
    }
    answers = answer_logits(link, packed(link, given, received))
    loss = torch.nn.functional.cross_entropy(answers.logits_KV, answers.targets_K)
    found = torch.autograd.grad(loss, [*x.values(), *learned.values()])
    by_slot = {slot: g.flatten(0, 1).numpy() for slot, g in zip(x, found, strict=False)}
    return Part(loss.item(), 0.0, by_slot, torch.cat([g.flatten() for g in found[len(x) :]]))


def close(found: Part, expected: Part) -> None:
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.flat is not None
    assert expected.flat is not None
    torch.testing.assert_close(found.flat, expected.flat, rtol=1e-4, atol=1e-6)
    for slot, gradient in expected.by_slot.items():
        np.testing.assert_allclose(found.by_slot[slot], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("at_once", [3, 100])
def test_one_pass_gives_each_device_its_own_gradient(
    link: Link, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(one_pass, "_ROWS_AT_ONCE", at_once)
    learned = ModelHalf(link, PLAN).parameters
    batches = [batch(link, 1, 2), batch(link, 2, 3, questions=2, length=8), batch(link, 3, 1)]
    parts = gradients_apart(link, batches, learned, heads_learn=True)
    for found, given in zip(parts, batches, strict=True):
        close(found, alone(link, given, learned))
    # Afterwards the model is as it was: LoRA is one for all rows again.
    close(gradients_apart(link, batches[:1], learned, heads_learn=True)[0], alone(link, batches[0], learned))


def test_what_is_frozen_gets_no_gradient(link: Link) -> None:
    learned = ModelHalf(link, PLAN).parameters
    (part,) = gradients_apart(link, [batch(link, 1, 2)], learned, heads_learn=False)
    assert not part.by_slot
    half = ModelHalf(link, replace(PLAN, edge_learns=False))
    (part,) = gradients_apart(half.link, [batch(link, 1, 2)], {}, heads_learn=True)
    assert part.flat is None
    assert all(np.abs(g).max() > 0.0 for g in part.by_slot.values())


def test_a_device_that_sends_what_is_no_number_spoils_nobody_elses_gradient(link: Link) -> None:
    learned = ModelHalf(link, PLAN).parameters
    bad, good = batch(link, 1, 2), batch(link, 2, 2)
    next(iter(bad.slots.values())).x_BTC[0, 0, 0] = np.nan
    found = gradients_apart(link, [bad, good], learned, heads_learn=True)
    assert not np.isfinite(found[0].loss)
    close(found[1], alone(link, good, learned))


@dataclass(frozen=True)
class Old:
    """Clips whose features tell the answer."""

    kinds: Sequence[int]

    def __len__(self) -> int:
        return len(self.kinds)

    def has(self, clip: int, slot: str) -> bool:
        return clip > 0 or slot == "visual"

    def questions(self, clip: int, most: int, rng: np.random.Generator) -> list[tuple[str, str]]:
        return [("What is it?", ("drum", "flute")[self.kinds[clip]])]

    def encode(self, link: Link, slot: str, begin: int, end: int) -> torch.Tensor:
        raise NotImplementedError

    def caption(self, clip: int) -> Caption:
        raise NotImplementedError

    def dictated(self, clip: int, slot: str) -> Sequence[str]:
        raise NotImplementedError

    def description(self, clip: int, rng: np.random.Generator) -> str:
        raise NotImplementedError


def rehearsal(link: Link, plan: Plan) -> Rehearsal:
    kinds = [0, 1] * 8
    rng = np.random.default_rng(0)
    features = {}
    for slot in link.slots:
        encoder = link.encoder(slot)
        of_kind = 2.0 * rng.standard_normal((2, 1, encoder.hidden_size))
        features[slot] = np.tile(of_kind[kinds], (1, encoder.patches, 1)).astype(np.float16)
    clips: EncodedClips[TrainingSplit] = EncodedClips(features, Old(kinds))
    return Rehearsal(link, clips, plan, {"data": "old"})


def test_what_is_rehearsed_follows_from_seed_and_step(link: Link) -> None:
    first, again, other = (rehearsal(link, PLAN).batch(step) for step in (3, 3, 4))
    for slot, each in first.slots.items():
        np.testing.assert_array_equal(each.x_BTC, again.slots[slot].x_BTC)
        assert not np.array_equal(each.x_BTC, other.slots[slot].x_BTC)
    assert len(first.asked) == 6
    assert first.asked == again.asked
    told = rehearsal(link, replace(PLAN, rehearse_clips=64)).batch(0)
    # Clip 0 makes no sound.
    assert [len(told.slots[slot].rows) for slot in ("visual", "audio")] == [16, 15]


def test_what_is_rehearsed_is_not_forgotten(link: Link, tmp_path: Path) -> None:
    link.save(tmp_path)
    lost = {}
    for share in (0.0, 0.5):
        fresh = Link.load(tmp_path)
        plan = replace(PLAN, rehearse_share=share)
        half = ModelHalf(fresh, plan, rehearsal=rehearsal(fresh, plan))
        for step in range(plan.rounds):  # devices to whom all answers are the same
            half.learn({"a": batch(fresh, 100 + step, 4), "b": batch(fresh, 200 + step, 4)})
        old = rehearsal(fresh, plan).batch(1000)
        (part,) = gradients_apart(fresh, [old], half.parameters, heads_learn=False)
        lost[share] = part.loss
    assert lost[0.5] < 0.5 * lost[0.0]


def test_a_data_set_is_rehearsed(link: Link, tmp_path: Path) -> None:
    generate(tmp_path / "data", "train", 6, seed=1, workers=1)
    found = Rehearsal.of(link, tmp_path / "data", tmp_path / "cache", PLAN)
    assert found.told == {"data": "data", "clips": 6}
    given = found.batch(0)
    assert len(given.asked) == 6
    assert all(1 <= len(each) <= PLAN.rehearse_questions for each in given.asked)
    part = some_clips(load_split(tmp_path / "data", "train"), 2, 5)
    assert (len(part.frames), len(part.pcm), len(part.scenes)) == (3, 3, 3)
    with pytest.raises(DatasetError, match="no finished split"):
        Rehearsal.of(link, tmp_path, tmp_path / "other", PLAN)


def test_a_share_is_less_than_all() -> None:
    with pytest.raises(ConfigurationError, match=r"rehearse_share is 1\.0; at least 0, less than 1"):
        Plan(rehearse_share=1.0)


def test_what_came_out_is_pulled_back(link: Link) -> None:
    half = ModelHalf(link, PLAN)
    first = {name: each.detach().clone() for name, each in half.parameters.items()}
    for step in range(4):
        half.learn({"a": batch(link, step, 4)})
    last = {name: each.detach().clone() for name, each in half.parameters.items()}
    half.pull_back(0.25)
    for name, each in half.parameters.items():
        torch.testing.assert_close(each, 0.75 * last[name] + 0.25 * first[name])
    assert any(not torch.equal(last[name], first[name]) for name in first)


def test_a_late_batch_counts_once_and_not_for_ever(link: Link) -> None:
    late = Latecomers(3)

    def closing(step: int, *in_time: str) -> list[str]:
        wanted = Wanted(step, cpb.PURPOSE_TRAIN, {name: of_step(step) for name in in_time})
        late.add_to(wanted, {"slow", "quick"})
        return [f"{name} {each.step}" for name, each in wanted.batches.items()]

    def of_step(step: int) -> DeviceBatch:
        return DeviceBatch({}, [], 0, step)

    late.keep("slow", of_step(2))
    late.keep("gone", of_step(2))
    assert late.missed("slow", 4) == 0  # nothing of it has counted yet
    assert closing(4, "quick") == ["quick 4", "slow 2"]
    assert (late.missed("slow", 5), late.missed("quick", 5)) == (2, 0)
    assert closing(5, "quick") == ["quick 5"]
    late.keep("slow", of_step(2))  # again
    assert closing(6, "quick") == ["quick 6"]
    late.keep("slow", of_step(4))
    assert closing(8, "quick") == ["quick 8"]  # too late
    late.keep("slow", of_step(7))
    assert closing(9, "quick", "slow") == ["quick 9", "slow 9"]  # it has sent something newer


def test_who_missed_steps_is_asked_for_more_and_learns_as_many_times_as_fast() -> None:
    all_are_asked = cpb.Step(step=9, purpose=cpb.PURPOSE_TRAIN, clips=2, learning_rate=0.5)
    for missed, times in ((0, 1), (1, 2), (2, 3), (9, 3)):
        asked = of_missed(all_are_asked, missed, most=3)
        assert (asked.clips, asked.learning_rate, asked.step) == (2 * times, 0.5 * times, 9)
    assert (all_are_asked.clips, all_are_asked.learning_rate) == (2, 0.5)
    examined = cpb.Step(step=9, purpose=cpb.PURPOSE_EXAMINE_AFTER, clips=64)
    assert of_missed(examined, 9, most=3).clips == 64


def test_what_a_device_was_asked_for_is_known_over_its_streams_for_as_long_as_it_counts() -> None:
    late = Latecomers(20)
    for step in range(40):
        late.ask("slow", step, clips=2 * step)
    assert [late.clips("slow", step) for step in (18, 19, 39)] == [0, 38, 78]
    assert late.clips("quick", 39) == 0
    late.ask("slow", 39, clips=4)  # asked again
    assert (late.clips("slow", 38), late.clips("slow", 39)) == (76, 4)
