"""A round at the edge: asks devices step by step, learns from what came in time, tells them their gradients.

    enough devices? ─▶ Step to all ─▶ all in, or the deadline ─▶ learn ─▶ checkpoint ─▶ gradients
                                                                      every so often: heads averaged
    all steps done ─▶ held-out examples with new heads ─▶ heads ─▶ Finished

The checkpoint is written before gradients are told: after a kill, a step is made anew by both sides, or its
gradients are lost, which is a step that devices skip. No gradient is told twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from device_agent.cotrain.weights import read_weights, write_weights
from device_agent.errors import BundleError
from edge_server.cotrain import asking, averaging
from edge_server.cotrain.batches import DeviceBatch
from edge_server.cotrain.intake import Intake
from edge_server.cotrain.journal import STATUS_EVERY_S, Journal
from edge_server.cotrain.members import Heads, Member
from edge_server.cotrain.model_half import DeviceOutcome, ModelHalf
from edge_server.cotrain.plan import Plan
from edge_server.cotrain.state import EDGE, SHARED, RoundState
from protos import gradients
from protos.tokenlink.v1 import cotrain_pb2 as cpb

_Result = TypeVar("_Result")

#: Times the deadline that examining and handing over heads may take: clips may have to be encoded first.
_PATIENT = 12.0


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
        self._pause = pause
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tokenlink-cotrain")
        self._carried: dict[tuple[str, str], gradients.Array] = {}
        self.journal = Journal(state, clock)
        self.intake = Intake(
            self.plan, half, bundles, self.journal, clock, partial(self._examine, before=True)
        )
        self.heads: dict[str, Heads] = {}
        self._slots = half.link.slots
        if state.path(EDGE).exists():
            half.restore(state.path(EDGE))
        half.watch.named.update(self.journal.named_before)

    def join(self, join: cpb.Join) -> Member:
        """Let a device in, and tell it what the round is; raises as :meth:`Intake.join` does."""
        member = self.intake.join(join)
        member.tell(joined=self.plan.joined(self.state.round_id, self.half.usual))
        if self.plan.heads == "shared":
            shared = self._shared()
            if shared is not None:
                member.tell(heads=gradients.heads_message(self.half.step, shared))
        return member

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
        for member in list(self.intake.members.values()):
            member.tell(finished=cpb.Finished(reason=reason, step=self.half.step))
            member.end()
        return reason

    def close(self) -> None:
        """Free its thread."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def write_status(self, *, now: bool = False) -> None:
        """Say how the round stands; at most every half second unless it has to be now."""
        self.journal.write_status(self.half.step, self.half.watch, self.intake.members, now=now)

    def status(self) -> dict[str, Any]:
        """How the round stands, as JSON."""
        return self.journal.status(self.half.step, self.half.watch, self.intake.members)

    async def _one_step(self) -> None:
        if self._pause is not None:
            await self._pause.idle()
        if not await self._enough():
            return
        step = self.half.step
        if self.plan.heads == "shared" and step and step % self.plan.average_every == 0:
            await self._average(step)
        self.journal.phase = "learning"
        message = asking.training_step(self.plan, self._slots, self.half.schedule.rate(step), step)
        batches = await self.intake.batches(message, self.intake.ready())
        if not batches:
            return
        outcomes = await self._in_thread(lambda: self._learn(batches))
        for device, outcome in outcomes.items():
            self._tell(device, outcome, batches[device])
        self.journal.note(step, outcomes)
        self.intake.leave_out(self.half.watch.named)
        self.write_status()

    def _learn(self, batches: Mapping[str, DeviceBatch]) -> dict[str, DeviceOutcome]:
        outcomes = self.half.learn(batches)
        self.half.save(self.state.path(EDGE))
        return outcomes

    async def _enough(self) -> bool:
        """Whether enough devices are ready; else some are waited for a moment."""
        self.intake.ask_newcomers(self._examination(cpb.PURPOSE_EXAMINE_BEFORE))
        # Who was left out does not come back, and is not waited for.
        needed = max(1, self.plan.min_devices - len(self.half.watch.named))
        if len(self.intake.ready()) >= needed:
            return True
        self.journal.phase = "waiting for devices"
        self.write_status()
        await self.intake.wait(STATUS_EVERY_S)
        return False

    async def _average(self, step: int) -> None:
        """Heads of all devices as one, weighted by examples."""
        self.journal.phase = "averaging heads"
        came = await self.intake.heads(step, self.intake.ready())
        members = {device: self.intake.members[device] for device in came if device in self.intake.members}
        examples = {device: member.examples for device, member in members.items()}
        shared = averaging.average({device: came[device] for device in members}, examples)
        if shared is None:
            return
        write_weights(self.state.head(SHARED), averaging.flat(shared), {})
        for member in members.values():
            member.tell(heads=gradients.heads_message(step, shared))

    async def _finish(self) -> None:
        """Pull back what came out a little, take devices' heads, and examine them."""
        self.journal.phase = "examining"
        self.half.pull_back(self.plan.keep_edge)
        self.write_status(now=True)
        members = self.intake.ready()
        if self.plan.heads == "shared":
            await self._average(self.plan.rounds)
        if self.plan.heads != "frozen":
            for device, heads in (await self.intake.heads(self.plan.rounds, members, _PATIENT)).items():
                if device in self.intake.members:
                    self._keep(self.intake.members[device], heads)
        after = await self.intake.batches(self._examination(cpb.PURPOSE_EXAMINE_AFTER), members, _PATIENT)
        for device, batch in after.items():
            await self._examine(device, batch, before=False)

    async def _examine(self, device: str, batch: DeviceBatch, *, before: bool) -> None:
        """How many of a device's held-out questions are answered rightly, noted."""
        found = await self._in_thread(lambda: self.half.examine(batch, before=before))
        self.journal.note_examined(device, "before" if before else "after", found)

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
        member = self.intake.members.get(device)
        if member is not None and device not in self.half.watch.named:
            member.tell(gradient=message)

    def _examination(self, purpose: cpb.Purpose) -> cpb.Step:
        step = self.plan.rounds if purpose == cpb.PURPOSE_EXAMINE_AFTER else self.half.step
        return asking.examination(self.plan, self._slots, step, purpose)

    def _shared(self) -> Heads | None:
        try:
            flat, _ = read_weights(self.state.head(SHARED))
        except BundleError:
            return None
        return averaging.by_slot(flat)

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
