"""What a round takes in: which devices take part, and what each has sent of what is wanted just now.

A batch that comes after its step was closed counts in the next one that closes, unless its device has sent a
newer one by then: who is slow learns more seldom, but from more at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from edge_server.cotrain import asking
from edge_server.cotrain.batches import BatchError, Bounds, DeviceBatch, read_batch
from edge_server.cotrain.journal import Journal
from edge_server.cotrain.members import Counters, Heads, Latecomers, Member, Wanted
from edge_server.cotrain.model_half import ModelHalf
from edge_server.cotrain.plan import Plan
from edge_server.errors import (
    AdmissionRefusedError,
    BundleMismatchError,
    InvalidQuestionError,
    PermissionDeniedError,
)
from edge_server.frontdoor.device_names import checked_device
from protos import gradients
from protos.gradients import GradientError
from protos.tokenlink.v1 import cotrain_pb2 as cpb

logger = logging.getLogger(__name__)

#: An examination or a batch that cannot be used; more of them end a device's part.
_MAX_REFUSED = 20
_NOTHING = -1


class Intake:
    """Devices of a round, and what they send.

    Args:
        plan: of the round.
        half: the edge's half: who was left out, what fits.
        bundles: heads of every bundle that devices may run, by hash.
        journal: where it is noted.
        clock: monotonic seconds.
        examine: takes a device's held-out batch of before the round.

    Attributes:
        members: who is connected, by device.
    """

    def __init__(
        self,
        plan: Plan,
        half: ModelHalf,
        bundles: Mapping[str, Heads],
        journal: Journal,
        clock: Callable[[], float],
        examine: Callable[[str, DeviceBatch], Awaitable[None]],
    ) -> None:
        self.members: dict[str, Member] = {}
        self._plan, self._half, self._bundles = plan, half, bundles
        self._journal, self._clock, self._examine = journal, clock, examine
        self._changed = asyncio.Event()
        self._wanted = Wanted(_NOTHING, cpb.PURPOSE_TRAIN)
        self._examining: set[str] = set()
        self._latecomers = Latecomers(plan.late_steps)
        config = half.link.config
        self._bounds = Bounds(
            config.channel_dim,
            max(config.token_lengths),
            max(plan.clips * plan.catch_up, plan.held_out),
            len(half.link.embedding.weight),
        )

    def join(self, join: cpb.Join) -> Member:
        """Let a device in; an older stream of its name ends.

        Raises:
            PermissionDeniedError: it was named as pulling the model elsewhere.
            BundleMismatchError: it runs a bundle that this round is not for.
            InvalidQuestionError: it has nothing to learn from, or no name.
            AdmissionRefusedError: the round is full.
        """
        device = checked_device(join.device_id, "device_id")
        if device in self._half.watch.named:
            raise PermissionDeniedError("device_id", self._half.watch.named[device], reason="poisoning")
        if join.bundle_hash not in self._bundles:
            raise BundleMismatchError(join.bundle_hash, tuple(self._bundles))
        if not join.examples or not join.held_out:
            raise InvalidQuestionError(
                "examples", "examples: some to learn from and some held out are needed"
            )
        older = self.members.get(device)
        if older is None and len(self.members) >= self._plan.max_devices:
            raise AdmissionRefusedError("the round has all its devices", reason="devices", retry_delay_s=10.0)
        if older is not None:
            older.end()
        member = Member(device, join.bundle_hash, join.examples, join.held_out)
        self.members[device] = member
        self._journal.counters.setdefault(device, Counters()).joins += 1
        logger.info("a device co-trains", extra={"device_id": device, "examples": join.examples})
        self._changed.set()
        return member

    def leave(self, member: Member) -> None:
        """A device's stream has ended."""
        if self.members.get(member.device) is member:
            del self.members[member.device]
            self._examining.discard(member.device)
        self._changed.set()

    def leave_out(self, named: Mapping[str, str]) -> None:
        """End the streams of devices that pull the model elsewhere; how is said in the log."""
        for device, how in named.items():
            if device in self.members:
                logger.warning("a device is left out: %s", how, extra={"device_id": device})
                self.members.pop(device).end()

    def ready(self) -> list[Member]:
        """Devices that were examined, and may learn."""
        return [m for m in self.members.values() if "before" in self._journal.examined.get(m.device, {})]

    def ask_newcomers(self, message: cpb.Step) -> None:
        """Ask those who were not examined yet, and have not been asked."""
        for device, member in self.members.items():
            if "before" not in self._journal.examined.get(device, {}) and device not in self._examining:
                self._examining.add(device)
                member.tell(step=message)

    async def received(self, member: Member, frame: cpb.LearnUplink) -> None:
        """Take what a device sent; what cannot be used is counted.

        Raises:
            InvalidQuestionError: it sent too much that cannot be used.
        """
        if self.members.get(member.device) is not member:
            return
        counters = self._journal.counters[member.device]
        try:
            match frame.WhichOneof("body"):
                case "batch":
                    await self._take_batch(member, frame.batch, counters)
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

    async def batches(
        self, message: cpb.Step, members: list[Member], times: float = 1.0
    ) -> dict[str, DeviceBatch]:
        """Ask devices for a batch: what came in time, and what was late for an earlier step.

        Args:
            message: what is asked for.
            members: who is asked.
            times: the plan's deadline that they have.
        """
        wanted = await self._collect(Wanted(message.step, message.purpose), message, members, times)
        if message.purpose == cpb.PURPOSE_TRAIN:
            for member in members:
                if not wanted.has(member.device):
                    member.in_a_row += 1
                    self._journal.counters[member.device].missed += 1
            self._latecomers.add_to(wanted, self.members)
        return wanted.batches

    async def heads(self, step: int, members: list[Member], times: float = 1.0) -> dict[str, Heads]:
        """Ask devices for their heads, as they are after a step: those that came in time."""
        return (await self._collect(Wanted(step, None), asking.for_heads(step), members, times)).heads

    async def wait(self, within_s: float) -> None:
        """Until something changed, or so long."""
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    async def _collect(
        self, wanted: Wanted, message: cpb.Step, members: list[Member], times: float
    ) -> Wanted:
        """Ask, and wait until those that are in time as a rule have sent, or the deadline."""
        self._wanted = wanted
        for member in members:
            missed = self._latecomers.missed(member.device, message.step)
            asked = asking.of_missed(message, missed, self._plan.catch_up)
            self._latecomers.ask(member.device, asked.step, asked.clips)
            member.tell(step=asked)
        deadline = self._clock() + times * self._plan.deadline_s
        while True:
            present = [m for m in members if self.members.get(m.device) is m]
            waited = [m for m in present if m.in_a_row < self._plan.patience] or present
            left_s = deadline - self._clock()
            if all(wanted.has(m.device) for m in waited) or left_s <= 0.0:
                break
            await self.wait(left_s)
        self._wanted = Wanted(_NOTHING, cpb.PURPOSE_TRAIN)
        for member in members:
            if wanted.has(member.device):
                member.in_a_row = 0
        return wanted

    async def _take_batch(self, member: Member, message: cpb.Batch, counters: Counters) -> None:
        batch = read_batch(message, self._bounds)
        device = member.device
        if message.purpose == cpb.PURPOSE_EXAMINE_BEFORE:
            if device in self._examining:
                self._examining.discard(device)
                await self._examine(device, batch)
            return
        wanted = self._wanted
        fits = (wanted.step, wanted.purpose) == (message.step, message.purpose)
        if not fits or wanted.has(device):
            counters.late += 1
            if message.purpose == cpb.PURPOSE_TRAIN:
                if message.step == wanted.step - 1:
                    member.in_a_row = max(0, member.in_a_row - 1)
                closed = message.step <= self._half.step and message.step != wanted.step
                if closed and self._latecomers.clips(device, message.step):
                    self._latecomers.keep(device, self._as_asked(device, batch))
            return
        training = wanted.purpose == cpb.PURPOSE_TRAIN
        wanted.batches[device] = self._as_asked(device, batch) if training else batch

    def _as_asked(self, device: str, batch: DeviceBatch) -> DeviceBatch:
        most = self._latecomers.clips(device, batch.step)
        if len(batch.asked) > most:
            raise BatchError(f"examples: {len(batch.asked)}; {most} were asked for")
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
