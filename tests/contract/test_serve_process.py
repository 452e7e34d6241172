"""What an operator may rely on: ports announced, signals obeyed, exit codes, JSON log lines."""

from __future__ import annotations

import asyncio
import json
import os
import re
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
from tests.contract.serve_weightless import HOLD
from tests.waiting import PATIENCE_S, until


@dataclass
class Process:
    process: asyncio.subprocess.Process
    ready_file: Path
    facts: dict[str, object]
    hold: Path
    """While this is there, its model stands still."""

    @property
    def rest(self) -> str:
        return str(self.facts["rest"])

    async def holding(self, http: httpx.AsyncClient) -> asyncio.Task[httpx.Response]:
        """A question that it has begun with and does not end before :meth:`let_go`."""
        self.hold.touch()
        asking = asyncio.create_task(http.post("/v1/infer", json={"question": "a"}))

        await self.until_accepted(1)
        assert not asking.done()
        return asking

    async def until_accepted(self, count: int) -> None:
        """Until so many questions wait or run."""

        async def accepted() -> bool:
            async with httpx.AsyncClient(base_url=self.rest, timeout=PATIENCE_S) as http:
                series = (await http.get("/metrics")).text
            found = re.findall(r"^tokenlink_(?:queue_depth|batch_rows) (\S+)$", series, re.MULTILINE)
            assert len(found) == 2
            return sum(map(float, found)) == count

        await until(accepted)

    def let_go(self) -> None:
        self.hold.unlink()

    async def end(self) -> tuple[int | None, str]:
        _, stderr = await asyncio.wait_for(self.process.communicate(), PATIENCE_S)
        return self.process.returncode, stderr.decode()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Process]:
    ready_file, hold = tmp_path / "ready.json", tmp_path / "hold"
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
            HOLD: str(hold),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await until(lambda: ready_file.exists() or process.returncode is not None)
        assert process.returncode is None, (await process.communicate())[1].decode()
        yield Process(process, ready_file, json.loads(ready_file.read_text()), hold)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_terminated_server_answers_what_it_accepted_and_exits_with_0(served: Process) -> None:
    async with httpx.AsyncClient(base_url=served.rest, timeout=PATIENCE_S) as http:
        asking = await served.holding(http)
        served.process.send_signal(signal.SIGTERM)
        async with grpc.aio.insecure_channel(str(served.facts["grpc"])) as channel:
            request = health_pb2.HealthCheckRequest()
            checked = await health_pb2_grpc.HealthStub(channel).Check(request)
            assert checked.status == health_pb2.HealthCheckResponse.NOT_SERVING
        served.let_go()
        answered = await asking
    assert answered.json()["answer"] == "a long answer"
    code, logged = await served.end()
    assert code == 0
    assert not served.ready_file.exists()
    lines = [json.loads(line) for line in logged.splitlines()]
    serving = next(line for line in lines if line["message"] == "serving")
    assert serving["rest_port"] == served.facts["rest_port"]
    assert [line["message"] for line in lines][-1] == "stopped"


async def test_devices_are_told_and_their_questions_answered(served: Process) -> None:
    bundle_hash = str(served.facts["bundle_hash"])
    async with grpc.aio.insecure_channel(str(served.facts["grpc"])) as channel:
        stub = TokenLinkStub(channel)  # type: ignore[no-untyped-call]
        opened = await stub.OpenSession(pb.OpenSessionRequest(device_id="d", bundle_hash=bundle_hash))
        frame = {"session_id": opened.session_id, "bundle_hash": bundle_hash}
        call = stub.Converse()
        served.hold.touch()
        for number in range(3):
            question = pb.Question(request_id=f"q{number}", question_ids=[1])
            await call.write(pb.UplinkFrame(**frame, question=question))
        await served.until_accepted(3)
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        served.process.send_signal(signal.SIGTERM)
        changed = await asyncio.wait_for(watching.read(), PATIENCE_S)
        assert changed.status == health_pb2.HealthCheckResponse.NOT_SERVING
        asked_late = pb.AskRequest(**frame, question=pb.Question(request_id="late", question_ids=[1]))
        for refused in (
            stub.Ask(asked_late).read(),
            stub.OpenSession(pb.OpenSessionRequest(device_id="late", bundle_hash=bundle_hash)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await refused
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        served.let_go()
        answers = set()
        while len(answers) < 3:
            received = await call.read()
            if received.WhichOneof("body") == "answer":
                answers.add((received.request_id, received.answer.text))
        assert answers == {(f"q{number}", "a long answer") for number in range(3)}
    assert (await served.end())[0] == 0


async def test_a_second_signal_does_not_wait_for_answers(served: Process) -> None:
    async with httpx.AsyncClient(base_url=served.rest, timeout=PATIENCE_S) as http:
        asking = await served.holding(http)
        served.process.send_signal(signal.SIGTERM)

        async def draining() -> bool:
            return (await http.get("/readyz")).status_code == 503

        await until(draining)
        served.process.send_signal(signal.SIGTERM)
        refused = await asking
        served.let_go()
    assert refused.status_code == 503
    assert (await served.end())[0] == 0


async def test_a_second_ctrl_c_ends_an_answer_that_streams(served: Process) -> None:
    body = {"model": "weightless", "messages": [{"role": "user", "content": "a"}], "stream": True}
    served.hold.touch()
    async with httpx.AsyncClient(base_url=served.rest, timeout=PATIENCE_S) as http:
        streaming = asyncio.create_task(http.post("/v1/chat/completions", json=body))
        await served.until_accepted(1)
        served.process.send_signal(signal.SIGINT)

        async def draining() -> bool:
            return (await http.get("/readyz")).status_code == 503

        await until(draining)
        served.process.send_signal(signal.SIGINT)
        streamed = await streaming
        served.let_go()
    assert '"error"' in streamed.text
    code, logged = await served.end()
    assert code == 0
    assert json.loads(logged.splitlines()[-1])["message"] == "stopped"
    assert "Traceback" not in logged


async def test_a_hangup_loads_the_model_that_lies_there_by_now(served: Process) -> None:
    async with httpx.AsyncClient(base_url=served.rest, timeout=PATIENCE_S) as http:

        async def model() -> str:
            return str((await http.get("/readyz")).json()["model"])

        assert await model() == "weightless"
        served.process.send_signal(signal.SIGHUP)

        async def is_newer() -> bool:
            return await model() == "newer"

        await until(is_newer)
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
        _, stderr = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode != 0
        assert f"{name.lower()}: cannot listen" in stderr.decode()
