"""Links that lose, delay, trickle, slice and vanish; what is asked over them comes home, and right."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from device_agent.outbox.outbox import Outbox
from device_agent.outbox.records import Bounds, Delivery
from tests.chaos.device import ask_all, outbox_of
from tests.chaos.judge import judge_deliveries, total
from tests.chaos.processes import ServerProcess
from tests.chaos.proxy import Impairment, Proxy
from tests.chaos.row import Check, Row, Scale, at_most, exactly

NOTICED_WITHIN_S = 30.0

Disturb = Callable[[Proxy], Awaitable[None]]


async def _leave_alone(proxy: Proxy) -> None:
    await asyncio.Event().wait()


async def _cut_often(proxy: Proxy) -> None:
    while True:
        await asyncio.sleep(1.0)
        proxy.cut()


async def _partition(proxy: Proxy) -> None:
    """Until both ends have noticed, once."""
    await asyncio.sleep(1.0)
    proxy.swallow()
    async with asyncio.timeout(NOTICED_WITHIN_S + 10):
        while {end for end, _ in proxy.noticed} != {"device", "server"}:
            await asyncio.sleep(0.05)
    proxy.heal()
    await asyncio.Event().wait()


@dataclass(frozen=True)
class Case:
    """A kind of link."""

    impairment: Impairment
    disturb: Disturb = _leave_alone


CASES: dict[str, Case] = {
    "loss 1 %": Case(Impairment(reset_probability=0.01)),
    "loss 5 %": Case(Impairment(reset_probability=0.05)),
    "loss 20 %": Case(Impairment(reset_probability=0.2)),
    "latency 500 ms": Case(Impairment(latency_s=0.5)),
    "64 kbit/s": Case(Impairment(bandwidth_bps=64_000)),
    "slices of 7 bytes": Case(Impairment(slice_bytes=7)),
    "resets each second": Case(Impairment(), _cut_often),
    "partition": Case(Impairment(), _partition),
}
SLOW = frozenset(("loss 20 %", "partition"))
"""Not at the smallest scale."""
QUESTIONS: dict[Scale, int] = {"test": 10, "quick": 10, "full": 200}
PACE_S: dict[Scale, float] = {"test": 0.1, "quick": 0.2, "full": 0.3}
WITHIN_S: dict[Scale, float] = {"test": 40.0, "quick": 120.0, "full": 600.0}


async def run(scale: Scale, folder: Path) -> Row:
    """See the module. All kinds at once, each on a link of its own."""
    cases = {name: case for name, case in CASES.items() if scale != "test" or name not in SLOW}
    server = ServerProcess(folder)
    await server.up()
    try:
        async with asyncio.timeout(WITHIN_S[scale]):
            ended = await asyncio.gather(
                *(_one(scale, folder, number, case, server) for number, case in enumerate(cases.values()))
            )
    finally:
        await server.kill()
    questions = QUESTIONS[scale]
    verdict = total(
        [
            judge_deliveries(number, questions, folder, deliveries)
            for number, (deliveries, _) in enumerate(ended)
        ]
    )
    checks = [
        exactly("answered", verdict.answered, questions * len(cases)),
        exactly("lost", verdict.lost, 0),
        exactly("wrong", verdict.wrong, 0),
        exactly("shown twice", verdict.twice, 0),
        exactly("out of order", verdict.unordered, 0),
    ]
    proxies = dict(zip(cases, (proxy for _, proxy in ended), strict=True))
    if "partition" in cases:
        checks += [_noticed("device", proxies["partition"]), _noticed("server", proxies["partition"])]
    return Row(
        "impairments",
        f"{questions} questions over each of: {', '.join(cases)}",
        checks,
        {
            "connections": {name: proxy.accepted for name, proxy in proxies.items()},
            "resets_by_loss": {name: proxy.resets for name, proxy in proxies.items()},
        },
    )


def _noticed(end: str, proxy: Proxy) -> Check:
    first_s = min(after_s for who, after_s in proxy.noticed if who == end)
    return at_most(f"the {end} noticed a dead peer after [s]", first_s, NOTICED_WITHIN_S)


async def _one(
    scale: Scale, folder: Path, number: int, case: Case, server: ServerProcess
) -> tuple[list[Delivery], Proxy]:
    shown: list[Delivery] = []
    async with Proxy("127.0.0.1", server.port, case.impairment, random.Random(number)) as proxy:
        disturbing = asyncio.ensure_future(case.disturb(proxy))
        try:
            async with Outbox(outbox_of(folder, number), Bounds()) as outbox:
                await ask_all(
                    outbox,
                    number,
                    QUESTIONS[scale],
                    server=proxy.address,
                    pace_s=PACE_S[scale],
                    show=shown.append,
                    token_length=32,
                )
        finally:
            disturbing.cancel()
            await asyncio.gather(disturbing, return_exceptions=True)
    return shown, proxy
