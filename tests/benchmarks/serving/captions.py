"""One-word answers while long captions decode: how much longer do they take?

A batch that is refilled only when all of it has ended would hold every one-word answer back until the longest
caption is told. Short questions arrive at a steady rate, a share of what the server can do; in every second
turn 8 users have captions told all the time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from deploy.loadtest.generator import Manners, closed_loop, open_loop
from deploy.loadtest.measurement import Measurement
from deploy.loadtest.questions import template_of
from deploy.loadtest.running import held
from deploy.loadtest.target import Connection, Template
from deploy.loadtest.users import Users
from protos.names import MODALITIES
from tests.benchmarks.serving.row import Claim, Context, Row, Values, spread
from tests.benchmarks.serving.served import ServedModel, serving

CAPTION_USERS = 8
SHORT_USERS = 16
SHARE_OF_CAPACITY = 0.25
"""The rate of short questions; the captions need a part of the server too."""
LEAST_RATE_HZ = 5.0
"""Below that there would be no percentiles."""
CAPTION_TOKENS = 256
#: What the shipped model may answer with a caption; which it does, and how long, is found out by asking.
PROMPTS = ("Caption.", "Describe the scene in detail.", "Describe the video.", "piano piano piano")


async def longest_caption(served: ServedModel, users: Users, line: Connection) -> tuple[Template, int]:
    """Of the prompts, with and without blocks, the one that is answered at greatest length, in words."""
    found: list[tuple[int, Template]] = []
    for prompt in PROMPTS:
        for modalities in ((), ("audio",), ("video",), ("video", "audio")):
            asked = users.draw(users.numbers[0]).template.message.payloads if modalities else ()
            blocks = [block for block in asked if MODALITIES.of_number[block.modality] in modalities]
            template = template_of(served.bundle, prompt, blocks, max_new_tokens=CAPTION_TOKENS)
            found.append((len((await line.ask(template.ask())).split()), template))
    words, template = max(found, key=lambda pair: pair[0])
    return template, words


async def measure(context: Context) -> dict[str, Any]:
    seconds = context.pick(15.0, 2.0)
    repeats = context.pick(5, 1)
    rng = random.Random(context.seed)
    without: list[Measurement] = []
    beside: list[Measurement] = []
    told: list[int] = []
    async with serving(context.model) as served:
        short = served.users(SHORT_USERS, context.seed, max_new_tokens=4, modalities=(("video", "audio"),))
        captions = range(SHORT_USERS, SHORT_USERS + CAPTION_USERS)
        target = served.target(users_per_channel=1)
        async with held(target, short.numbers) as (door, _):
            line = await door.connect(short.numbers[0])
            caption, words = await longest_caption(served, short, line)
            busy = await closed_loop(door, short.numbers, short.draw, context.pick(5.0, 1.0))
            rate_hz = max(SHARE_OF_CAPACITY * busy.answered_hz, LEAST_RATE_HZ)

            async def ask_short() -> Measurement:
                return await open_loop(door, short.numbers, short.draw, rate_hz, seconds, rng=rng)

            for _ in range(repeats):
                without.append(await ask_short())
                # Not before: a stream that says nothing for long is taken for a slow sender's and ended.
                async with held(target, captions) as (captioned, _):
                    telling = asyncio.create_task(
                        closed_loop(
                            captioned,
                            captions,
                            lambda user: caption.ask(),
                            seconds + 0.5,
                            manners=Manners(0.0),
                        )
                    )
                    await asyncio.sleep(0.25)  # so that captions decode when the first short question comes
                    beside.append(await ask_short())
                    told.append((await telling).outcomes["answered"])
        await target.close()
    return {
        "rate_hz": rate_hz,
        "caption_words": words,
        "captions_told": told,
        "without_captions": _summary(without),
        "with_captions": _summary(beside),
        "p99_ratio": spread(
            [b.latencies.at(99) / a.latencies.at(99) for a, b in zip(without, beside, strict=True)]
        ),
    }


def claims(found: Values) -> list[Claim]:
    return [
        Claim(
            f"One-word answers beside {CAPTION_USERS} captions of {found['caption_words']} words: p99 over "
            "that without",
            "at most",
            2.0,
            found["p99_ratio"]["median"],
            sides={
                f"{which} [s]": found[f"{which}_captions"]["p99_s"]["median"] for which in ("with", "without")
            },
        ),
        Claim(
            "Captions told meanwhile, in the turn with the fewest", "at least", 1, min(found["captions_told"])
        ),
    ]


def _summary(runs: Sequence[Measurement]) -> dict[str, Any]:
    return {
        "p50_s": spread([run.latencies.at(50) for run in runs]),
        "p99_s": spread([run.latencies.at(99) for run in runs]),
        "answered": [run.outcomes["answered"] for run in runs],
        "not_answered": [run.sent - run.outcomes["answered"] for run in runs],
    }


ROW = Row("captions", "Short answers beside long captions", measure, claims)
