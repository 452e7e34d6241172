"""One co-training from start to end, over gRPC or in one process, with faults or without, and its outcome.

Over gRPC everything is the product's own: learners with their ONNX graphs, the service, the round. In one
process the same recipe runs with torch alone: heads under autograd, torch's AdamW, no message, no codec.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.bundle.bundle import Bundle
from device_agent.channel import ChannelConfig
from device_agent.cotrain.client import Door, take_part
from device_agent.cotrain.learner import Learner
from device_agent.uplink.backoff import Backoff
from edge_server.cotrain import asking, averaging
from edge_server.cotrain.batches import Bounds, read_batch
from edge_server.cotrain.learning_round import LearningRound
from edge_server.cotrain.model_half import ModelHalf
from edge_server.cotrain.plan import Plan
from edge_server.cotrain.rehearsal import Rehearsal
from edge_server.cotrain.service import CoTrainingServer, CoTrainingService
from edge_server.cotrain.state import RoundState
from edge_server.cotrain.weights_of_bundles import heads_of
from edge_server.model.link import Link
from edge_server.study.cotrain.faults import Faults, count, delay, lose, with_wrong_answers
from edge_server.study.cotrain.scoring import Heads
from edge_server.study.cotrain.torch_device import TorchDevice
from edge_server.study.cotrain.world import World, Worlds

_QUICK = Backoff(retries=200, base_s=0.05, cap_s=0.5)


@dataclass
class Outcome:
    """What came out of a co-training.

    Attributes:
        half: the edge's half.
        heads: of each device.
        curves: loss by device and step.
        counters: of each device, as JSON.
        learned: what each device says of itself.
        applied_twice: steps whose gradient moved a device's heads more than once, by device.
        named: devices that were left out.
        elapsed_s: from first to last step [s].
    """

    half: ModelHalf
    heads: dict[str, Heads]
    curves: dict[str, list[float]]
    counters: dict[str, dict[str, Any]] = field(default_factory=dict)
    learned: dict[str, dict[str, Any]] = field(default_factory=dict)
    applied_twice: dict[str, list[int]] = field(default_factory=dict)
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
    half = _half(model, worlds, plan)
    learning = LearningRound(state, half, {bundle.hash: heads_of(bundle)})
    server = CoTrainingServer(CoTrainingService(learning), plan.max_devices)
    door = Door(f"127.0.0.1:{await server.start('127.0.0.1', 0)}")
    rng = np.random.default_rng([plan.seed, 5])
    learners: dict[str, Learner] = {}
    applied: dict[str, Counter[int]] = {world.name: Counter() for world in worlds.devices}
    tasks = []
    began = time.monotonic()
    killed = round(faults.killed * len(worlds.devices))
    for index, world in enumerate(worlds.devices):
        examples = with_wrong_answers(world.examples, rng) if index < faults.flipped else world.examples
        slow_s = faults.straggler_s if index == len(worlds.devices) - 1 else 0.0
        make = _maker(bundle, replace(world, examples=examples), channel, scratch / f"device-{index}")
        make = _with_faults(make, faults.lost, slow_s, np.random.default_rng([index, 9]), applied[world.name])
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
        {name: [loss for _, loss, _ in curve] for name, curve in learning.journal.curves.items()},
        {name: {each: row[each] for each in counted} for name, row in status.items()},
        {
            name: {each: getattr(one.learned, each) for each in ("applied", "skipped", "refused")}
            for name, one in learners.items()
        },
        {
            name: sorted(step for step, times in steps.items() if times > 1)
            for name, steps in applied.items()
            if any(times > 1 for times in steps.values())
        },
        dict(half.watch.named),
        elapsed_s,
    )


def _half(model: Path, worlds: Worlds, plan: Plan) -> ModelHalf:
    link, old = Link.load(model), worlds.rehearsed
    rehearsal = None if old is None else Rehearsal(link, old, plan, {"data": "soundstage"})
    return ModelHalf(link, plan, rehearsal=rehearsal)


def _maker(bundle: Bundle, world: World, channel: ChannelConfig, state: Path) -> Callable[[], Learner]:
    return lambda: Learner(bundle, world.name, world.examples, world.of, channel, state)


def _with_faults(
    usual: Callable[[], Learner], lost: float, slow_s: float, rng: np.random.Generator, applied: Counter[int]
) -> Callable[[], Learner]:
    def make() -> Learner:
        one = usual()
        count(one, applied)
        if lost:
            lose(one, lost, rng)
        if slow_s:
            delay(one, slow_s)
        return one

    return make


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
    """The same recipe with torch alone, but for its end: nothing is pulled back yet."""
    half = _half(model, worlds, plan)
    devices = {
        world.name: TorchDevice(
            half.link, bundle, world, channel, plan, scratch / f"torch-{index}", half.usual
        )
        for index, world in enumerate(worlds.devices)
    }
    bounds = Bounds(
        half.link.config.channel_dim,
        max(half.link.config.token_lengths),
        plan.clips,
        len(half.link.embedding.weight),
    )
    curves: dict[str, list[float]] = {name: [] for name in devices}
    began = time.monotonic()
    for step in range(plan.rounds):
        message = asking.training_step(plan, half.link.slots, half.schedule.rate(step), step)
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


class Trained:
    """A co-training in one process that is over, to be pulled back in more than one way.

    Args:
        outcome: of :func:`in_one_process`.
        bundle: of its devices.
    """

    def __init__(self, outcome: Outcome, bundle: Bundle) -> None:
        self._outcome, self._first = outcome, heads_of(bundle)
        self._weights = {name: each.detach().clone() for name, each in outcome.half.parameters.items()}

    def pulled_back(self, plan: Plan) -> Outcome:
        """What a plan makes of it at the end; the outcome before is no longer one."""
        half = self._outcome.half
        for name, parameter in half.parameters.items():
            parameter.data.copy_(self._weights[name])
        half.pull_back(plan.keep_edge)
        heads: dict[str, Heads] = {
            name: averaging.between(_copied(each), self._first, plan.keep_heads)
            for name, each in self._outcome.heads.items()
        }
        return replace(self._outcome, heads=heads)


def _copied(heads: Heads) -> dict[str, dict[str, Any]]:
    return {slot: dict(weights) for slot, weights in heads.items()}
