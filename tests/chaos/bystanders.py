"""Who else uses a server while it is attacked: devices, clients over REST, a probe; in a process apart.

Each asks at a rate of its own (an open loop): latency counts from the moment at which a question was meant to
be sent, so that waiting to send is part of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import grpc
import httpx

from deploy.loadtest.grpc_target import GrpcTarget, bundle_of
from deploy.loadtest.profile import Group
from deploy.loadtest.target import Failed, Refused
from deploy.loadtest.users import Users
from device_agent.uplink.credentials import Credentials

ANSWER_WITHIN_S = 30.0
"""After this a question counts as not answered."""
_PROBE_EACH_S = 0.05
_LEAST_RETRY_S = 0.05


@dataclass(frozen=True)
class Where:
    """A server, and what lets honest ones in.

    Attributes:
        grpc: address of its gRPC door.
        rest: URL of its REST door.
        devices: enrolled ones; none: no certificates are asked for, and one device asks.
        key: for REST; None: none is asked for.
        authority: PEM of who signed the server's certificate.
    """

    grpc: str
    rest: str
    devices: Sequence[Credentials] = ()
    key: str | None = None
    authority: bytes | None = None

    def client(self, address: str = "127.0.0.1", within_s: float = ANSWER_WITHIN_S) -> httpx.AsyncClient:
        """A client of the REST door that comes from an address of this machine."""
        verify: ssl.SSLContext | bool = True
        if self.authority is not None:
            verify = ssl.create_default_context(cadata=self.authority.decode())
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        transport = httpx.AsyncHTTPTransport(verify=verify, local_address=address)
        return httpx.AsyncClient(base_url=self.rest, transport=transport, timeout=within_s, headers=headers)


@dataclass(frozen=True)
class Crowd:
    """Who asks, and how often.

    Attributes:
        devices: over gRPC.
        each_hz: questions of each device per second.
        texts_hz: questions in words over REST per second.
        media: a clip that is asked about over REST; None: none is.
        media_hz: questions about it per second.
        probe: whether ``/livez`` is asked twenty times a second, each time over a new connection.
    """

    devices: int = 8
    each_hz: float = 2.0
    texts_hz: float = 0.0
    media: Path | None = None
    media_hz: float = 0.0
    probe: bool = False


@dataclass
class Fared:
    """How the others fared.

    Attributes:
        times_s: of answers, by the way in: ``grpc``, ``rest``, ``media``, ``livez``.
        asked: questions that were to be sent, by the way in.
        failed: why those without an answer have none.
    """

    times_s: dict[str, list[float]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, more: Fared) -> None:
        """Take in what was found at another time."""
        for way, times_s in more.times_s.items():
            self.times_s.setdefault(way, []).extend(times_s)
        self.asked += more.asked
        self.failed += more.failed

    def answered(self, *ways: str) -> int:
        """Questions with an answer."""
        return sum(len(self.times_s.get(way, ())) for way in ways)

    def p99_s(self, *ways: str) -> float:
        """Of all that came in these ways; a question without an answer took for ever [s]."""
        asked = sum(self.asked[way] for way in ways)
        times_s = sorted(each for way in ways for each in self.times_s.get(way, ()))
        times_s += [math.inf] * (asked - len(times_s))
        return times_s[min(math.ceil(0.99 * len(times_s)), len(times_s)) - 1] if times_s else math.nan


@contextlib.contextmanager
def process_apart() -> Iterator[ProcessPoolExecutor]:
    """A process for bystanders or strangers: neither waits for the other, only for the server."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as made:
        yield made


def ask_beside(where: Where, crowd: Crowd, seconds: float, seed: int) -> Fared:
    """Ask for so long; called in a process apart [s]."""
    return asyncio.run(_ask(where, crowd, seconds, seed))


async def _ask(where: Where, crowd: Crowd, seconds: float, seed: int) -> Fared:
    found, until_s = Fared(), time.monotonic() + seconds
    async with contextlib.AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(_devices(where, crowd, until_s, seed, found))
        if crowd.texts_hz:
            text = {"question": "Is there a banjo sound?"}
            tasks.create_task(_clients(where, "rest", text, crowd.texts_hz, until_s, seed + 1, found))
        if crowd.media is not None:
            media = _about(crowd.media)
            tasks.create_task(_clients(where, "media", media, crowd.media_hz, until_s, seed + 2, found))
        if crowd.probe:
            tasks.create_task(_probe(where, until_s, found))
    return found


