"""One contestant's turn: what is measured while its server is the only one that runs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.loadtest.generator import closed_loop, open_loop
from deploy.loadtest.measurement import Measurement
from deploy.loadtest.running import held
from deploy.loadtest.target import Connection, Question, Target
from tests.benchmarks.peers.environments import ROOT
from tests.benchmarks.peers.questions import Group, draw_from
from tests.benchmarks.peers.serving import Served

_MOST_OUTSTANDING = 512
"""Open loop: a server that is this far behind cannot keep up; what comes on top is dropped and counted."""


@dataclass(frozen=True)
class Load:
    """How many ask, and for how long.

    Attributes:
        users: at once.
        seconds: that are measured [s].
        warm_s: before them, not measured [s].
    """

    users: int
    seconds: float
    warm_s: float


class Checked:
    """A target whose answers are compared with those that are expected. Implements the generator's target.

    Args:
        target: who is asked.
        expected: text of the answer by serialized question, without its request_id.

    Attributes:
        wrong: answers that were other texts.
        example: one of them, for people.
    """

    def __init__(self, target: Target, expected: Mapping[bytes, str]) -> None:
        self._target = target
        self._expected = expected
        self.wrong = 0
        self.example = ""

    async def connect(self, user: int) -> CheckedConnection:
        """A connection whose answers count here."""
        return CheckedConnection(await self._target.connect(user), self)

    def compare(self, question: Question, text: str) -> None:
        """Count one answer."""
        expected = self._expected[question.template.data]
        if text != expected:
            self.wrong += 1
            self.example = f"{question.template.text!r}: {text!r}, expected {expected!r}"


class CheckedConnection:
    """One user of a :class:`Checked`."""

    def __init__(self, connection: Connection, checked: Checked) -> None:
        self._connection = connection
        self._checked = checked

    async def ask(self, question: Question) -> str:
        """Ask and compare."""
        text = await self._connection.ask(question)
        self._checked.compare(question, text)
        return text

    async def close(self) -> None:
        """Close."""
        await self._connection.close()


async def answers(served: Served, groups: Sequence[Group], users: int) -> dict[bytes, str]:
    """What a server answers to every question, asked once.

    Raises:
        Refused, Failed: to one of them it does not.
    """
    left = [template for group in groups for template in group]
    texts: dict[bytes, str] = {}

    async def ask_on(connection: Connection) -> None:
        while left:
            template = left.pop()
            texts[template.data] = await connection.ask(template.ask())

    async with held(served.target, range(users)) as (door, _), asyncio.TaskGroup() as tasks:
        for user in range(users):
            tasks.create_task(ask_on(await door.connect(user)))
    return texts


async def closed_turn(
    served: Served, groups: Sequence[Group], expected: Mapping[bytes, str], load: Load, seed: int
) -> dict[str, Any]:
    """All users ask as fast as they are answered: throughput, and the CPU time that it takes."""
    checked = Checked(served.target, expected)
    questions, users = draw_from(groups, seed), range(load.users)
    async with held(checked, users) as (door, _):
        await closed_loop(door, users, questions, load.warm_s)
        cpu_s, own_s = served.process.cpu_s(), time.process_time()
        measured = await closed_loop(door, users, questions, load.seconds)
        cpu_s, own_s = served.process.cpu_s() - cpu_s, time.process_time() - own_s
    answered = max(measured.outcomes["answered"], 1)
    return _figures(measured, checked) | {
        "cpu_s_per_question": cpu_s / answered,
        "generator_cpu_s_per_question": own_s / answered,
    }


async def open_turn(
    served: Served,
    groups: Sequence[Group],
    expected: Mapping[bytes, str],
    load: Load,
    rate_hz: float,
    seed: int,
) -> dict[str, Any]:
    """Questions arrive at a rate of their own: latency from the intended send time."""
    checked = Checked(served.target, expected)
    questions, users = draw_from(groups, seed), range(load.users)
    arrivals = random.Random(seed)
    async with held(checked, users) as (door, _):
        for seconds in (load.warm_s, load.seconds):
            measured = await open_loop(
                door, users, questions, rate_hz, seconds, rng=arrivals, most_outstanding=_MOST_OUTSTANDING
            )
    return _figures(measured, checked) | {"offered_hz": rate_hz}


def _figures(measured: Measurement, checked: Checked) -> dict[str, Any]:
    return {
        "answered_hz": measured.answered_hz,
        "p50_s": measured.latencies.at(50.0),
        "p99_s": measured.latencies.at(99.0),
        "generator_lag_p99_s": measured.lag.at(99.0),
        "answered": measured.outcomes["answered"],
        "not_answered": measured.ended - measured.outcomes["answered"],
        "dropped": measured.dropped,
        "faults": dict(measured.faults),
        "wrong": checked.wrong,
        "wrong_example": checked.example,
    }


class LimitError(Exception):
    """The offline loop failed."""


def limit_turn(
    model: Path,
    workloads: Mapping[str, Sequence[Group]],
    expected: Mapping[bytes, str],
    *,
    threads: int,
    batch: int,
    seconds: float,
    folder: Path,
) -> dict[str, Any]:
    """The offline loop over every workload, in a process of its own.

    Raises:
        LimitError: it fails.
    """
    path = folder / "questions.json"
    packed = {
        workload: [[base64.b64encode(each.data).decode() for each in group] for group in groups]
        for workload, groups in workloads.items()
    }
    path.write_text(json.dumps(packed), encoding="utf-8")
    command = [sys.executable, "-m", "tests.benchmarks.peer_servers.offline", path, "--model", model]
    numbers = ["--threads", threads, "--batch", batch, "--seconds", seconds]
    done = subprocess.run(
        [str(part) for part in (*command, *numbers)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LimitError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    figures = {}
    for workload, found in json.loads(done.stdout).items():
        texts = [text for group in found["texts"] for text in group]
        asked = [each for group in workloads[workload] for each in group]
        figures[workload] = {
            "answered_hz": found["questions"] / found["wall_s"],
            "cpu_s_per_question": found["cpu_s"] / found["questions"],
            "answered": found["questions"],
            "wrong": sum(text != expected[each.data] for text, each in zip(texts, asked, strict=True)),
        }
    return figures
