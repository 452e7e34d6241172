"""Servers that mean harm, or are broken, against the whole agent: each of its commands, as a process.

A server is drawn from its number, and so is what is asked of it. Whatever it does, the agent ends by its
deadline, in bounded memory, with an exit code that is documented, and nothing that a terminal would obey.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from device_agent.bundle.bundle import load_bundle
from device_agent.errors import DeviceAgentError
from tests.chaos.malicious import SHIPPED, Harm, archives
from tests.chaos.row import Check, Row, Scale, Settled, at_most, exactly

ROOT = Path(__file__).resolve().parents[3]
SERVERS: Mapping[Scale, int] = MappingProxyType({"test": 10, "quick": 40, "full": 1000})
MOST_BYTES = 250e6
MOST_LATE_S = 5.0
"""Past its deadline an agent may take this long to end; counted from its first call of the server [s]."""
EXIT_CODES = frozenset({0, *range(1, 12), -signal.SIGTERM})
_AT_ONCE = 4
_KILLED_AFTER_S = 300.0
_LOOK_EVERY_S = 0.05
_PROMISE = "Malicious server, every kind of 12, 1,000 random ones: the agent"
_CLIP = ROOT / "deploy" / "demo" / "clips" / "soundstage_test_000001.mp4"
_OBEYED = frozenset(
    chr(code)
    for code in (
        *(code for code in range(32) if code != ord("\n")),
        *range(0x7F, 0xA0),
        *(0x61C, 0x200B, 0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF, *range(0x202A, 0x202F)),
        *(*range(0x2066, 0x206A), *range(0xE0000, 0xE0080)),
    )
)
"""What no terminal may be sent of a server's words."""


@dataclass(frozen=True)
class Command:
    """What is called.

    Attributes:
        arguments: of ``device-agent``, without the server.
        ends_s: how long after its first call it has to end by itself, or by SIGTERM [s].
        terminated: whether it is ended by SIGTERM then.
    """

    arguments: Sequence[str]
    ends_s: float
    terminated: bool = False


@dataclass(frozen=True)
class Outcome:
    """What one agent did.

    Attributes:
        number: of the server.
        command: what was called.
        did: what the server did.
        code: exit code.
        late_s: past its deadline [s].
        peak_bytes: most memory of the agent's process.
        prover_bytes: of the process in which it tries a bundle.
        raw: what a terminal would have obeyed.
        traceback: whether there was one.
        unsound: whether what lies in the bundle's folder afterwards is no sound bundle.
    """

    number: int
    command: tuple[str, ...]
    did: tuple[str, ...]
    code: int
    late_s: float
    peak_bytes: int
    prover_bytes: int
    raw: str
    traceback: bool
    unsound: bool


async def run(scale: Scale, folder: Path) -> Row:
    """Every server once, some at a time."""
    made = await asyncio.to_thread(archives, folder / "drafts")
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> Outcome:
        async with places:
            return await meet(number, made, folder / f"agent-{number}")

    outcomes = await asyncio.gather(*(one(number) for number in range(SERVERS[scale])))
    slowest = max(outcomes, key=lambda outcome: outcome.late_s)
    largest = max(outcomes, key=lambda outcome: outcome.peak_bytes)
    wrong = [
        outcome
        for outcome in outcomes
        if outcome.raw or outcome.traceback or outcome.unsound or outcome.code not in EXIT_CODES
    ]
    kinds = sorted({kind for outcome in outcomes for kind in outcome.did})
    checks = [
        at_most("the latest end past its deadline [s]", slowest.late_s, MOST_LATE_S),
        at_most("most memory of an agent [MB]", largest.peak_bytes / 1e6, MOST_BYTES / 1e6),
        exactly("outputs that a terminal would obey", sum(bool(each.raw) for each in outcomes), 0),
        exactly("tracebacks", sum(each.traceback for each in outcomes), 0),
        exactly(
            "exit codes that are not documented", sum(each.code not in EXIT_CODES for each in outcomes), 0
        ),
        exactly("bundles installed that are not sound", sum(each.unsound for each in outcomes), 0),
    ]
    return Row(
        "Malicious servers",
        f"{len(outcomes)} servers drawn at random, each met by a command of the agent",
        checks,
        {
            "slowest": asdict(slowest),
            "largest": asdict(largest),
            "most memory of a process that tries a bundle [MB]": max(
                outcome.prover_bytes for outcome in outcomes
            )
            / 1e6,
            "wrong": [asdict(outcome) for outcome in wrong[:20]],
            "servers did": kinds,
            "exit codes": {
                str(code): sum(outcome.code == code for outcome in outcomes)
                for code in sorted({outcome.code for outcome in outcomes})
            },
        },
        [settled(checks)],
    )


