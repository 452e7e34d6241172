"""A cell that is shared out live: real agents over gRPC, joint beside equal; and one that walks.

    python -m tests.benchmarks.cell_live --data datasets/soundstage --out docs/results/cell_live.json

Agents are spread over a made-up cell (:mod:`edge_server.study.cell.geometry`) and ask questions of the test
split, all of them the same, each over a channel of its own with the bandwidth, power and token length that it
is granted. Airtime is that
of the emulated radio. What is predicted goes by the grants and the measured loss of the model. The walk: the
SNR of one agent falls from 20 to -5 dB and rises again in steps, one every few seconds, while it asks without
a pause; how long after a step its grant changes is looked at every 20 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.with_server import edge_server
from device_agent.agent import Agent
from device_agent.bundle.bundle import Bundle, load_bundle
from device_agent.channel import SnrTrace
from device_agent.config import DeviceSettings
from device_agent.errors import DeviceAgentError
from device_agent.media.clip import Clip
from device_agent.transmitter import Encoded, Transmitter
from device_agent.uplink.uplink import Uplink
from edge_server.cell import CellConfig, allocation
from edge_server.cell.allocation.surface_file import FILE, read_points, read_tables
from edge_server.data.soundstage.dataset import load_split
from edge_server.model.provenance import current_commit
from edge_server.study.cell.geometry import Geometry, watts
from protos.names import clamp_snr_db
from protos.tokenlink.v1 import tokenlink_pb2 as pb

REFERENCE_HZ = 1e6
#: Complex symbols per unit of token length: sight and sound, 16 each.
SYMBOLS = 32.0
#: 25 dB down and up again.
STEPS_DB = (20.0, 15.0, 10.0, 5.0, 0.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
#: Longer than it takes until there is time for a whole search [s].
_SETTLED_S = 12.0
_LOOK_S = 0.02
_ALIKE = 0.01
_CLEARLY = 0.1
_FULL_SCALE = 32768.0
_WITHIN = 0.1
_FOLLOWS_WITHIN_S = 2.0


class RememberingTransmitter(Transmitter):
    """Encodes a clip once per token length: all agents have the same clips, and that is not measured here."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self._known: dict[tuple[int, int], Encoded] = {}

    def encode(self, clip: Clip, token_length: int, **how: Any) -> Encoded:
        """As the class does."""
        key = (id(clip), token_length)
        if key not in self._known:
            self._known[key] = super().encode(clip, token_length, **how)
        return self._known[key]


class Steps:
    """A clock that stands until it is moved on: an SNR for each of its times."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class User:
    """An agent and what came of its questions."""

    agent: Agent
    snr_db: float
    right: int = 0
    asked: int = 0
    airtime_s: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()


async def users_of(
    model: Path, server: str, snrs_db: list[float], stack: AsyncExitStack, steps: Steps | None = None
) -> list[User]:
    """Agents of these SNRs; the first walks where there are steps."""
    bundle = load_bundle(model / "bundle")
    transmitter = RememberingTransmitter(bundle)
    found = []
    for number, snr_db in enumerate(snrs_db):
        # With patience: this machine may be busy with something else.
        settings = DeviceSettings(
            server=server, bundle=model / "bundle", snr_db=snr_db, pace=False, deadline_s=300.0
        )
        uplink = Uplink(server, bundle.hash, device_id=f"user-{number:02}", snr_db=snr_db)
        await stack.enter_async_context(uplink)
        rng = np.random.default_rng([7, number])
        agent = Agent(settings, transmitter, uplink, rng=rng)
        if steps is not None and number == 0:
            trace = SnrTrace(tuple(map(float, range(len(STEPS_DB)))), STEPS_DB)
            agent = Agent(settings, transmitter, uplink, rng=rng, trace=trace, clock=steps)
        found.append(User(agent, snr_db))
    return found


async def ask_all(user: User, asked: list[tuple[Clip, str, str]]) -> None:
    """Ask one question after another."""
    for clip, question, answer in asked:
        outcome = await user.agent.ask(question, clip)
        user.asked += 1
        user.right += outcome.text == answer
        user.airtime_s += (outcome.cost.airtime_s,)
        user.tokens += (outcome.token_length,)


def settings_of(policy: str, bandwidth_hz: float) -> dict[str, str]:
    """The server's."""
    return {
        "TOKENLINK_SERVER_ALLOCATION": policy,
        "TOKENLINK_SERVER_TOTAL_BANDWIDTH_HZ": str(bandwidth_hz),
        "TOKENLINK_SERVER_UI": "off",
    }


