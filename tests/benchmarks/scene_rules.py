"""Standing questions in number: 1,000 rules over 50 devices, told to a real broker, beside somebody who asks.

    python -m tests.benchmarks.scene_rules --out docs/results/scene_rules.json

Scenes are two of the demo's clips, encoded once. What the shipped model answers about each is asked first,
so it is known when each rule has to turn. Then devices share one or the other, in an order of their own,
and what mosquitto hears is compared with what was to be heard. Meanwhile somebody asks one question after
another, from a process of their own. Three kinds of windows take turns, one of each for every scene: a
device with rules shares, until all of its rules are judged and told; a device without rules shares, and as
long; nobody shares, and as many questions. The slowest of a hundred are compared: rules are what the first
has over the second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import multiprocessing
import random
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from deploy.with_server import edge_server
from device_agent.bundle.bundle import load_bundle
from device_agent.media.loading import clip_from_file
from device_agent.transmitter import Transmitter
from device_agent.uplink.uplink import Uplink
from edge_server.model.provenance import current_commit
from edge_server.scenes.rule_file import RuleFile
from edge_server.scenes.rules import Rule, RuleState
from edge_server.scenes.sqlite import SqliteScenes
from protos import payload
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.benchmarks.device_report import machine
from tests.broker import Broker

WHAT = "Standing questions, 1,000 rules over 50 devices: missed; doubled; interactive p99 over that without"
"""As in ``promises/asked/scenes.toml``."""
CLIPS = ("soundstage_test_000001.mp4", "soundstage_test_000014.mp4")
INSTRUMENTS = (
    "saxophone",
    "guitar",
    "drum",
    "violin",
    "trumpet",
    "piano",
    "banjo",
    "accordion",
    "conga",
    "flute",
)
QUESTIONS = tuple(
    text.format(name)
    for name in INSTRUMENTS
    for text in ("Is there a {} sound?", "Is there a {} in the video?")
)
_TOKEN_LENGTH = 16
_EVERY_S = 10.0
_PATIENCE_S = 300.0
_QUIET_S = 2.0
_LOOK_EVERY_S = 0.05


class House:
    """Devices that share, and somebody who asks.

    Args:
        uplink: to the server.
        bundle: of its model.
        clips: two.
    """

    def __init__(self, uplink: Uplink, bundle: Path, clips: Sequence[Path]) -> None:
        loaded = load_bundle(bundle)
        transmitter = Transmitter(loaded)
        self._uplink = uplink
        self.kinds = [
            [
                payload.encode(x_TC, modality, "float16", pb.ChannelReport(effective_snr_db=30.0))
                for modality, x_TC in transmitter.encode(
                    clip_from_file(clip, spec=loaded.media_spec()), _TOKEN_LENGTH
                ).tokens.items()
            ]
            for clip in clips
        ]

    async def share(self, device: str, kind: int, number: int) -> None:
        """One scene, the number-th of a device."""
        share = pb.Share(device=device, start_s=1e6 + _EVERY_S * number, length_s=4.0)
        question = pb.Question(
            request_id=uuid.uuid4().hex,
            payloads=self.kinds[kind],
            share=share,
            whole_answer=True,
            priority=pb.PRIORITY_BACKGROUND,
        )
        await self._uplink.ask(question, deadline_s=_PATIENCE_S)

    async def ask(self, device: str, text: str) -> str:
        """An answer about a device's latest scene; empty where there is none."""
        return (await _ask(self._uplink, device, text))[0]