def settled(checks: Sequence[Check]) -> Settled:
    """What the checks say of the promise."""
    late_s, megabytes, raw = (check.found for check in checks[:3])
    told = (
        f"at most {late_s:.1f} s past its deadline, {megabytes:.0f} MB, {raw:g} outputs that a terminal obeys"
    )
    return Settled(_PROMISE, told, all(check.kept for check in checks))


def shown(arguments: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Arguments without where this checkout and the agent's files happen to lie."""
    return tuple(each.replace(f"{ROOT}/", "").replace(str(folder), "FOLDER") for each in arguments)


async def meet(number: int, made: Mapping[str, bytes], folder: Path) -> Outcome:
    """One agent meets one server; what is left of it is removed.

    Args:
        number: both are drawn from it.
        made: bundles that the server gives.
        folder: for the agent's files.
    """
    folder.mkdir(parents=True)
    command = drawn(random.Random(f"command {number}"), folder)
    harm = Harm(number, made)
    server, port = harm.server()
    await server.start()
    try:
        code, ended_s, peaks, output = await _call(command, harm, port, folder)
    finally:
        await server.stop(0)
    text = output.decode("utf-8", "replace")
    outcome = Outcome(
        number,
        shown(command.arguments, folder),
        tuple(dict.fromkeys(harm.did)),
        code,
        0.0 if harm.met_s is None else ended_s - harm.met_s - command.ends_s,
        peaks[0],
        max(peaks[1:], default=0),
        "".join(sorted(set(text) & _OBEYED)),
        "Traceback" in text,
        _unsound(folder / "bundle"),
    )
    shutil.rmtree(folder)
    return outcome


def drawn(rng: random.Random, folder: Path) -> Command:
    """A command of the agent, with a bundle of its own."""
    bundle = folder / "bundle"
    shutil.copytree(SHIPPED, bundle)
    clip = [str(_CLIP)] if rng.random() < 0.5 else []
    as_json = ["--json"] if rng.random() < 0.3 else []
    asked = ["Is there a voiceover?", "--deadline-s", "4", "--outbox-max-bytes", "1048576", *as_json]
    taken = ["--bundle-proof-s", "2", "--fetch-within-s", "6"]
    name = rng.choice(
        ("ask", "ask", "ask", "update", "update", "spool", "pull", "pull", "pull", "doctor", "watch", "bench")
    )
    match name:
        case "ask":
            return Command(["ask", *clip, *asked], 4.0)
        case "update":
            return Command(["ask", *clip, *asked, "--auto-update", *taken], 4.0)
        case "spool":
            return Command(["ask", *clip, *asked, "--spool"], 4.0)
        case "pull":
            if rng.random() < 0.5:
                shutil.rmtree(bundle)
            return Command(["pull", *taken, *as_json], 6.0)
        case "doctor":
            return Command(["doctor", *as_json], 25.0)
        case "watch":
            (folder / "seen").mkdir()
            shutil.copy(_CLIP, folder / "seen" / "clip.mp4")
            more = ["--auto-update", *taken] if rng.random() < 0.5 else []
            return Command(["watch", str(folder / "seen"), *asked, *more], 8.0, terminated=True)
        case _:
            return Command(["bench", str(_CLIP), *asked[:3], "--repeats", "2", *as_json], 60.0)


async def _call(command: Command, harm: Harm, port: int, folder: Path) -> tuple[int, float, list[int], bytes]:
    """Exit code, when it ended [s], most memory of an agent and of each child [bytes], and its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOKENLINK_")}
    environment |= {
        "TOKENLINK_DEVICE_BUNDLE": str(folder / "bundle"),
        "TOKENLINK_DEVICE_CONFIG": str(folder / "none.toml"),
        "TOKENLINK_DEVICE_SERVER": f"127.0.0.1:{port}",
        "XDG_STATE_HOME": str(folder / "state"),
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")]),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "device_agent.cli.start", *command.arguments),
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    started_s = time.monotonic()
    peaks = {process.pid: 0}
    output = asyncio.ensure_future(process.communicate())
    ended_by_us = False
    while not output.done():
        for pid in (process.pid, *_children(process.pid)):
            peaks[pid] = max(peaks.get(pid, 0), _peak_bytes(pid))
        took_s = 0.0 if harm.met_s is None else time.monotonic() - harm.met_s
        with contextlib.suppress(ProcessLookupError):
            if time.monotonic() - started_s > _KILLED_AFTER_S:
                process.kill()
            elif command.terminated and took_s > command.ends_s and not ended_by_us:
                ended_by_us = True
                process.send_signal(signal.SIGTERM)
        await asyncio.wait([output], timeout=_LOOK_EVERY_S)
    out, _ = await output
    return process.returncode or 0, time.monotonic(), list(peaks.values()), out


def _children(pid: int) -> list[int]:
    try:
        of_threads = [(thread / "children").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    return [int(child) for children in of_threads for child in children.split()]


def _peak_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _unsound(folder: Path) -> bool:
    if not folder.exists():
        return False
    try:
        load_bundle(folder)
    except DeviceAgentError:
        return True
    return False
