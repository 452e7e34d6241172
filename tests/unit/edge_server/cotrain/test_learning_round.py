"""Rounds over real streams: devices learn, come late, are killed, lag behind; edges are killed and go on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from device_agent.bundle.bundle import Bundle
from device_agent.cotrain.learner import Learner
from edge_server.cotrain.plan import Plan
from edge_server.model.link import Link
from tests.cotraining import Edge, MadeUp, device, learner

PLAN = Plan(
    rounds=30,
    min_devices=3,
    clips=4,
    learning_rate=3e-3,
    warmup_steps=3,
    token_lengths=(4, 8),
    gradient="float32",
    payload="float32",
    deadline_s=30.0,
)
NAMES = ("hall", "yard", "roof")


def devices(link: Link, bundle: Bundle, folder: Path, names: tuple[str, ...] = NAMES) -> dict[str, Learner]:
    return {
        name: learner(bundle, MadeUp(link, seed), name, folder / name) for seed, name in enumerate(names, 1)
    }


async def hold(link: Link, plan: Plan, bundle: Bundle, folder: Path) -> tuple[Edge, dict[str, Learner]]:
    ones = devices(link, bundle, folder)
    async with Edge(link, plan, bundle, folder / "edge") as edge:
        ended = await asyncio.gather(*(device(one, edge.door) for one in ones.values()))
        assert ended == ["done"] * len(ones)
        assert await edge.done() == "done"
    return edge, ones


async def test_devices_and_edge_learn_together(link: Link, bundle: Bundle, tmp_path: Path) -> None:
    first = {name: each.clone() for name, each in link.link_parameters().items()}
    edge, ones = await hold(link, PLAN, bundle, tmp_path)
    for name, one in ones.items():
        curve = [loss for _, loss, _ in edge.learning.journal.curves[name]]
        assert np.mean(curve[-5:]) < 0.7 * np.mean(curve[:5])
        assert (one.learned.applied, one.learned.skipped, one.learned.refused) == (30, 0, 0)
        examined = edge.learning.journal.examined[name]
        assert examined["after"]["accuracy"] > examined["before"]["accuracy"]
        assert edge.state.head(name).is_file()
    moved = link.link_parameters()
    slot = link.slots[0]
    assert not torch.equal(moved[f"receivers.{slot}.inner.weight"], first[f"receivers.{slot}.inner.weight"])
    # Heads are the devices' business: the edge's own stay as they were.
    assert torch.equal(moved[f"heads.{slot}.inner.weight"], first[f"heads.{slot}.inner.weight"])
    heads = [one.heads[slot].weights["inner.weight"] for one in ones.values()]
    assert not np.array_equal(heads[0], heads[1])


async def test_shared_heads_end_as_one(link: Link, bundle: Bundle, tmp_path: Path) -> None:
    plan = Plan(
        **{**PLAN.to_json(), "heads": "shared", "average_every": 4, "rounds": 10, "token_lengths": (4,)}
    )
    _, ones = await hold(link, plan, bundle, tmp_path)
    for slot in link.slots:
        for name in bundle_weights(ones, slot):
            first, *others = (one.heads[slot].weights[name] for one in ones.values())
            assert all(np.array_equal(first, other) for other in others)


async def test_heads_go_back_a_part_of_their_way_on_both_sides(
    link: Link, bundle: Bundle, tmp_path: Path
) -> None:
    found = {}
    for share in (0.0, 0.5):
        link.save(tmp_path / "model")
        plan = Plan(**{**PLAN.to_json(), "rounds": 6, "token_lengths": (4,), "keep_heads": share})
        edge, ones = await hold(Link.load(tmp_path / "model"), plan, bundle, tmp_path / str(share))
        slot = link.slots[0]
        found[share] = ones["hall"].heads[slot].weights["inner.weight"]
        np.testing.assert_array_equal(edge.learning.heads["hall"][slot]["inner.weight"], found[share])
    first = devices(link, bundle, tmp_path / "x")["hall"].heads[slot].weights["inner.weight"]
    np.testing.assert_allclose(found[0.5], 0.5 * (found[0.0] + first), atol=1e-4)
    assert not np.allclose(found[0.5], found[0.0], atol=1e-4)


def bundle_weights(ones: dict[str, Learner], slot: str) -> list[str]:
    return list(next(iter(ones.values())).heads[slot].weights)


@pytest.mark.parametrize(("heads", "edge_learns"), [("frozen", True), ("personal", False)])
async def test_what_is_frozen_stays(
    link: Link, bundle: Bundle, tmp_path: Path, heads: str, edge_learns: bool
) -> None:
    plan = Plan(
        **{**PLAN.to_json(), "heads": heads, "edge_learns": edge_learns, "rounds": 6, "token_lengths": (4,)}
    )
    slot = link.slots[0]
    received = link.link_parameters()[f"receivers.{slot}.inner.weight"]
    before, sent = (
        received.detach().clone(),
        devices(link, bundle, tmp_path / "x")["hall"].heads[slot].weights,
    )
    _, ones = await hold(link, plan, bundle, tmp_path)
    assert torch.equal(received, before) != edge_learns
    same = np.array_equal(ones["hall"].heads[slot].weights["outer.weight"], sent["outer.weight"])
    assert same == (heads == "frozen")


async def test_a_device_that_is_killed_comes_back_with_what_it_learned(
    link: Link, bundle: Bundle, tmp_path: Path
) -> None:
    ones = devices(link, bundle, tmp_path)
    plan = Plan(**{**PLAN.to_json(), "token_lengths": (4,)})
    async with Edge(link, plan, bundle, tmp_path / "edge") as edge:
        others = [asyncio.create_task(device(ones[name], edge.door)) for name in NAMES[1:]]
        killed = asyncio.Event()

        def at(progress: object) -> None:
            if ones["hall"].learned.applied == 8:
                ones["hall"].save()
                killed.set()

        first = asyncio.create_task(device(ones["hall"], edge.door, at))
        await killed.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        again = devices(link, bundle, tmp_path)["hall"]
        assert again.round_id == "round"
        assert again.learned.applied >= 8
        slot = link.slots[0]
        np.testing.assert_array_equal(
            again.heads[slot].weights["inner.weight"], ones["hall"].heads[slot].weights["inner.weight"]
        )
        assert await device(again, edge.door) == "done"
        await asyncio.gather(*others)
        counters = edge.learning.journal.counters["hall"]
        assert counters.joins == 2
        # A step of the edge's that it was part of moved its heads once, or not at all.
        assert again.learned.applied <= counters.steps <= 30


async def test_an_edge_that_is_killed_goes_on_at_its_step(link: Link, bundle: Bundle, tmp_path: Path) -> None:
    ones = devices(link, bundle, tmp_path)
    plan = Plan(**{**PLAN.to_json(), "token_lengths": (4,)})
    edge = Edge(link, plan, bundle, tmp_path / "edge")
    async with edge:
        reached = asyncio.Event()

        def at(progress: object) -> None:
            if ones["yard"].learned.applied >= 10:
                reached.set()

        tasks = [asyncio.create_task(device(one, edge.door, at)) for one in ones.values()]
        await reached.wait()
    step = edge.half.step
    assert 10 <= step < 30
    other = Edge(link, plan, bundle, tmp_path / "edge")
    assert other.half.step == step
    assert other.half.watch.first_medians == edge.half.watch.first_medians != []
    other._port = edge._port
    async with other:
        assert await asyncio.gather(*tasks) == ["done"] * 3
    steps = [
        json.loads(line)["step"] for line in (tmp_path / "edge" / "curves.jsonl").read_text().splitlines()
    ]
    assert sorted(set(steps)) == list(range(30))
    assert len(steps) == 30
    for one in ones.values():
        assert one.learned.applied + one.learned.skipped <= 30


async def test_a_straggler_is_left_and_taken_again(link: Link, bundle: Bundle, tmp_path: Path) -> None:
    plan = Plan(
        **{**PLAN.to_json(), "deadline_s": 0.4, "patience": 2, "token_lengths": (4,), "min_devices": 2}
    )
    ones = devices(link, bundle, tmp_path)
    slow = ones["roof"]
    usual = slow.batch

    def late(step):  # type: ignore[no-untyped-def]
        if 2 <= step.step < 20:
            released.wait(5.0)
        return usual(step)

    import threading

    released = threading.Event()
    slow.batch = late  # type: ignore[method-assign]
    async with Edge(link, plan, bundle, tmp_path / "edge") as edge:

        def at(progress: object) -> None:
            if ones["hall"].learned.step >= 15:
                released.set()

        tasks = [device(one, edge.door, at) for one in ones.values()]
        assert await asyncio.gather(*tasks) == ["done"] * 3
        counters = edge.learning.journal.counters
    assert counters["hall"].missed == 0
    assert counters["roof"].missed >= 2
    assert counters["roof"].late >= 1
    assert counters["roof"].steps >= 3
    assert ones["roof"].learned.applied <= counters["roof"].steps