class SomebodyAsks:
    """Asks about one device, a question after another, in a process of its own.

    Args:
        address: of the server.
        bundle: of its model.
        device: whose latest scene.
    """

    def __init__(self, address: str, bundle: Path, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._end, theirs = context.Pipe()
        self._process = context.Process(target=_keep_asking, args=(theirs, address, bundle, device))
        self._process.start()

    async def ask(self, count: int) -> list[float]:
        """So many; how long each took [s]."""
        self._end.send(count)
        return await self._took_s()

    async def begin(self) -> None:
        """Ask until :meth:`end`."""
        self._end.send(None)

    async def end(self) -> list[float]:
        """Enough; how long each took since it began [s]."""
        self._end.send(0)
        return await self._took_s()

    async def _took_s(self) -> list[float]:
        took_s: list[float] = await asyncio.to_thread(self._end.recv)
        return took_s

    def close(self) -> None:
        """End the process."""
        self._end.close()
        self._process.join()


def _keep_asking(orders: Connection, address: str, bundle: Path, device: str) -> None:
    """What the process does: a number of questions, or (None) until the next order, which is 0."""
    with contextlib.suppress(EOFError):
        asyncio.run(_obey(orders, address, bundle, device))


async def _obey(orders: Connection, address: str, bundle: Path, device: str) -> None:
    async with Uplink(
        address, load_bundle(bundle).hash, device_id="somebody", lasting=lambda: 1e6 + 1e5
    ) as uplink:
        while True:
            count: int | None = await asyncio.to_thread(orders.recv)
            took_s: list[float] = []
            while not orders.poll() if count is None else len(took_s) < count:
                took_s.append((await _ask(uplink, device, QUESTIONS[len(took_s) % len(QUESTIONS)]))[1])
            if count is None:
                orders.recv()
            orders.send(took_s)


async def _ask(uplink: Uplink, device: str, text: str) -> tuple[str, float]:
    question = pb.Question(
        request_id=uuid.uuid4().hex[:8],
        scenes=[pb.SceneRef(device=device)],
        question_text=text,
        whole_answer=True,
    )
    began_s = time.monotonic()
    answer = (await uplink.ask(question, deadline_s=_PATIENCE_S)).answer
    return "" if answer.abstained else answer.text, time.monotonic() - began_s


@contextlib.contextmanager
def _somebody(address: str, bundle: Path, device: str) -> Iterator[SomebodyAsks]:
    somebody = SomebodyAsks(address, bundle, device)
    try:
        yield somebody
    finally:
        somebody.close()


async def measure(
    address: str, arguments: argparse.Namespace, scenes: Path, broker: Broker
) -> dict[str, Any]:
    """Ask, add rules, share, listen."""
    bundle = arguments.model / "bundle"
    demo = Path("deploy/demo/clips")
    rng = random.Random(1)
    devices = [f"camera-{number}" for number in range(arguments.devices)]
    each = arguments.rules // arguments.devices
    heard: list[tuple[str, str, bool]] = []
    async with (
        Uplink(address, load_bundle(bundle).hash, device_id="bench", lasting=lambda: 1e6 + 1e5) as uplink,
        contextlib.AsyncExitStack() as leaving,
    ):
        house = House(uplink, bundle, [demo / name for name in CLIPS])
        answers: list[dict[str, str]] = []
        for kind in range(2):
            await house.share(f"kind-{kind}", kind, 0)
            answers.append({text: await house.ask(f"kind-{kind}", text) for text in QUESTIONS})
        rules = [
            Rule(
                f"r{number}-{index}",
                QUESTIONS[index % len(QUESTIONS)],
                device,
                # The first clip's answer, so that it turns whenever the other one differs.
                answers[0][QUESTIONS[index % len(QUESTIONS)]] or "yes",
                0.0,
                (broker.url,),
                float(number),
            )
            for number, device in enumerate(devices)
            for index in range(each)
        ]
        store = SqliteScenes(scenes)
        for rule in rules:
            RuleFile(store).add(rule)
        listening = asyncio.create_task(broker.listen(heard))
        states: dict[str, RuleState] = defaultdict(RuleState)
        wanted: dict[str, list[str]] = defaultdict(list)
        by_device: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            by_device[rule.devices].append(rule)
        took_s: dict[str, list[float]] = {window: [] for window in ("rules", "sharing", "alone")}
        judged = 0
        somebody = leaving.enter_context(_somebody(address, bundle, "kind-0"))
        await somebody.ask(arguments.warm)
        for number in range(arguments.scenes):
            for place, device in enumerate(devices):
                kind = rng.randrange(2)
                for rule in by_device[device]:
                    judged += 1
                    start_s = 1e6 + _EVERY_S * number
                    before = states[rule.rule_id]
                    after = before.after(rule, answers[kind][rule.question], start_s, start_s + 4.0)
                    states[rule.rule_id] = after
                    if after.turned(before):
                        wanted[rule.rule_id].append("on" if after.is_on else "off")
                await somebody.begin()
                began_s = time.monotonic()
                await house.share(device, kind, number)
                await _none_left(store)
                window_s = time.monotonic() - began_s
                asked = await somebody.end()
                took_s["rules"] += asked
                for window in ("sharing", "alone") if place % 2 else ("alone", "sharing"):
                    if window == "alone":
                        took_s[window] += await somebody.ask(len(asked))
                        continue
                    await somebody.begin()
                    began_s = time.monotonic()
                    await house.share(f"plain-{device}", kind, number)
                    await _none_left(store, until_s=began_s + window_s)
                    took_s[window] += await somebody.end()
        await _none_left(store)
        await _silence(heard)
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
        store.close()
    told = judge(heard, wanted)
    return {
        **told,
        "rules": len(rules),
        "devices": len(devices),
        "scenes": arguments.scenes * len(devices),
        "background_questions": judged,
        "notices_wanted": sum(map(len, wanted.values())),
        "interactive": {
            **{
                window: {"asked": len(each), "p50_s": quantile(each, 0.5), "p99_s": quantile(each, 0.99)}
                for window, each in took_s.items()
            },
            "p99_ratio": quantile(took_s["rules"], 0.99) / quantile(took_s["sharing"], 0.99),
            "p99_ratio_to_alone": quantile(took_s["rules"], 0.99) / quantile(took_s["alone"], 0.99),
        },
    }


def judge(heard: Sequence[tuple[str, str, bool]], wanted: dict[str, list[str]]) -> dict[str, int]:
    """What was heard at the broker against what was to be."""
    events: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for topic, body, retained in heard:
        if topic.endswith("/event") and not retained:
            event = json.loads(body)
            events[event["rule"]].append(event)
    seen = [event["id"] for found in events.values() for event in found]
    missed = wrong = 0
    for rule_id in set(wanted) | set(events):
        states = [event["state"] for event in events[rule_id]]
        missed += max(len(wanted[rule_id]) - len(states), 0)
        wrong += states != wanted[rule_id]
    return {
        "notices_heard": len(seen),
        "missed": missed,
        "doubled": len(seen) - len(set(seen)),
        "rules_with_another_sequence": wrong,
    }


async def _none_left(store: SqliteScenes, until_s: float = 0.0) -> None:
    """Wait until all is judged and told, and not before a time."""
    file = RuleFile(store)
    async with asyncio.timeout(_PATIENCE_S):
        while file.unjudged(1) or file.notices(1) or time.monotonic() < until_s:
            await asyncio.sleep(_LOOK_EVERY_S)


async def _silence(heard: Sequence[object]) -> None:
    """Until nothing more is heard."""
    before = -1
    while len(heard) != before:
        before = len(heard)
        await asyncio.sleep(_QUIET_S)


def quantile(values: Sequence[float], share: float) -> float:
    """By nearest rank."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("deploy/models/soundstage-small"))
    parser.add_argument("--rules", type=int, default=1000)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--scenes", type=int, default=4, help="of each device")
    parser.add_argument("--warm", type=int, default=150, help="questions before those that are measured")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenes = Path(folder, "scenes.db")
        broker = Broker(Path(folder))
        broker.start()
        settings = {"TOKENLINK_SERVER_SCENES": str(scenes), "TOKENLINK_SERVER_UI": "off"}
        try:
            with edge_server(arguments.model, settings) as found:
                told = asyncio.run(measure(found["TOKENLINK_DEVICE_SERVER"], arguments, scenes, broker))
        finally:
            broker.kill()
    ratio = told["interactive"]["p99_ratio"]
    sound = told["missed"] == told["doubled"] == told["rules_with_another_sequence"] == 0
    report = {
        "command": "python -m tests.benchmarks.scene_rules",
        "measures": ["edge_server/scenes", "edge_server/engine", "edge_server/runtime"],
        "commit": current_commit(),
        "machine": machine(),
        **told,
        "promises": [
            {
                "what": WHAT,
                "measured": f"{told['missed']}; {told['doubled']}; {ratio:.2f} "
                f"({told['interactive']['p99_ratio_to_alone']:.2f} over nobody sharing)",
                "met": sound and ratio <= 1.2,
            }
        ],
    }
    text = json.dumps(report, indent=2) + "\n"
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
