"""One co-training from start to end, over gRPC or in one process, with faults or without, and its outcome.

Over gRPC everything is the product's own: learners with their ONNX graphs, the service, the round. In one
process the same recipe runs with torch alone: heads under autograd, torch's AdamW, no message, no codec.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from device_agent.bundle.bundle import Bundle
from device_agent.channel import Channel, ChannelConfig
from device_agent.cotrain.client import Door, take_part
from device_agent.cotrain.examples import Asked, Examples
from device_agent.cotrain.learner import Learner
from device_agent.uplink.backoff import Backoff
from edge_server.cotrain.batches import Bounds, DeviceBatch, SlotTokens, read_batch
from edge_server.cotrain.learning_round import LearningRound
from edge_server.cotrain.model_half import ModelHalf
from edge_server.cotrain.plan import Plan
from edge_server.cotrain.service import CoTrainingServer, CoTrainingService
from edge_server.cotrain.state import RoundState
from edge_server.cotrain.weights_of_bundles import shapes_of
from edge_server.model.head_gradient import WEIGHTS
from edge_server.model.link import Link
from edge_server.study.cotrain.torch_device import TorchDevice
from edge_server.study.cotrain.world import UNSHIFTED, Unseen, World, Worlds
from protos.tokenlink.v1 import cotrain_pb2 as cpb

Array = npt.NDArray[np.float32]
Heads = Mapping[str, Mapping[str, Array]]
_QUICK = Backoff(retries=200, base_s=0.05, cap_s=0.5)
_TEST_BATCH = 32


@dataclass(frozen=True)
class Faults:
    """What goes wrong.

    Attributes:
        killed: share of devices that are killed in the middle, and come back.
        lost: share of gradients that are lost.
        straggler_s: by which one device is late with every batch [s].
        flipped: devices whose answers are wrong.
    """

    killed: float = 0.0
    lost: float = 0.0
    straggler_s: float = 0.0
    flipped: int = 0


@dataclass
class Outcome:
    """What came out of a co-training.

    Attributes:
        half: the edge's half.
        heads: of each device.
        curves: loss by device and step.
        counters: of each device, as JSON.
        learned: what each device says of itself.
        named: devices that were left out.
        elapsed_s: from first to last step [s].
    """

    half: ModelHalf
    heads: dict[str, Heads]
    curves: dict[str, list[float]]
    counters: dict[str, dict[str, Any]] = field(default_factory=dict)
    learned: dict[str, dict[str, Any]] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    elapsed_s: float = 0.0


def over_network(
    model: Path,
    bundle: Bundle,
    worlds: Worlds,
    plan: Plan,
    channel: ChannelConfig,
    scratch: Path,
    faults: Faults | None = None,
) -> Outcome:
    """Co-train over gRPC on this machine."""
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "heads").mkdir(parents=True)
    return asyncio.run(_networked(model, bundle, worlds, plan, channel, scratch, faults or Faults()))


async def _networked(
    model: Path,
    bundle: Bundle,
    worlds: Worlds,
    plan: Plan,
    channel: ChannelConfig,
    scratch: Path,
    faults: Faults,
) -> Outcome:
    state = RoundState(scratch, "study", plan, model, "")
    half = ModelHalf(Link.load(model), plan)
    learning = LearningRound(state, half, {bundle.hash: shapes_of(bundle)})
    server = CoTrainingServer(CoTrainingService(learning), plan.max_devices)
    door = Door(f"127.0.0.1:{await server.start('127.0.0.1', 0)}")
    rng = np.random.default_rng([plan.seed, 5])
    learners: dict[str, Learner] = {}
    tasks = []
    began = time.monotonic()
    killed = round(faults.killed * len(worlds.devices))
    for index, world in enumerate(worlds.devices):
        flipped = index < faults.flipped
        make = _maker(bundle, world, channel, scratch, faults, index, flipped=flipped, rng=rng)
        kill_at = plan.rounds // 3 + 10 * index if index < killed else None
        tasks.append(asyncio.create_task(_device(make, door, learners, world.name, kill_at)))
    try:
        await learning.run()
        elapsed_s = time.monotonic() - began
        await asyncio.wait(tasks, timeout=30)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop()
        learning.close()
    status = learning.status()["devices"]
    counted = ("steps", "late", "missed", "refused", "joins", "up_bytes", "down_bytes", "cosine")
    return Outcome(
        half,
        {name: {s: h.weights for s, h in one.heads.items()} for name, one in learners.items()},
        {name: [loss for _, loss, _ in curve] for name, curve in learning.curves.items()},
        {name: {each: row[each] for each in counted} for name, row in status.items()},
        {
            name: {each: getattr(one.learned, each) for each in ("applied", "skipped", "refused")}
            for name, one in learners.items()
        },
        dict(half.watch.named),
        elapsed_s,
    )


def _maker(
    bundle: Bundle,
    world: World,
    channel: ChannelConfig,
    scratch: Path,
    faults: Faults,
    index: int,
    *,
    flipped: bool,
    rng: np.random.Generator,
) -> Callable[[], Learner]:
    examples = _wrong(world.examples, rng) if flipped else world.examples
    slow = faults.straggler_s if index == len(SLOWEST) - 1 else 0.0

    def make() -> Learner:
        one = Learner(bundle, world.name, examples, world.of, channel, scratch / f"device-{index}")
        if faults.lost:
            _lose(one, faults.lost, np.random.default_rng([index, 9]))
        if slow:
            _delay(one, slow)
        return one

    return make


#: The last of six devices is the slow one.
SLOWEST = range(6)


def _wrong(examples: Examples, rng: np.random.Generator) -> Examples:
    """Answers of other questions in place of the right ones."""
    answers = [asked.answer for clip in examples.train for asked in clip.asked]
    others = {answer: [other for other in answers if other != answer] for answer in answers}
    train = tuple(
        replace(
            clip,
            asked=tuple(
                Asked(q.question, others[q.answer][int(rng.integers(len(others[q.answer])))])
                for q in clip.asked
            ),
        )
        for clip in examples.train
    )
    return replace(examples, train=train)


def _lose(one: Learner, share: float, rng: np.random.Generator) -> None:
    usual = one.apply

    def apply(gradient: cpb.BatchGradient) -> bool:
        return False if rng.random() < share else usual(gradient)

    one.apply = apply  # type: ignore[method-assign]


def _delay(one: Learner, by_s: float) -> None:
    usual = one.batch

    def batch(step: cpb.Step) -> cpb.Batch:
        time.sleep(by_s)
        return usual(step)

    one.batch = batch  # type: ignore[method-assign]


async def _device(
    make: Callable[[], Learner], door: Door, learners: dict[str, Learner], name: str, kill_at: int | None
) -> None:
    """A device's part; killed once, it comes back from what is on disk."""
    one = learners[name] = make()
    if kill_at is not None:
        due = asyncio.Event()
        running = asyncio.create_task(
            take_part(
                one,
                door,
                backoff=_QUICK,
                on_progress=lambda progress: due.set() if progress.learned.step >= kill_at else None,
            )
        )
        waiting = asyncio.create_task(due.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        one.save = lambda **_: None  # type: ignore[method-assign]  # what is not on disk by now is lost
        waiting.cancel()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        one = learners[name] = make()
    with contextlib.suppress(Exception):  # one that was named is sent away
        await take_part(one, door, backoff=_QUICK)


def in_one_process(
    model: Path, bundle: Bundle, worlds: Worlds, plan: Plan, channel: ChannelConfig, scratch: Path
) -> Outcome:
    """The same recipe with torch alone."""
    half = ModelHalf(Link.load(model), plan)
    devices = {
        world.name: TorchDevice(half.link, bundle, world, channel, plan, scratch / f"torch-{index}")
        for index, world in enumerate(worlds.devices)
    }
    bounds = Bounds(
        half.link.config.channel_dim,
        max(half.link.config.token_lengths),
        plan.clips,
        len(half.link.embedding.weight),
    )
    curves: dict[str, list[float]] = {name: [] for name in devices}
    asking = LearningRound.step_message
    began = time.monotonic()
    for step in range(plan.rounds):
        message = asking(plan, half.link.slots, half.schedule.rate(step), step)
        batches = {name: read_batch(device.batch(message), bounds) for name, device in devices.items()}
        for name, outcome in half.learn(batches).items():
            curves[name].append(outcome.loss)
            devices[name].apply(step, outcome.gradients)
    return Outcome(
        half,
        {name: device.weights() for name, device in devices.items()},
        curves,
        elapsed_s=time.monotonic() - began,
    )


def examine(
    half: ModelHalf,
    heads: Heads,
    test: Unseen,
    world: str,
    channel: ChannelConfig,
    token_length: int,
    *,
    before: bool = False,
) -> float:
    """Share of a world's test questions that are answered right."""
    right = questions = 0
    features = test.features[world]
    for begin in range(0, len(test.asked), _TEST_BATCH):
        rows = [row for row in range(begin, min(begin + _TEST_BATCH, len(test.asked))) if test.asked[row]]
        if not rows:
            continue
        slots = {}
        links = [Channel(channel, np.random.default_rng([3, row])) for row in rows]
        for slot in half.link.slots:
            given = {name: torch.from_numpy(heads[slot][name]) for name in WEIGHTS} if slot in heads else {}
            with torch.inference_mode():
                sent = torch.func.functional_call(
                    half.link.heads[slot], given, (torch.from_numpy(features[slot][rows]), token_length)
                ).numpy()
            arrived = [each.transmit(x_TC) for each, x_TC in zip(links, sent, strict=True)]
            slots[slot] = SlotTokens(
                tuple(range(len(rows))),
                np.stack([each.x_TC for each in arrived]),
                np.array([each.effective_snr_db for each in arrived], np.float32),
            )
        batch = DeviceBatch(slots, [test.asked[row] for row in rows], 0)
        found = half.examine(batch, before=before)
        right, questions = right + found.right, questions + found.questions
    return right / max(1, questions)


def accuracies(
    outcome: Outcome, test: Unseen, channel: ChannelConfig, token_length: int
) -> dict[str, dict[str, float]]:
    """Of each device's world and of the unshifted one, with the device's own head."""
    return {
        name: {
            "shifted": examine(outcome.half, heads, test, name, channel, token_length),
            "unshifted": examine(outcome.half, heads, test, UNSHIFTED, channel, token_length),
        }
        for name, heads in outcome.heads.items()
    }