async def measure(
    model: Path, policy: str, snrs_db: list[float], bandwidth_hz: float, asked: list[tuple[Clip, str, str]]
) -> dict[str, Any]:
    """All agents ask everything under one policy."""
    tables = read_tables(model / FILE)
    assert tables is not None, "the model's loss was not measured"
    loss = next(iter(tables.values()))
    with edge_server(model, settings_of(policy, bandwidth_hz)) as found:
        async with AsyncExitStack() as stack:
            users = await users_of(model, found["TOKENLINK_DEVICE_SERVER"], snrs_db, stack)
            await asyncio.gather(*(ask_all(user, asked[:1]) for user in users))
            await asyncio.sleep(_SETTLED_S)
            for user in users:
                user.right = user.asked = 0
                user.airtime_s = user.tokens = ()
            await asyncio.gather(*(ask_all(user, asked) for user in users))
            grants = [await user.agent.grant() for user in users]
    gamma_K = [
        10.0 ** ((user.snr_db + grant.tx_power_db) / 10.0) for user, grant in zip(users, grants, strict=True)
    ]
    airtime_s = [32.0 * grant.token_length / grant.bandwidth_hz for grant in grants]
    predicted = [
        1.0 - float(loss.at(gamma, grant.token_length)) for gamma, grant in zip(gamma_K, grants, strict=True)
    ]
    objective = CellConfig()

    def cost(mean_airtime_s: float, accuracy: float) -> float:
        latency = mean_airtime_s / objective.reference_latency_s
        weight = objective.latency_weight
        return weight * latency + (1.0 - weight) * (1.0 - accuracy)

    right, total = sum(user.right for user in users), sum(user.asked for user in users)
    spent = [each for user in users for each in user.airtime_s]
    return {
        "policy": policy,
        "questions": total,
        "accuracy": right / total,
        "right_per_s_of_airtime": right / sum(spent),
        "airtime_mean_s": float(np.mean(spent)),
        "airtime_p95_s": float(np.quantile(spent, 0.95)),
        "tokens_mean": float(np.mean([each for user in users for each in user.tokens])),
        "granted_hz": sum(grant.bandwidth_hz for grant in grants),
        "predicted_accuracy": float(np.mean(predicted)),
        "cost": cost(float(np.mean(spent)), right / total),
        "predicted_cost": cost(float(np.mean(airtime_s)), float(np.mean(predicted))),
        "predicted_right_per_s_of_airtime": sum(predicted) / sum(airtime_s),
        "predicted_airtime_p95_s": float(np.quantile(airtime_s, 0.95)),
    }


