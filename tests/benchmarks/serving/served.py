"""Servers under test, each in a process of its own: where they are, what they have used, what they hold."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from deploy.loadtest.grpc_target import GrpcTarget, bundle_of
from deploy.loadtest.profile import Group
from deploy.loadtest.questions import Bundle
from deploy.loadtest.users import Users
from deploy.with_server import server_process
from device_agent.uplink.credentials import Credentials

PROBE_FILE = "TOKENLINK_PROBE_FILE"
"""Environment variable: where a server under test writes its inventory when it gets SIGUSR1."""
_SETTLED_WITHIN_S = 10.0


def cpu_s_of(process: psutil.Process) -> float:
    """CPU time that a process has used, and those that compute for it, in all their threads [s]."""
    times = [each.cpu_times() for each in family_of(process)]
    return float(sum(each.user + each.system for each in times))


def family_of(process: psutil.Process) -> list[psutil.Process]:
    """A process and those that it, or one of them, has started."""
    return [process, *process.children(recursive=True)]


class ServedModel:
    """A server that runs.

    Attributes:
        grpc: its gRPC door.
        rest: its REST door.
        bundle: that it answers for; None of a model without weights.
        credentials: with which its gRPC door is called; None: without TLS.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        probe_file: Path,
        bundle: Bundle | None,
        credentials: Credentials | None = None,
    ) -> None:
        self.grpc: str = facts["grpc"]
        self.rest: str = facts["rest"]
        self.bundle_hash: str = facts["bundle_hash"]
        self._known = bundle
        self._credentials = credentials
        self._probe_file = probe_file
        self._process = psutil.Process(facts["pid"])

    @property
    def bundle(self) -> Bundle:
        """The device bundle."""
        assert self._known is not None, "a model without weights has no bundle"
        return self._known

    @property
    def pid(self) -> int:
        """Number of the process."""
        return int(self._process.pid)

    def cpu_s(self) -> float:
        """CPU time that the process has used, and those that compute for it, in all their threads [s]."""
        return cpu_s_of(self._process)

    def cpu_s_by_thread(self) -> dict[int, float]:
        """CPU time of each thread, by its number [s]."""
        return {
            thread.id: thread.user_time + thread.system_time
            for process in family_of(self._process)
            for thread in process.threads()
        }

    def resident_bytes(self) -> int:
        """Memory that only the process, and those that compute for it, have: resident, not shared."""
        return sum(int(each.memory_full_info().uss) for each in family_of(self._process))

    async def metrics(self) -> dict[str, float]:
        """Its Prometheus series, by name and labels."""
        async with httpx.AsyncClient(base_url=self.rest, timeout=30) as http:
            text = (await http.get("/metrics")).text
        return {
            sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def inventory(self) -> dict[str, int]:
        """Tasks of its event loop, and objects of its engine and cell that are alive."""
        self._probe_file.unlink(missing_ok=True)
        os.kill(self._process.pid, signal.SIGUSR1)
        async with asyncio.timeout(30):
            while not self._probe_file.exists():
                await asyncio.sleep(0.01)
        return dict(json.loads(self._probe_file.read_text()))

    async def settled(self) -> dict[str, float]:
        """Wait until nothing waits or runs; the metrics then, or those after a while if it never does."""
        found = await self.metrics()
        for _ in range(int(_SETTLED_WITHIN_S / 0.1)):
            if not found["tokenlink_queue_depth"] and not found["tokenlink_batch_rows"]:
                break
            await asyncio.sleep(0.1)
            found = await self.metrics()
        return found

    def target(self, users_per_channel: int = 8) -> GrpcTarget:
        """Its gRPC door for a load generator; the caller closes it."""
        return GrpcTarget(
            self.grpc,
            self.bundle_hash,
            users_per_channel=users_per_channel,
            credentials=self._credentials,
        )

    def users(self, count: int, seed: int, *, first: int = 0, **like: Any) -> Users:
        """Users of it, without think times; their blocks have 16 tokens unless ``like`` says otherwise."""
        group = Group.model_validate({"count": count, "token_lengths": (16,), **like})
        return Users(group, self.bundle, first, seed)


@asynccontextmanager
async def serving(
    model: Path | None,
    settings: Mapping[str, object] = MappingProxyType({}),
    credentials: Credentials | None = None,
) -> AsyncIterator[ServedModel]:
    """A server in a process of its own.

    Args:
        model: folder; None: a model without weights.
        settings: names as in :class:`edge_server.server.config.ServerConfig`.
        credentials: of a device that its settings let in; None: they ask for none.
    """
    with tempfile.TemporaryDirectory() as scratch:
        probe_file = Path(scratch, "inventory.json")
        environment = {f"TOKENLINK_SERVER_{name.upper()}": str(value) for name, value in settings.items()}
        environment["TOKENLINK_SERVER_LOG_LEVEL"] = "WARNING"
        environment[PROBE_FILE] = str(probe_file)
        command = [sys.executable, "-m", "tests.benchmarks.serving.serve"]
        if model is not None:
            command.append(str(model.resolve()))
        with server_process(command, environment) as facts:
            bundle = None if model is None else await asyncio.to_thread(bundle_of, facts["grpc"], credentials)
            yield ServedModel(facts, probe_file, bundle, credentials)
