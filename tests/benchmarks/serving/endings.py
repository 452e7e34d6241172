"""Ten thousand questions, of which many are taken back and some are malformed: does each end exactly once?

20 % are cancelled at a random moment, 2 % are malformed: blocks that lie about themselves, a question with no
words, numbers out of bounds, bytes that are no message. A question ends with its answer, INVALID_ARGUMENT or
CANCELLED; the clients count ends that never came and ends that came twice. Afterwards nothing may be left of
them: nothing waiting, no row in the batch, no task, no object of engine or cell.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from typing import Any

import grpc.aio

from deploy.loadtest.generator import closed_loop
from deploy.loadtest.grpc_target import GrpcConnection, ending_of_call
from deploy.loadtest.target import Failed, Question, Template
from deploy.loadtest.users import Users
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.benchmarks.serving.row import Claim, Context, Row, Values
from tests.benchmarks.serving.served import ServedModel, serving

USERS = 20
IN_FLIGHT = 8
CANCELLED_SHARE = 0.2
MALFORMED_SHARE = 0.02
MORE_MEMORY_SHARE = 0.05
_ENDS_WITHIN_S = 60.0
_ASK = f"/{pb.DESCRIPTOR.services_by_name['TokenLink'].full_name}/Ask"
NO_MESSAGE = b"\xff\xff no message"


def malformed(template: Template, rng: random.Random) -> Template:
    """One of the ways in which a question can be wrong."""
    message = pb.Question()
    message.CopyFrom(template.message)
    block = message.payloads[0]
    match rng.randrange(6):
        case 0:
            block.crc32 ^= 1
        case 1:
            block.shape[0] += 1
        case 2:
            block.dtype = pb.DTYPE_UNSPECIFIED
        case 3:
            message.ClearField("question_ids")
        case 4:
            message.max_new_tokens = 2**31
        case _:
            message.payloads.add().CopyFrom(block)
    return Template.of(message, template.text)


class _Asking:
    """Asks, takes back and garbles; counts how each question ended."""

    def __init__(self, served: ServedModel, users: Users, rng: random.Random, typical_s: float) -> None:
        self.ends: Counter[str] = Counter()
        self._channel = grpc.aio.insecure_channel(served.grpc)
        self._ask_bytes: Any = self._channel.unary_stream(_ASK)
        self._users = users
        self._rng = rng
        self._typical_s = typical_s

    async def close(self) -> None:
        await self._channel.close()

    async def ask(self, line: GrpcConnection, user: int) -> None:
        """One question, whatever becomes of it."""
        fate = self._rng.random()
        question = self._users.draw(user)
        if fate < CANCELLED_SHARE:
            # Before it is sent, while it waits, while it runs, as its answer comes.
            await self._take_back(line, question, self._rng.uniform(0.0, 1.5 * self._typical_s))
        elif fate < CANCELLED_SHARE + MALFORMED_SHARE:
            if self._rng.random() < 0.25:
                await self._send_no_message()
            else:
                await self._see_end(line, malformed(question.template, self._rng).ask())
        else:
            await self._see_end(line, question)

    async def _see_end(self, line: GrpcConnection, question: Question) -> None:
        try:
            async with asyncio.timeout(_ENDS_WITHIN_S):
                await line.ask(question)
            self.ends["answered"] += 1
        except Failed as failed:
            self.ends[failed.code] += 1
        except TimeoutError:
            self.ends["never"] += 1

    async def _take_back(self, line: GrpcConnection, question: Question, after_s: float) -> None:
        asking = asyncio.create_task(line.ask(question))
        done, _ = await asyncio.wait([asking], timeout=after_s)
        if done:
            self.ends["answered before it was taken back"] += 1
            await asking
            return
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        self.ends["taken back"] += 1

    async def _send_no_message(self) -> None:
        try:
            async for _ in self._ask_bytes(NO_MESSAGE):
                pass
            self.ends["answered"] += 1
        except grpc.aio.AioRpcError as error:
            ending = ending_of_call(error)
            self.ends[ending.code if isinstance(ending, Failed) else "refused"] += 1


async def measure(context: Context) -> dict[str, Any]:
    questions = context.pick(10_000, 300)
    rng = random.Random(context.seed)
    async with serving(context.model) as served:
        users = served.users(USERS, context.seed)
        target = served.target(users_per_channel=2)
        # What an allocator keeps after a crowd it keeps once: the crowd has to have been there before.
        warm = await closed_loop(
            target, users.numbers, users.draw, context.pick(10.0, 1.0), in_flight=IN_FLIGHT
        )
        await served.settled()
        start, start_bytes = await served.inventory(), served.resident_bytes()
        asking = _Asking(served, users, rng, typical_s=warm.latencies.at(50))
        lines = {user: await target.connect(user) for user in users.numbers}
        left = iter(range(questions))

        async def go_on_asking(user: int) -> None:
            for _ in left:
                await asking.ask(lines[user], user)

        async with asyncio.TaskGroup() as tasks:
            for user in users.numbers:
                for _ in range(IN_FLIGHT):
                    tasks.create_task(go_on_asking(user))
        settled = await served.settled()
        unended = sum(len(line.taken_back) for line in lines.values())
        strays = sum(line.strays for line in lines.values())
        for line in lines.values():
            await line.close()
        await asking.close()
        await target.close()
        await asyncio.sleep(context.pick(2.0, 0.5))
        end, end_bytes = await served.inventory(), served.resident_bytes()
        closed = await served.metrics()
    return {
        "questions": questions,
        "ends": dict(asking.ends),
        "taken_back_unended": unended,
        "ended_twice": strays,
        "queue_depth": settled["tokenlink_queue_depth"],
        "batch_rows": settled["tokenlink_batch_rows"],
        "sessions": closed["tokenlink_sessions"],
        "inventory_before": start,
        "inventory_after": end,
        "start_bytes": start_bytes,
        "end_bytes": end_bytes,
    }


def claims(found: Values) -> list[Claim]:
    ends = found["ends"]
    once = sum(count for end, count in ends.items() if end != "never") - found["taken_back_unended"]
    before, after = found["inventory_before"], found["inventory_after"]
    left_behind = sum(max(after[name] - before[name], 0) for name in after)
    expected = {"answered", "answered before it was taken back", "taken back", "invalid_argument"}
    return [
        Claim(
            f"Of {found['questions']} questions, ended more or less than once",
            "at most",
            0,
            abs(found["questions"] - once) + found["ended_twice"],
        ),
        Claim(
            "... ended for a reason that was not theirs",
            "at most",
            0,
            sum(count for end, count in ends.items() if end not in expected),
        ),
        Claim(
            "Waiting, running, sessions, tasks and objects left behind",
            "at most",
            0,
            found["queue_depth"] + found["batch_rows"] + found["sessions"] + left_behind,
        ),
        Claim(
            "Memory after, over before",
            "at most",
            1.0 + MORE_MEMORY_SHARE,
            found["end_bytes"] / found["start_bytes"],
            sides={"after [bytes]": found["end_bytes"], "before [bytes]": found["start_bytes"]},
        ),
    ]


ROW = Row("endings", "Every question ends exactly once", measure, claims)