async def walk(
    model: Path, bandwidth_hz: float, step_s: float, asked: list[tuple[Clip, str, str]]
) -> dict[str, Any]:
    """One agent moves among three that stand still."""
    steps, lost = Steps(), 0
    with edge_server(model, settings_of("joint", bandwidth_hz)) as found:
        async with AsyncExitStack() as stack:
            snrs_db = [STEPS_DB[0], 20.0, 10.0, 0.0]
            users = await users_of(model, found["TOKENLINK_DEVICE_SERVER"], snrs_db, stack, steps)
            await asyncio.gather(*(ask_all(user, asked[:1]) for user in users))
            await asyncio.sleep(_SETTLED_S)
            walker, over = users[0], asyncio.Event()

            async def keep_asking() -> None:
                nonlocal lost
                for question in itertools.cycle(asked):
                    if over.is_set():
                        return
                    try:
                        await ask_all(walker, [question])
                    except DeviceAgentError:
                        lost += 1

            asking = asyncio.create_task(keep_asking())
            lags: list[dict[str, Any]] = []
            for number in range(1, len(STEPS_DB)):
                grant = await walker.agent.grant()
                steps.now, stepped_s = float(number), time.monotonic()
                while is_alike(await walker.agent.grant(), grant) and time.monotonic() < stepped_s + step_s:
                    await asyncio.sleep(_LOOK_S)
                lag_s = time.monotonic() - stepped_s
                # Where the best grant is the same as before, nothing follows.
                lags.append({"snr_db": STEPS_DB[number], "lag_s": lag_s if lag_s < step_s else None})
                await asyncio.sleep(max(stepped_s + step_s - time.monotonic(), 0.0))
            over.set()
            await asking
    for lag, (before_db, after_db) in zip(lags, itertools.pairwise(STEPS_DB), strict=True):
        lag["expected"] = is_to_follow(model, bandwidth_hz, snrs_db[1:], before_db, after_db)
    return {
        "step_s": step_s,
        "steps": lags,
        "questions": walker.asked,
        "lost": lost,
    }


def is_to_follow(
    model: Path, bandwidth_hz: float, others_db: list[float], before_db: float, after_db: float
) -> bool:
    """Whether a walker's best share differs clearly between two SNRs: in length, or a tenth of bandwidth."""
    tables = read_tables(model / FILE)
    assert tables is not None, "the model's loss was not measured"
    loss, told = next(iter(tables.values())), CellConfig()
    objective = allocation.Objective(told.latency_weight, told.reference_latency_s, told.energy_price)
    lengths = tuple(sorted({point.token_length for point in next(iter(read_points(model / FILE).values()))}))

    def share(snr_db: float) -> tuple[int, float]:
        users = [allocation.User(10.0 ** (each / 10.0), lengths, SYMBOLS) for each in (snr_db, *others_db)]
        budget = allocation.Budget(bandwidth_hz, user_power_w=1.0, noise_w_per_hz=1.0 / REFERENCE_HZ)
        found = allocation.Joint().allocate(allocation.Problem(tuple(users), budget, loss, objective))
        return int(found.length_K[0]), float(found.bandwidth_K[0])

    (length, hz), (other_length, other_hz) = share(before_db), share(after_db)
    return length != other_length or abs(other_hz / hz - 1.0) > _CLEARLY


def is_alike(grant: pb.Grant, other: pb.Grant) -> bool:
    """Whether nothing that matters has changed."""
    return bool(
        grant.token_length == other.token_length
        and abs(grant.bandwidth_hz / other.bandwidth_hz - 1.0) < _ALIKE
        and abs(grant.tx_power_db - other.tx_power_db) < 10.0 * np.log10(1.0 + _ALIKE)
    )


def drop(users: int, seed: int) -> list[float]:
    """SNRs of users spread over the made-up cell, at full power over the reference bandwidth [dB]."""
    geometry = Geometry()
    gains = geometry.gains(users, np.random.default_rng(seed))
    snrs = watts(23.0) * gains / (geometry.noise_w_per_hz * REFERENCE_HZ)
    return [clamp_snr_db(float(10.0 * np.log10(snr))) for snr in snrs]


def held_out_questions(data: Path, most: int, seed: int) -> list[tuple[Clip, str, str]]:
    """Clips, questions and what is right, any of the test split."""
    split = load_split(data, "test")
    picked = np.random.default_rng(seed).choice(len(split.questions), most, replace=False)
    rows = [split.questions[number] for number in picked]
    clips = {
        clip: Clip(np.asarray(split.frames[clip]), (split.pcm[clip] / _FULL_SCALE).astype(np.float32))
        for clip in {row.clip for row in rows}
    }
    return [(clips[row.clip], row.text, row.answer) for row in rows]


