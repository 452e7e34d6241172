"""What an operator may rely on: ports announced, signals obeyed, exit codes, JSON log lines."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc


@dataclass
class Process:
    process: asyncio.subprocess.Process
    ready_file: Path
    facts: dict[str, object]

    @property
    def rest(self) -> str:
        return str(self.facts["rest"])

    async def end(self) -> tuple[int | None, str]:
        _, stderr = await asyncio.wait_for(self.process.communicate(), 20)
        return self.process.returncode, stderr.decode()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Process]:
    ready_file = tmp_path / "ready.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contract.serve_weightless",
        cwd=Path(__file__).parents[2],
        env=os.environ
        | {
            "TOKENLINK_SERVER_GRPC_PORT": "0",
            "TOKENLINK_SERVER_REST_PORT": "0",
            "TOKENLINK_SERVER_READY_FILE": str(ready_file),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            while not ready_file.exists():
                assert process.returncode is None, (await process.communicate())[1].decode()
                await asyncio.sleep(0.05)
        yield Process(process, ready_file, json.loads(ready_file.read_text()))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_terminated_server_answers_what_it_accepted_and_exits_with_0(served: Process) -> None:
    async with httpx.AsyncClient(base_url=served.rest, timeout=20) as http:
        asking = asyncio.create_task(http.post("/v1/infer", json={"question": "a"}))
        await asyncio.sleep(0.4)
        assert not asking.done()
        served.process.send_signal(signal.SIGTERM)
        async with grpc.aio.insecure_channel(str(served.facts["grpc"])) as channel:
            request = health_pb2.HealthCheckRequest()
            checked = await health_pb2_grpc.HealthStub(channel).Check(request)
            assert checked.status == health_pb2.HealthCheckResponse.NOT_SERVING
        answered = await asking
    assert answered.json()["answer"] == "a long answer"
    code, logged = await served.end()
    assert code == 0
    assert not served.ready_file.exists()
    lines = [json.loads(line) for line in logged.splitlines()]
    serving = next(line for line in lines if line["message"] == "serving")
    assert serving["rest_port"] == served.facts["rest_port"]
    assert [line["message"] for line in lines][-1] == "stopped"


async def test_a_second_signal_does_not_wait_for_answers(served: Process) -> None:
    async with httpx.AsyncClient(base_url=served.rest, timeout=20) as http:
        asking = asyncio.create_task(http.post("/v1/infer", json={"question": "a"}))
        await asyncio.sleep(0.3)
        served.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        served.process.send_signal(signal.SIGTERM)
        refused = await asking
    assert refused.status_code == 503
    assert (await served.end())[0] == 0


async def test_a_hangup_loads_the_model_that_lies_there_by_now(served: Process) -> None:
    async with httpx.AsyncClient(base_url=served.rest, timeout=20) as http:

        async def model() -> str:
            return str((await http.get("/readyz")).json()["model"])

        assert await model() == "weightless"
        served.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(10):
            while await model() != "newer":
                await asyncio.sleep(0.02)
        # Once more: the same bundle lies there still, and nothing changes.
        served.process.send_signal(signal.SIGHUP)
        assert (await http.post("/v1/infer", json={"question": "a"})).json()["model"] == "newer"
    served.process.terminate()
    code, logged = await served.end()
    assert code == 0
    assert logged.count('"serving another model"') == 1


async def test_a_port_that_is_taken_is_an_error_that_names_it(served: Process, tmp_path: Path) -> None:
    for name in ("GRPC_PORT", "REST_PORT"):
        taken = served.facts[name.lower()]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.contract.serve_weightless",
            cwd=Path(__file__).parents[2],
            env=os.environ
            | {
                "TOKENLINK_SERVER_GRPC_PORT": "0",
                "TOKENLINK_SERVER_REST_PORT": "0",
                f"TOKENLINK_SERVER_{name}": str(taken),
            },
            stderr=asyncio.subprocess.PIPE,
        )
        _, stderr = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode != 0
        assert f"{name.lower()}: cannot listen" in stderr.decode()
