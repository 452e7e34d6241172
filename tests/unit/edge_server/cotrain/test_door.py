"""Who may take part, and what becomes of what cannot be used."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest

from device_agent.bundle.bundle import Bundle
from device_agent.channel import ChannelConfig
from device_agent.errors import BundleMismatchError, PermissionDeniedError
from edge_server.cotrain.batches import BatchError, Bounds, read_batch
from edge_server.cotrain.plan import Plan
from edge_server.errors import ConfigurationError
from edge_server.model.link import Link
from protos.tokenlink.v1 import cotrain_pb2 as cpb
from protos.tokenlink.v1.cotrain_pb2_grpc import CoTrainingStub
from tests.cotraining import Edge, MadeUp, device, learner
from tests.waiting import until

PLAN = Plan(rounds=5, min_devices=1, clips=2, token_lengths=(4,), payload="float32")


async def test_another_bundles_device_is_told_so(link: Link, bundle: Bundle, tmp_path: Path) -> None:
    one = learner(bundle, MadeUp(link, 1), "hall", tmp_path / "hall")
    one.bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"bundle_hash": "ab" * 32}))
    async with Edge(link, PLAN, bundle, tmp_path / "edge") as edge:
        with pytest.raises(BundleMismatchError, match=bundle.hash):
            await device(one, edge.door)


async def test_a_named_device_stays_out(link: Link, bundle: Bundle, tmp_path: Path) -> None:
    one = learner(bundle, MadeUp(link, 1), "hall", tmp_path / "hall")
    async with Edge(link, PLAN, bundle, tmp_path / "edge") as edge:
        edge.half.watch.named["hall"] = "it pulls against the others"
        with pytest.raises(PermissionDeniedError, match="pulls against"):
            await device(one, edge.door)


@pytest.mark.parametrize(
    "first",
    [cpb.LearnUplink(batch=cpb.Batch()), cpb.LearnUplink(join=cpb.Join(device_id="a")), cpb.LearnUplink()],
)
async def test_a_stream_begins_with_a_good_join(
    link: Link, bundle: Bundle, tmp_path: Path, first: cpb.LearnUplink
) -> None:
    async with Edge(link, PLAN, bundle, tmp_path / "edge") as edge, edge.door.channel() as channel:
        call = CoTrainingStub(channel).Learn()
        await call.write(first)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call.read()
        assert await call.code() in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.FAILED_PRECONDITION,
        )


async def test_rubbish_is_counted_and_ends_the_stream_at_last(
    link: Link, bundle: Bundle, tmp_path: Path
) -> None:
    one = learner(bundle, MadeUp(link, 1), "hall", tmp_path / "hall")
    one.batch = lambda step: cpb.Batch(step=step.step, purpose=step.purpose)  # type: ignore[method-assign]
    async with Edge(link, PLAN, bundle, tmp_path / "edge") as edge:
        task = asyncio.create_task(device(one, edge.door))
        counters = edge.learning.journal.counters
        await until(lambda: "hall" in counters and counters["hall"].refused > 0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "hall" not in edge.learning.journal.examined


def bounds(link: Link) -> Bounds:
    return Bounds(link.config.channel_dim, 32, 4, 500)


def test_every_field_of_a_batch_is_looked_at(link: Link, bundle: Bundle, tmp_path: Path) -> None:
    one = learner(bundle, MadeUp(link, 1), "hall", tmp_path)
    one.joined(PLAN.joined("round"))
    step = cpb.Step(step=1, purpose=cpb.PURPOSE_TRAIN, clips=2, questions=1)
    good = one.batch(step)
    assert len(read_batch(good, bounds(link)).asked) == 2

    def broken(change: object) -> cpb.Batch:
        made = cpb.Batch()
        made.CopyFrom(good)
        change(made.examples[0])  # type: ignore[operator]
        return made

    cases = {
        r"examples: 0": lambda: cpb.Batch(),
        r"payloads: is empty": lambda: broken(lambda e: e.ClearField("payloads")),
        r"payloads\[0\].crc32": lambda: broken(lambda e: setattr(e.payloads[0], "crc32", 1)),
        r"one block of each slot": lambda: broken(lambda e: e.payloads.append(e.payloads[1])),
        r"asked: 0": lambda: broken(lambda e: e.ClearField("asked")),
        r"answer_ids: 0": lambda: broken(lambda e: e.asked[0].ClearField("answer_ids")),
        r"the vocabulary has 500": lambda: broken(lambda e: e.asked[0].question_ids.append(500)),
        r"examples: 6": lambda: cpb.Batch(examples=list(good.examples) * 3),
    }
    for words, make in cases.items():
        with pytest.raises(BatchError, match=words):
            read_batch(make(), bounds(link))


def test_a_device_tells_the_snr_of_each_token_where_it_is_set(
    link: Link, bundle: Bundle, tmp_path: Path
) -> None:
    channel = ChannelConfig(model="tdl_c", speed_kmh=100.0, snr_per="token")
    one = learner(bundle, MadeUp(link, 1), "hall", tmp_path, channel)
    one.joined(PLAN.joined("round"))
    good = one.batch(cpb.Step(step=1, purpose=cpb.PURPOSE_TRAIN, clips=2, questions=1))
    told = {slot: each.told_db_BT for slot, each in read_batch(good, bounds(link)).slots.items()}
    for slot, told_db_BT in told.items():
        assert told_db_BT.shape == (2, 32), slot
        assert len(set(told_db_BT.ravel().tolist())) > 2, slot
    good.examples[0].payloads[0].channel.token_snr = bytes(3)
    with pytest.raises(BatchError, match=r"payloads\[0\].channel.token_snr: is 3 bytes"):
        read_batch(good, bounds(link))


def test_gradients_are_checked_by_the_device_and_count_once(
    link: Link, bundle: Bundle, tmp_path: Path
) -> None:
    one = learner(bundle, MadeUp(link, 1), "hall", tmp_path)
    one.joined(PLAN.joined("round"))
    step = cpb.Step(step=1, purpose=cpb.PURPOSE_TRAIN, clips=2, questions=1, learning_rate=1e-3)
    one.batch(step)
    slot = link.slots[0]
    before = one.heads[slot].weights["outer.weight"].copy()
    assert not one.apply(cpb.BatchGradient(step=1))
    assert (before == one.heads[slot].weights["outer.weight"]).all()
    assert one.learned.refused == 1
    assert not one.apply(cpb.BatchGradient(step=1))  # it is of no batch now
    assert one.learned.refused == 2
    assert one.learned.applied == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("rounds", 0), ("heads", "mine"), ("gradient", "int4"), ("deadline_s", 0.0), ("token_lengths", ())],
)
def test_a_plan_that_cannot_be_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=field):
        Plan(**{field: value})  # type: ignore[arg-type]


def test_a_plan_comes_back_from_json() -> None:
    plan = Plan(rounds=7, token_lengths=(4, 8))
    assert Plan.from_json(plan.to_json()) == plan
    with pytest.raises(ConfigurationError, match="nothing would learn"):
        Plan(heads="frozen", edge_learns=False)