def kept(
    policies: list[dict[str, Any]], gain: dict[str, float], walked: dict[str, Any]
) -> list[dict[str, Any]]:
    """The promises that this settles."""
    off = max(
        abs(each["right_per_s_of_airtime"] / each["predicted_right_per_s_of_airtime"] - 1.0)
        for each in policies
    )
    # Where the best share stays the same nothing has to follow: what changes there a later search found.
    lags_s = [each["lag_s"] for each in walked["steps"] if each["expected"]]
    followed_s = [each for each in lags_s if each is not None]
    searched_s = [each["lag_s"] for each in walked["steps"] if each["lag_s"] and not each["expected"]]
    slowest_s = max(followed_s, default=np.inf)
    return [
        {
            "what": "24 real agents over gRPC: right answers per second of airtime and p95 of airtime, "
            "predicted against measured",
            "measured": f"at most {off:.1%} off; joint against equal: cost, which it makes small, times "
            f"{gain['cost']:.3f}, predicted {gain['predicted_cost']:.3f}; right answers a second of airtime "
            f"times {gain['right_per_s_of_airtime']:.3f}, predicted "
            f"{gain['predicted_right_per_s_of_airtime']:.3f}; p95 of airtime times "
            f"{gain['airtime_p95_s']:.3f}, predicted {gain['predicted_airtime_p95_s']:.3f}",
            "met": off <= _WITHIN
            and abs(gain["airtime_p95_s"] / gain["predicted_airtime_p95_s"] - 1.0) <= _WITHIN,
        },
        {
            "what": "A user walks from 20 to -5 dB and back within 30 s",
            "measured": f"{len(followed_s)} of {len(lags_s)} grants that had to follow did, the slowest "
            f"after {slowest_s:.2f} s; {len(searched_s)} others changed, the slowest "
            f"after {max(searched_s, default=0.0):.2f} s; "
            f"{walked['lost']} of {walked['questions']} questions lost",
            "met": 0 < len(lags_s) == len(followed_s)
            and slowest_s <= _FOLLOWS_WITHIN_S
            and not walked["lost"],
        },
    ]


async def main(arguments: argparse.Namespace) -> None:
    """Measure, and write what was found."""
    asked = held_out_questions(arguments.data, arguments.questions, arguments.seed)
    snrs_db = drop(arguments.users, arguments.seed)
    policies = [
        await measure(arguments.model, policy, snrs_db, arguments.bandwidth_hz, asked)
        for policy in ("joint", "equal", "fixed")
    ]
    by_name = {found["policy"]: found for found in policies}
    gain = {
        key: by_name["joint"][key] / by_name["equal"][key]
        for key in (
            "cost",
            "predicted_cost",
            "right_per_s_of_airtime",
            "predicted_right_per_s_of_airtime",
            "airtime_p95_s",
            "predicted_airtime_p95_s",
        )
    }
    # As much for four: where spectrum is little everybody is granted the same, and nothing has to follow.
    walked = await walk(arguments.model, arguments.bandwidth_hz, arguments.step_s, asked)
    report = {
        "command": "python -m tests.benchmarks.cell_live",
        "measures": ["edge_server/cell/allocation", "edge_server/cell/allocator.py", "device_agent/agent.py"],
        "commit": current_commit(),
        "users": arguments.users,
        "bandwidth_hz": arguments.bandwidth_hz,
        "seed": arguments.seed,
        "snrs_db": snrs_db,
        "policies": policies,
        "joint_over_equal": gain,
        "walk": walked,
        "promises": kept(policies, gain, walked),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({name: value for name, value in report.items() if name != "snrs_db"}, indent=1))


def parsed() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("deploy/models/soundstage-small"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/cell_live.json"))
    parser.add_argument("--data", type=Path, default=Path("datasets/soundstage"))
    parser.add_argument("--users", type=int, default=24)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--bandwidth-hz", type=float, default=1e6)
    parser.add_argument("--step-s", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(parsed()))
