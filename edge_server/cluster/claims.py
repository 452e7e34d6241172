"""Who runs a question of a device: an entry per (device, request_id), made by one and by one only.

    nobody ──create──▶ a door ──end──▶ its answer, until it is acknowledged or too old
                         └────end──▶ a refusal: the next one who asks takes it over

A door that dies between claiming a question and publishing it leaves a claim without a run. Whoever asks
the question then publishes it under the claim's name: the work queue takes it where the first never came,
and passes it over where it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import nats.js.errors

from edge_server.cluster.connection import BrokerError, Connection
from edge_server.cluster.subjects import CLAIMS, claim_key
from edge_server.engine import AskedAs
from edge_server.errors import DeadlineExpiredError, RequestConflictError
from protos.tokenlink.v1 import cluster_pb2 as cb

_RETRY_S = 0.1
_LATE_S = 2.0
"""Clocks of machines differ by no more [s]."""


@dataclass(frozen=True)
class Mine:
    """A question that this door is to have run.

    Attributes:
        key: of the claim.
        revision: of it.
    """

    key: str
    revision: int


@dataclass(frozen=True)
class Others(Mine):
    """A question that is run already, for another door."""


@dataclass(frozen=True)
class Answered:
    """A question that has its answer.

    Attributes:
        answer: as it was told.
    """

    answer: cb.WholeAnswer


Claimed: TypeAlias = Mine | Others | Answered


class Claims:
    """The claims of a cluster.

    Args:
        connection: to the broker.
        wall_clock: seconds since the Unix epoch.
    """

    def __init__(self, connection: Connection, wall_clock: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self._wall_clock = wall_clock

    async def claim(self, asked: AskedAs, deadline_at_s: float, deadline_s: float) -> Claimed:
        """Claim a question, or tell who has.

        Args:
            asked: what it is known by.
            deadline_at_s: its end, seconds since the Unix epoch.
            deadline_s: from its submission [s].

        Raises:
            RequestConflictError: the key belongs to a question with other content.
            DeadlineExpiredError: the broker did not answer in time.
        """
        key = claim_key(asked.device_id, asked.request_id)
        entry = cb.Claim(digest=asked.digest, deadline_at_s=deadline_at_s, door=self._connection.node)
        value = entry.SerializeToString()
        while self._wall_clock() < deadline_at_s:
            try:
                return Mine(key, await self._connection.claims.create(key, value, validate_keys=False))
            except nats.js.errors.KeyWrongLastSequenceError:
                pass
            except BrokerError:
                # It may have been made all the same: then it is found, and taken for what it is.
                await asyncio.sleep(_RETRY_S)
            found = await self.find(key)
            if found is None:
                continue
            revision, claim = found
            if claim.digest != asked.digest:
                raise RequestConflictError(asked.request_id)
            if claim.HasField("answer"):
                return Answered(claim.answer)
            if claim == entry:
                return Mine(key, revision)
            if claim.HasField("door") and self._wall_clock() < claim.deadline_at_s + _LATE_S:
                return Others(key, revision)
            try:
                return Mine(
                    key, await self._connection.claims.update(key, value, revision, validate_keys=False)
                )
            except BrokerError:
                await asyncio.sleep(_RETRY_S)
        raise DeadlineExpiredError(deadline_s)

    async def find(self, key: str) -> tuple[int, cb.Claim] | None:
        """A claim with its revision; None where there is none, or the broker does not say."""
        try:
            found = await self._connection.claims.get(key, validate_keys=False)
        except BrokerError:
            return None
        return found.revision or 0, cb.Claim.FromString(found.value or b"")

    async def end(self, work: cb.Work, how: cb.WholeAnswer | cb.Refusal) -> None:
        """Write how a claimed question has ended; tried again until its deadline, or until another has it."""
        claim = cb.Claim(digest=work.digest, deadline_at_s=work.deadline_at_s)
        if isinstance(how, cb.WholeAnswer):
            claim.answer.CopyFrom(how)
        else:
            claim.refusal.CopyFrom(how)
        value = claim.SerializeToString()
        while True:
            try:
                await self._connection.claims.update(work.claim, value, work.claimed, validate_keys=False)
                return
            except nats.js.errors.KeyWrongLastSequenceError:
                return  # it was ended by whoever ran it too, or taken over
            except BrokerError:
                if self._wall_clock() > work.deadline_at_s + _LATE_S:
                    return
            await asyncio.sleep(_RETRY_S)

    async def forget(self, device_id: str, request_id: str) -> None:
        """A device has its answer safe. Where the broker is away, its time to live does the same."""
        subject = f"$KV.{CLAIMS}.{claim_key(device_id, request_id)}"
        # Of the stream: a key that is purged through the bucket leaves a marker, as large as a short answer.
        with contextlib.suppress(*BrokerError):
            await self._connection.jet.purge_stream(f"KV_{CLAIMS}", subject=subject)
