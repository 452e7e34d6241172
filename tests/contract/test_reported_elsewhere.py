"""What users of comparable servers reported (tests/bug_reports.toml), where no other test holds it."""

from __future__ import annotations

import json
import math
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge_server.access import keys
from edge_server.engine import Step
from tests.authority import Pki, make_pki
from tests.contract.conftest import Running
from tests.contract.test_openai_door import ASK, chat
from tests.waiting import PATIENCE_S
from tests.weightless import State

CALL = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
HALF = "\\ud83d"
"""Half of a picture character, as a client writes it that cut a text in the wrong place."""


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client:
        yield client


def events(streamed: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": [], "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
    ],
)
async def test_a_turn_without_words_is_one(client: httpx.AsyncClient, turn: dict[str, Any]) -> None:
    answered = await chat(client, ASK, turn, ASK)
    assert answered.status_code == 200, answered.text
    assert answered.json()["choices"][0]["message"]["content"] == "11"


BODIES = {
    "messages[0].content": '{"model": "weightless", "messages": [{"role": "user", "content": "a HALF"}]}',
    "messages[0].role": '{"model": "weightless", "messages": [{"role": "HALF", "content": "a"}]}',
    "messages[0].content[0].type": (
        '{"model": "weightless", "messages": [{"role": "user", "content": [{"type": "HALF"}]}]}'
    ),
    "stop": '{"model": "weightless", "messages": [{"role": "user", "content": "a"}], "stop": "HALF"}',
    "stop[1]": (
        '{"model": "weightless", "messages": [{"role": "user", "content": "a"}], "stop": ["a", "HALF"]}'
    ),
    "user": '{"model": "weightless", "messages": [{"role": "user", "content": "a"}], "user": "HALF"}',
    "model": '{"model": "HALF", "messages": [{"role": "user", "content": "a"}]}',
    "question": '{"question": "a HALF"}',
    "input": '{"model": "weightless", "input": "a HALF"}',
    "input[0].content": (
        '{"model": "weightless", "input": [{"role": "user", "content": '
        '[{"type": "input_text", "text": "HALF"}]}]}'
    ),
    "input[0].type": '{"model": "weightless", "input": [{"type": "HALF"}]}',
    "metadata.a": '{"model": "weightless", "input": "a", "metadata": {"a": "HALF"}}',
}


@pytest.mark.parametrize("param", BODIES)
async def test_half_a_character_is_the_senders_fault_and_told_by_its_field(
    client: httpx.AsyncClient, param: str
) -> None:
    path = "/v1/infer" if param == "question" else "/v1/chat/completions"
    path = "/v1/responses" if '"input"' in BODIES[param] else path
    content = BODIES[param].replace("HALF", HALF)
    refused = await client.post(path, content=content, headers={"Content-Type": "application/json"})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (404 if param == "model" else 400, param), error
    assert error["message"].startswith(f"{param}:")


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("stop", 7, "stop"),
        ("stop", ["a", 7], "stop[1]"),
        ("seed", "x", "seed"),
        ("logit_bias", 7, "logit_bias"),
        ("messages", 7, "messages"),
        ("max_tokens", {}, "max_tokens"),
    ],
)
async def test_a_refusal_has_no_names_but_the_senders(
    client: httpx.AsyncClient, field: str, value: Any, param: str
) -> None:
    refused = await chat(client, **{field: value})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text


