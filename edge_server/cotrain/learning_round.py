"""A round at the edge: asks devices step by step, learns from what came in time, tells them their gradients.

    enough devices? ─▶ Step to all ─▶ all in, or the deadline ─▶ learn ─▶ checkpoint ─▶ gradients
                                                                      every so often: heads averaged
    all steps done ─▶ held-out examples with new heads ─▶ heads ─▶ Finished

The checkpoint is written before gradients are told: after a kill, a step is made anew by both sides, or its
gradients are lost, which is a step that devices skip. No gradient is told twice.

A batch that comes after its step was closed counts in the next one that closes, unless its device has sent a
newer one by then: who is slow learns more seldom, but learns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from device_agent.cotrain.weights import read_weights, write_weights
from device_agent.errors import BundleError
from edge_server.cotrain import asking, averaging
from edge_server.cotrain.batches import BatchError, Bounds, DeviceBatch, read_batch
from edge_server.cotrain.journal import STATUS_EVERY_S, Journal
from edge_server.cotrain.members import Counters, Heads, Latecomers, Member, Wanted
from edge_server.cotrain.model_half import DeviceOutcome, Examined, ModelHalf
from edge_server.cotrain.plan import Plan
from edge_server.cotrain.state import EDGE, SHARED, RoundState
from edge_server.errors import (
    AdmissionRefusedError,
    BundleMismatchError,
    InvalidQuestionError,
    PermissionDeniedError,
)
from protos import gradients
from protos.gradients import GradientError
from protos.tokenlink.v1 import cotrain_pb2 as cpb

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")

#: Times the deadline that examining and handing over heads may take: clips may have to be encoded first.
_PATIENT = 12.0
#: An examination or a batch that cannot be used; more of them end a device's part.
_MAX_REFUSED = 20


class Pause(Protocol):
    """Says when training may go on."""

    async def idle(self) -> None:
        """Wait until it may."""


class LearningRound:
    """A round of co-training.

    Args:
        state: where it is kept.
        half: the edge's half; restored where there is a checkpoint.
        bundles: heads of every bundle that devices may run, by hash.
        pause: says when training may go on; None: always.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        state: RoundState,
        half: ModelHalf,
        bundles: Mapping[str, Heads],
        *,
        pause: Pause | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state, self.half, self._bundles = state, half, bundles
        self.plan: Plan = state.plan
        self._pause, self._clock = pause, clock
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tokenlink-cotrain")
        self._changed = asyncio.Event()
        self._wanted = Wanted(-1, cpb.PURPOSE_TRAIN)
        self._examining: dict[str, cpb.Purpose] = {}
        self._carried: dict[tuple[str, str], gradients.Array] = {}
        self._latecomers = Latecomers(self.plan.late_steps)
        self.members: dict[str, Member] = {}
        self.journal = Journal(state, clock)
        self.heads: dict[str, Heads] = {}
        self._slots = half.link.slots
        config = half.link.config
        self._bounds = Bounds(
            config.channel_dim,
            max(config.token_lengths),
            max(self.plan.clips, self.plan.held_out),
            len(half.link.embedding.weight),
        )
        if state.path(EDGE).exists():
            half.restore(state.path(EDGE))
        half.watch.named.update(self.journal.named_before)

    # Called by the service, for each device's stream.

    def join(self, join: cpb.Join) -> Member:
        """Let a device in; an older stream of its name ends.

        Raises:
            PermissionDeniedError: it was named as pulling the model elsewhere.
            BundleMismatchError: it runs a bundle that this round is not for.
            InvalidQuestionError: it has nothing to learn from, or no name.
            AdmissionRefusedError: the round is full.
        """
        device = join.device_id
        if not 1 <= len(device) <= 128 or not device.isprintable():
            raise InvalidQuestionError("device_id", "device_id: 1 to 128 printable characters are needed")
        if device in self.half.watch.named:
            raise PermissionDeniedError("device_id", self.half.watch.named[device], reason="poisoning")
        if join.bundle_hash not in self._bundles:
            raise BundleMismatchError(join.bundle_hash, tuple(self._bundles))
        if not join.examples or not join.held_out:
            raise InvalidQuestionError(
                "examples", "examples: some to learn from and some held out are needed"
            )
        older = self.members.get(device)
        if older is None and len(self.members) >= self.plan.max_devices:
            raise AdmissionRefusedError("the round has all its devices", reason="devices", retry_delay_s=10.0)
        if older is not None:
            older.end()
        member = Member(device, join.bundle_hash, join.examples, join.held_out)
        self.members[device] = member
        counters = self.journal.counters.setdefault(device, Counters())
        counters.joins += 1
        member.tell(joined=self.plan.joined(self.state.round_id))
        if self.plan.heads == "shared":
            shared = self._shared()
            if shared is not None:
                member.tell(heads=gradients.heads_message(self.half.step, shared))
        logger.info("a device co-trains", extra={"device_id": device, "examples": join.examples})
        self._changed.set()
        return member

    def leave(self, member: Member) -> None:
        """A device's stream has ended."""
        if self.members.get(member.device) is member:
            del self.members[member.device]
            self._examining.pop(member.device, None)
        self._changed.set()

    async def received(self, member: Member, frame: cpb.LearnUplink) -> None:
        """Take what a device sent; what cannot be used is counted.

        Raises:
            InvalidQuestionError: it sent too much that cannot be used.
        """
        if self.members.get(member.device) is not member:
            return
        counters = self.journal.counters[member.device]
        try:
            match frame.WhichOneof("body"):
                case "batch":
                    await self._batch(member, frame.batch, counters)
                case "heads":
                    self._take_heads(member, frame.heads, counters)
                case other:
                    raise BatchError(f"body: is {other}; batch or heads are expected")
        except (BatchError, GradientError) as error:
            counters.refused += 1
            logger.warning("not usable: %s", error, extra={"device_id": member.device})
            if counters.refused > _MAX_REFUSED:
                raise InvalidQuestionError("batch", str(error)) from error
        self._changed.set()

    # The round itself.

    async def run(self) -> str:
        """Until all steps are made, or it is to stop: "done" or "stopped"."""
        reason = "stopped"
        try:
            while self.half.step < self.plan.rounds and not self.state.stopping:
                await self._one_step()
            if self.half.step >= self.plan.rounds:
                await self._finish()
                reason = "done"
        finally:
            self.journal.phase = reason
            self.write_status(now=True)
        for member in list(self.members.values()):
            member.tell(finished=cpb.Finished(reason=reason, step=self.half.step))
            member.end()
        return reason

    def close(self) -> None:
        """Free its thread."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def _one_step(self) -> None:
        if self._pause is not None:
            await self._pause.idle()
        if not await self._enough():
            return
        step = self.half.step
        if self.plan.heads == "shared" and step and step % self.plan.average_every == 0:
            await self._average(step)
        self.journal.phase = "learning"
        ready = self._ready()
        message = asking.training_step(self.plan, self._slots, self.half.schedule.rate(step), step)
        batches = (await self._collect(Wanted(step, cpb.PURPOSE_TRAIN), message, ready)).batches
        if not batches:
            return
        outcomes = await self._in_thread(lambda: self._learn(batches))
        for device, outcome in outcomes.items():
            self._tell(device, outcome, batches[device])
        self.journal.note(step, outcomes)
        for device, how in self.half.watch.named.items():
            if device in self.members:
                logger.warning("a device is left out: %s", how, extra={"device_id": device})
                self.members.pop(device).end()
        self.write_status()

    def _learn(self, batches: Mapping[str, DeviceBatch]) -> dict[str, DeviceOutcome]:
        outcomes = self.half.learn(batches)
        self.half.save(self.state.path(EDGE))
        return outcomes

    async def _enough(self) -> bool:
        """Whether enough devices are ready; else some are waited for a moment."""
        for device, member in self.members.items():
            if "before" not in self.journal.examined.get(device, {}) and device not in self._examining:
                self._examining[device] = cpb.PURPOSE_EXAMINE_BEFORE
                member.tell(step=self._examination(cpb.PURPOSE_EXAMINE_BEFORE))
        # Who was left out does not come back, and is not waited for.
        needed = max(1, self.plan.min_devices - len(self.half.watch.named))
        if len(self._ready()) >= needed:
            return True
        self.journal.phase = "waiting for devices"
        self.write_status()
        await self._wait(STATUS_EVERY_S)
        return False

    def _ready(self) -> list[Member]:
        return [m for m in self.members.values() if "before" in self.journal.examined.get(m.device, {})]

    async def _collect(
        self, wanted: Wanted, message: cpb.Step, members: list[Member], times: float = 1.0
    ) -> Wanted:
        """Ask some devices, and wait until those that are in time as a rule have sent, or the deadline."""
        self._wanted = wanted
        for member in members:
            member.tell(step=message)
        deadline = self._clock() + times * self.plan.deadline_s
        patience = self.plan.patience
        while True:
            present = [m for m in members if self.members.get(m.device) is m]
            waited = [m for m in present if m.in_a_row < patience] or present
            left_s = deadline - self._clock()
            if all(wanted.has(m.device) for m in waited) or left_s <= 0.0:
                break
            await self._wait(left_s)
        self._wanted = Wanted(-1, cpb.PURPOSE_TRAIN)
        for member in members:
            if wanted.has(member.device):
                member.in_a_row = 0
            elif wanted.purpose == cpb.PURPOSE_TRAIN:
                member.in_a_row += 1
                self.journal.counters[member.device].missed += 1
        if wanted.purpose == cpb.PURPOSE_TRAIN:
            self._latecomers.add_to(wanted, self.members)
        return wanted

    async def _average(self, step: int) -> None:
        """Heads of all devices as one, weighted by examples."""
        self.journal.phase = "averaging heads"
        came = (await self._collect(Wanted(step, None), asking.for_heads(step), self._ready())).heads
        examples = {device: self.members[device].examples for device in came if device in self.members}
        shared = averaging.average({device: came[device] for device in examples}, examples)
        if shared is None:
            return
        write_weights(self.state.head(SHARED), averaging.flat(shared), {})
        for device in came:
            if device in self.members:
                self.members[device].tell(heads=gradients.heads_message(step, shared))

    async def _finish(self) -> None:
        """Pull back what came out a little, take devices' heads, and examine them."""
        self.journal.phase = "examining"
        self.half.pull_back(self.plan.keep_edge)
        self.write_status(now=True)
        members = self._ready()
        if self.plan.heads == "shared":
            await self._average(self.plan.rounds)
        if self.plan.heads != "frozen":
            ask = asking.for_heads(self.plan.rounds)
            came = await self._collect(Wanted(self.plan.rounds, None), ask, members, _PATIENT)
            for device, heads in came.heads.items():
                if device in self.members:
                    self._keep(self.members[device], heads)
        message = self._examination(cpb.PURPOSE_EXAMINE_AFTER)
        wanted = Wanted(self.plan.rounds, cpb.PURPOSE_EXAMINE_AFTER)
        came = await self._collect(wanted, message, members, _PATIENT)
        for device, batch in came.batches.items():
            found = await self._in_thread(partial(self.half.examine, batch, before=False))
            self._noted(device, "after", found)

    # Parts of these.

    def _keep(self, member: Member, heads: Heads) -> None:
        """A device's heads at the end; pulled back where the plan says so, which the device is told."""
        path = self.state.head(member.device)
        if path.exists():  # an earlier process of the round came this far
            heads = averaging.by_slot(read_weights(path)[0])
        else:
            heads = averaging.between(heads, self._bundles[member.bundle_hash], self.plan.keep_heads)
            said = {"device_id": member.device, "bundle_hash": member.bundle_hash}
            write_weights(path, averaging.flat(heads), said)
        self.heads[member.device] = heads
        if self.plan.keep_heads:
            member.tell(heads=gradients.heads_message(self.plan.rounds, heads))

    async def _batch(self, member: Member, message: cpb.Batch, counters: Counters) -> None:
        batch = read_batch(message, self._bounds)
        device = member.device
        if message.purpose == cpb.PURPOSE_EXAMINE_BEFORE:
            if self._examining.pop(device, None) is not None:
                found = await self._in_thread(lambda: self.half.examine(batch, before=True))
                self._noted(device, "before", found)
            return
        wanted = self._wanted
        fits = (wanted.step, wanted.purpose) == (message.step, message.purpose)
        if not fits or wanted.has(device):
            counters.late += 1
            if message.purpose == cpb.PURPOSE_TRAIN:
                if message.step == wanted.step - 1:
                    member.in_a_row = max(0, member.in_a_row - 1)
                if message.step <= self.half.step and message.step != wanted.step:
                    self._latecomers.keep(device, self._of_training(batch))
            return
        wanted.batches[device] = self._of_training(batch) if wanted.purpose == cpb.PURPOSE_TRAIN else batch

    def _of_training(self, batch: DeviceBatch) -> DeviceBatch:
        if len(batch.asked) > self.plan.clips:
            raise BatchError(f"examples: {len(batch.asked)}; {self.plan.clips} were asked for")
        return batch

    def _take_heads(self, member: Member, message: cpb.Heads, counters: Counters) -> None:
        shapes = {
            slot: {name: each.shape for name, each in of_slot.items()}
            for slot, of_slot in self._bundles[member.bundle_hash].items()
        }
        heads = gradients.read_heads(message, shapes)
        wanted = self._wanted
        if wanted.purpose is not None or wanted.step != message.step or wanted.has(member.device):
            counters.late += 1
            return
        wanted.heads[member.device] = heads

    def _tell(self, device: str, outcome: DeviceOutcome, batch: DeviceBatch) -> None:
        blocks = []
        for slot, g_RC in outcome.gradients.items():
            key = (device, slot)
            block, self._carried[key] = gradients.encode(
                slot, g_RC, self.plan.gradient, self._carried.get(key)
            )
            blocks.append(block)
        message = cpb.BatchGradient(step=batch.step, blocks=blocks, loss=outcome.loss, right=outcome.right)
        counters = self.journal.counters[device]
        counters.steps += 1
        counters.up_bytes += batch.bytes
        counters.down_bytes += message.ByteSize()
        member = self.members.get(device)
        if member is not None and device not in self.half.watch.named:
            member.tell(gradient=message)

    def _noted(self, device: str, when: str, found: Examined) -> None:
        self.journal.note_examined(device, when, found)
        self._changed.set()

    def _examination(self, purpose: cpb.Purpose) -> cpb.Step:
        step = self.plan.rounds if purpose == cpb.PURPOSE_EXAMINE_AFTER else self.half.step
        return asking.examination(self.plan, self._slots, step, purpose)

    def _shared(self) -> Heads | None:
        try:
            flat, _ = read_weights(self.state.head(SHARED))
        except BundleError:
            return None
        return averaging.by_slot(flat)

    def write_status(self, *, now: bool = False) -> None:
        """Say how the round stands; at most every half second unless it has to be now."""
        self.journal.write_status(self.half.step, self.half.watch, self.members, now=now)

    def status(self) -> dict[str, Any]:
        """How the round stands, as JSON."""
        return self.journal.status(self.half.step, self.half.watch, self.members)

    async def _wait(self, within_s: float) -> None:
        """Until something changed, or so long."""
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
