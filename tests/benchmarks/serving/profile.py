"""Where the server's time goes while 64 users ask: a sampling profile, by what a question passes.

py-spy looks at all threads of the server and its processes, many times a second, from outside. A sample
counts for the innermost place that is known by name, and a thread's CPU time is shared out among its samples:
who waits is sometimes taken for one who works, but uses none. It needs the right to look into another process
(root, or ``kernel.yama.ptrace_scope = 0``).
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import sysconfig
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from deploy.loadtest.generator import closed_loop
from deploy.loadtest.running import held
from tests.benchmarks.serving.row import Claim, Context, Row, Values
from tests.benchmarks.serving.served import ServedModel, serving

USERS = 64
SAMPLES_HZ = 200

PLACES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "PromptLayout._receive": ("core", "receivers"),
        "PromptLayout.": ("core", "laying prompts out"),
        "Decoder.prefill": ("core", "foundation: prefill"),
        "Decoder.decode": ("core", "foundation: decode"),
        "ServedLink._say": ("core", "choosing words"),
        "ModelRunnerProcess.": ("core", "between processes"),
        "_compute": ("core", "between processes"),
        "Scheduler.": ("core", "scheduler, slots"),
        "Detokenizer.": ("post", "words to text"),
        "request_of": ("loop", "decoding payloads"),
        "Cell.ask": ("loop", "admission"),
        "Engine.": ("loop", "handing over"),
        "Downlink.write": ("loop", "writing answers"),
        "TokenLinkService.": ("loop", "frames and streams"),
        "(edge_server/frontdoor/grpc/downlink.py": ("loop", "frames and streams"),
        "(asyncio/": ("loop", "event loop, gRPC"),
    }
)
"""What stands in a frame, and what that is part of; of two that stand in one frame, the first counts."""
ELSEWHERE = ("other", "everything else")
WAITING = ("Condition.wait", "Event.wait", "Connection._recv")
"""Innermost frames of threads that wait."""


def place_of(stack: str) -> tuple[str, str]:
    """Part and place of one stack.

    Args:
        stack: frames from the thread to the innermost, separated by semicolons.
    """
    for frame in reversed(stack.split(";")):
        for mark, place in PLACES.items():
            if mark in frame:
                return place
    return ELSEWHERE


def shares_of(lines: Iterable[str], cpu_s: Mapping[int, float]) -> dict[tuple[str, str], float]:
    """Share of each place in the CPU time, the largest first.

    Args:
        lines: stacks, each followed by the number of its samples (py-spy's format ``raw``).
        cpu_s: what each thread used meanwhile, by its number [s].
    """
    samples: defaultdict[int, Counter[tuple[str, str]]] = defaultdict(Counter)
    for line in lines:
        stack, count = line.rsplit(" ", 1)
        frames = stack.split(";")
        if not any(mark in frames[-1] for mark in WAITING):
            # Of a process that another has started, the first frame is its own.
            named = next(frame for frame in frames if frame.startswith("thread ("))
            samples[int(named.partition("(")[2].partition(")")[0])][place_of(stack)] += int(count)
    spent_s: defaultdict[tuple[str, str], float] = defaultdict(float)
    for thread, thread_s in cpu_s.items():
        seen = samples[thread] or Counter([ELSEWHERE])
        for place, times in seen.items():
            spent_s[place] += thread_s * times / seen.total()
    total_s = sum(spent_s.values())
    return {place: spent_s[place] / total_s for place in sorted(spent_s, key=lambda each: -spent_s[each])}


async def measure(context: Context) -> dict[str, Any]:
    seconds = context.pick(30, 1)
    async with serving(context.model) as served:
        users = served.users(USERS, context.seed)
        target = served.target()
        async with held(target, users.numbers) as (door, _):
            await closed_loop(door, users.numbers, users.draw, context.pick(3.0, 0.5))
            began_cpu_s = served.cpu_s()
            # The time of looking is not the server's, but it slows the server down: costs come without it.
            run = await closed_loop(door, users.numbers, users.draw, seconds)
            cpu_s = (served.cpu_s() - began_cpu_s) / run.outcomes["answered"]
            looking = asyncio.create_task(_sampled(served, seconds))
            asking = closed_loop(door, users.numbers, users.draw, seconds + context.pick(3.0, 2.0))
            shares, _ = await asyncio.gather(looking, asking)
        await target.close()
    return {
        "users": USERS,
        "cpu_s_per_question": cpu_s,
        "places": [{"part": part, "place": place, "share": share} for (part, place), share in shares.items()],
    }


async def _sampled(served: ServedModel, seconds: int) -> dict[tuple[str, str], float]:
    program = shutil.which("py-spy", path=sysconfig.get_path("scripts")) or "py-spy"
    with tempfile.TemporaryDirectory() as scratch:
        stacks = Path(scratch, "stacks")
        command = [
            program,
            "record",
            "--format",
            "raw",
            "--threads",
            "--subprocesses",
            "--output",
            str(stacks),
        ]
        command += ["--rate", str(SAMPLES_HZ), "--duration", str(seconds), "--pid", str(served.pid)]
        began_s = served.cpu_s_by_thread()
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        if process.returncode:
            sys.stderr.write(said.decode(errors="replace"))
            raise RuntimeError(f"py-spy ended with {process.returncode}")
        cpu_s = {thread: s - began_s.get(thread, 0.0) for thread, s in served.cpu_s_by_thread().items()}
        return shares_of(stacks.read_text(encoding="utf-8").splitlines(), cpu_s)


def claims(found: Values) -> list[Claim]:
    """Nothing was promised."""
    return []


def plot(found: Values, picture: Path) -> None:
    """CPU time of a question, place by place."""
    from matplotlib.figure import Figure

    places = found["places"]
    total_ms = 1e3 * found["cpu_s_per_question"]
    colours = {"core": "tab:blue", "loop": "tab:orange", "post": "tab:green", "other": "tab:gray"}
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(
        [f"{each['place']} ({each['part']})" for each in places],
        [total_ms * each["share"] for each in places],
        color=[colours[each["part"]] for each in places],
    )
    axes.invert_yaxis()
    axes.set_xlabel(f"CPU time of the server per question [ms], of {total_ms:.2f} ms")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(picture, dpi=150)


ROW = Row("profile", "Where the time goes", measure, claims, plot)