@pytest.mark.parametrize("seed", [-(2**63) - 1, -1, 0, 2**63, 2**64 - 1, 2**64, 10**30])
async def test_no_seed_breaks_the_engine(client: httpx.AsyncClient, seed: int) -> None:
    answered = await chat(client, seed=seed, temperature=0.5)
    if -(2**63) <= seed < 2**64:
        assert answered.status_code == 200, answered.text
    else:
        assert (answered.status_code, answered.json()["error"]["param"]) == (400, "seed")
    assert (await chat(client)).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_said_has_a_probability_that_is_json(
    running: Running, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    def never(rows: State) -> tuple[State, list[Step]]:
        rows, steps = step(rows)
        return rows, [replace(each, alternatives=((7, -math.inf),)) for each in steps]

    step = running.model._step
    monkeypatch.setattr(running.model, "_step", never)
    answered = await chat(client, logprobs=True, top_logprobs=2, stream=stream)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert answered.status_code == 200, answered.text
    for line in answered.text.splitlines():
        told = line.removeprefix("data: ")
        if told.startswith("{"):
            found = json.loads(told, parse_constant=refuse)
            assert "error" not in found


async def test_a_stream_ends_with_its_reason_and_only_then_its_usage(
    running: Running, client: httpx.AsyncClient
) -> None:
    for most, reason in ((None, "stop"), (1, "length")):
        streamed = events(
            await chat(client, stream=True, stream_options={"include_usage": True}, max_tokens=most)
        )
        *_, last, usage = streamed
        assert last["choices"][0]["finish_reason"] == reason
        assert usage["choices"] == []
        assert usage["usage"]["completion_tokens"] == (1 if most else 2)
        whole = (await chat(client, max_tokens=most)).json()
        assert whole["choices"][0]["finish_reason"] == reason
        assert whole["usage"] == usage["usage"]


async def test_a_proxy_is_told_to_hand_on_a_stream_as_it_comes(client: httpx.AsyncClient) -> None:
    streamed = await chat(client, stream=True)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert streamed.headers["x-accel-buffering"] == "no"
    assert streamed.headers["cache-control"] == "no-cache"
    assert "x-accel-buffering" not in (await chat(client)).headers


async def test_no_character_is_cut_by_an_event_of_a_stream(
    running: Running, client: httpx.AsyncClient
) -> None:
    said = "naïve 😀 日本"
    running.model.answer = lambda prompt: said

    async def pieces(**more: Any) -> list[str]:
        streamed = events(await chat(client, stream=True, **more))
        return [event["choices"][0]["delta"].get("content") or "" for event in streamed]

    assert "".join(await pieces()) == said
    # Each language token is a byte here: most bounds on them fall within a character.
    for most in range(1, len(said.encode())):
        cut = "".join(await pieces(max_tokens=most))
        assert cut == said.encode()[:most].decode(errors="ignore")
        whole = (await chat(client, max_tokens=most)).json()["choices"][0]
        assert (whole["message"]["content"], whole["finish_reason"]) == (cut, "length")


async def test_a_name_with_a_slash_is_looked_up_as_a_name(
    running: Running, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.model, "name", "someone/model:13b")
    (listed,) = (await client.get("/v1/models")).json()["data"]
    for path in ("someone/model:13b", "someone%2Fmodel:13b", "someone%2Fmodel%3A13b"):
        found = await client.get(f"/v1/models/{path}")
        assert (found.status_code, found.json()) == (200, listed)


async def test_paths_of_scanners_leave_nothing_in_the_metrics(client: httpx.AsyncClient) -> None:
    before = (await client.get("/metrics")).text.count("\n")
    for number in range(50):
        assert (await client.get(f"/files/{number}.php")).status_code == 404
    after = (await client.get("/metrics")).text
    assert ".php" not in after
    assert after.count("\n") < before + 20


async def test_a_body_with_a_mark_of_its_coding_is_read(client: httpx.AsyncClient) -> None:
    body = json.dumps({"model": "weightless", "messages": [ASK]})
    for content in (b"\xef\xbb\xbf" + body.encode(), body.encode("utf-16")):
        answered = await client.post(
            "/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}
        )
        assert answered.status_code == 200, answered.text


class TestWithKeys:
    @pytest.fixture
    def pki(self, tmp_path: Path) -> Pki:
        return make_pki(tmp_path / "certs")

    @pytest.fixture
    def settings(self, pki: Pki) -> dict[str, object]:
        return pki.settings() | {"cors_origins": ("https://app.example",)}

    @pytest.fixture
    async def client(self, running: Running, pki: Pki) -> AsyncIterator[httpx.AsyncClient]:
        trust = ssl.create_default_context(cadata=pki.root.decode())
        base = running.addresses.rest
        async with httpx.AsyncClient(base_url=base, verify=trust, timeout=PATIENCE_S) as client:
            yield client

    async def test_a_browser_asks_beforehand_without_a_key(self, client: httpx.AsyncClient) -> None:
        page = {"Origin": "https://app.example"}
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        allowed = await client.options("/v1/chat/completions", headers=page | asks)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
        # Without the key nothing is answered, in words that the page may read.
        refused = await client.post("/v1/chat/completions", json={}, headers=page)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://app.example"

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bearer "])
    async def test_the_scheme_of_a_key_may_be_written_in_any_case(
        self, client: httpx.AsyncClient, pki: Pki, scheme: str
    ) -> None:
        key = keys.add_key(pki.access, "app", 1e9)
        asked = await client.get("/v1/models", headers={"Authorization": f"{scheme} {key}"})
        assert asked.status_code == 200, asked.text


WITHOUT_IPV6 = """
import fcntl, os, pathlib, socket, struct, subprocess, sys, tempfile
import grpc, httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.waiting import until_true
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
    fcntl.ioctl(link, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
pathlib.Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
ready = pathlib.Path(tempfile.mkdtemp(), "ready.json")
ports = {"TOKENLINK_SERVER_GRPC_PORT": "50051", "TOKENLINK_SERVER_REST_PORT": "8080"}
served = subprocess.Popen(
    [sys.executable, "-m", "tests.contract.serve_weightless"],
    env=os.environ | ports | {"TOKENLINK_SERVER_READY_FILE": str(ready), "TOKENLINK_SERVER_HOST": sys.argv[1],
                              "TOKENLINK_SERVER_TRUSTED_NETWORK": "1"},
)
try:
    until_true(lambda: ready.exists() or served.poll() is not None)
    for host in ("127.0.0.1", "localhost"):
        assert httpx.get(f"http://{host}:8080/livez", timeout=30).status_code == 200
        with grpc.insecure_channel(f"{host}:50051") as channel:
            asked = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
            assert asked.status == health_pb2.HealthCheckResponse.SERVING
finally:
    served.terminate()
    sys.exit(served.wait())
"""


def _may_unshare() -> bool:
    program = shutil.which("unshare")
    if program is None:
        return False
    script = "test -w /proc/sys/net/ipv6/conf/all/disable_ipv6"
    done = subprocess.run([program, "-rn", "sh", "-c", script], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not _may_unshare(), reason="no network of one's own may be made here")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::"])
def test_a_machine_without_ipv6_is_served(host: str) -> None:
    root = Path(__file__).parents[2]
    command = ["unshare", "-rn", sys.executable, "-c", WITHOUT_IPV6, host]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr[-2000:]
