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

import grpc
import grpc.aio
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub


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


async def test_devices_are_told_within_a_second_and_their_questions_answered(served: Process) -> None:
    bundle_hash = str(served.facts["bundle_hash"])
    async with grpc.aio.insecure_channel(str(served.facts["grpc"])) as channel:
        stub = TokenLinkStub(channel)  # type: ignore[no-untyped-call]
        opened = await stub.OpenSession(pb.OpenSessionRequest(device_id="d", bundle_hash=bundle_hash))
        frame = {"session_id": opened.session_id, "bundle_hash": bundle_hash}
        call = stub.Converse()
        for number in range(3):
            question = pb.Question(request_id=f"q{number}", question_ids=[1])
            await call.write(pb.UplinkFrame(**frame, question=question))
        assert (await call.read()).WhichOneof("body") == "delta"
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        served.process.send_signal(signal.SIGTERM)
        changed = await asyncio.wait_for(watching.read(), 1.0)
        assert changed.status == health_pb2.HealthCheckResponse.NOT_SERVING
        asked_late = pb.AskRequest(**frame, question=pb.Question(request_id="late", question_ids=[1]))
        for refused in (
            stub.Ask(asked_late).read(),
            stub.OpenSession(pb.OpenSessionRequest(device_id="late", bundle_hash=bundle_hash)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await refused
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        answers = set()
        while len(answers) < 3:
            received = await call.read()
            if received.WhichOneof("body") == "answer":
                answers.add((received.request_id, received.answer.text))
        assert answers == {(f"q{number}", "a long answer") for number in range(3)}
    assert (await served.end())[0] == 0


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