def _about(clip: Path) -> dict[str, object]:
    data = base64.b64encode(clip.read_bytes()).decode()
    return {"question": "Is there a banjo sound?", "media": [{"type": "video", "data": data}]}


async def _devices(where: Where, crowd: Crowd, until_s: float, seed: int, found: Fared) -> None:
    shown: list[Credentials | None] = list(where.devices) or [None]
    bundle = await asyncio.to_thread(bundle_of, where.grpc, shown[0])
    users = Users(Group.model_validate({"count": crowd.devices, "token_lengths": (16,)}), bundle, 0, seed)
    targets = [GrpcTarget(where.grpc, bundle.hash, users_per_channel=8, credentials=each) for each in shown]
    try:
        async with asyncio.TaskGroup() as tasks:
            for user in users.numbers:
                target = targets[user % len(targets)]
                tasks.create_task(_device(target, users, user, crowd.each_hz, until_s, seed, found))
    finally:
        for target in targets:
            await target.close()


async def _device(
    target: GrpcTarget, users: Users, user: int, each_hz: float, until_s: float, seed: int, found: Fared
) -> None:
    """One device: connects again where it was cut off, asks again where it was told to wait."""
    connection = None
    rng = random.Random(f"{seed}/{user}")

    async def ask(meant_s: float) -> None:
        nonlocal connection
        while True:
            try:
                async with asyncio.timeout(max(meant_s + ANSWER_WITHIN_S - time.monotonic(), 0.001)):
                    if connection is None:
                        connection = await target.connect(user)
                    await connection.ask(users.draw(user))
                found.times_s.setdefault("grpc", []).append(time.monotonic() - meant_s)
                return
            except Refused as refused:
                wait_s = max(refused.retry_delay_s, _LEAST_RETRY_S)
                why = "refused"
            except TimeoutError:
                found.failed["grpc: no answer in time"] += 1
                return
            except (Failed, grpc.aio.AioRpcError) as error:
                connection, wait_s = None, _LEAST_RETRY_S
                why = f"grpc: {error}"[:120]
                if not isinstance(error, Failed) or error.code not in ("stream", "unavailable"):
                    found.failed[why] += 1
                    return
            if time.monotonic() + wait_s > meant_s + ANSWER_WITHIN_S:
                found.failed[why] += 1
                return
            await asyncio.sleep(wait_s)

    async with asyncio.TaskGroup() as tasks:
        async for meant_s in _moments(each_hz, until_s, rng):
            found.asked["grpc"] += 1
            tasks.create_task(ask(meant_s))
    if connection is not None:
        await connection.close()


async def _clients(
    where: Where, way: str, body: Mapping[str, object], hz: float, until_s: float, seed: int, found: Fared
) -> None:
    async with where.client() as http, asyncio.TaskGroup() as tasks:

        async def ask(meant_s: float) -> None:
            while True:
                try:
                    response = await http.post("/v1/infer", json=body)
                except httpx.HTTPError as error:
                    found.failed[f"{way}: {type(error).__name__}"] += 1
                    return
                if response.status_code == 200:
                    found.times_s.setdefault(way, []).append(time.monotonic() - meant_s)
                    return
                if response.status_code not in (429, 503) or time.monotonic() > meant_s + ANSWER_WITHIN_S:
                    found.failed[f"{way}: {response.status_code}"] += 1
                    return
                await asyncio.sleep(float(response.headers.get("retry-after", _LEAST_RETRY_S)))

        async for meant_s in _moments(hz, until_s, random.Random(seed)):
            found.asked[way] += 1
            tasks.create_task(ask(meant_s))


async def _probe(where: Where, until_s: float, found: Fared) -> None:
    while (meant_s := time.monotonic()) < until_s:
        found.asked["livez"] += 1
        try:
            async with where.client(within_s=ANSWER_WITHIN_S) as http:
                status = (await http.get("/livez")).status_code
            if status == 200:
                found.times_s.setdefault("livez", []).append(time.monotonic() - meant_s)
            else:
                found.failed[f"livez: {status}"] += 1
        except httpx.HTTPError as error:
            found.failed[f"livez: {type(error).__name__}"] += 1
        await asyncio.sleep(max(meant_s + _PROBE_EACH_S - time.monotonic(), 0.0))


async def _moments(hz: float, until_s: float, rng: random.Random) -> AsyncIterator[float]:
    """Moments of a Poisson process, each as it comes [monotonic s]."""
    due_s = time.monotonic()
    while True:
        due_s += rng.expovariate(hz)
        if due_s >= until_s:
            return
        await asyncio.sleep(max(due_s - time.monotonic(), 0.0))
        yield due_s
