"""Who is let in at the REST door, over real TLS, and what bodies may look like."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest

from edge_server.access import keys
from edge_server.frontdoor.http.json_shape import MAX_DEPTH
from edge_server.server.logs import JsonFormatter
from tests.authority import Pki, make_pki
from tests.contract.conftest import Running
from tests.contract.test_device_certificates import rejections
from tests.waiting import PATIENCE_S

QUESTION = {"question": "ab"}


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "certs")


@pytest.fixture
def settings(pki: Pki) -> dict[str, object]:
    return pki.settings()


@pytest.fixture
def key(pki: Pki) -> str:
    return keys.add_key(pki.access, "app", time.time())


@pytest.fixture
def trust(pki: Pki) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=pki.root.decode())
    # What newer Pythons ask for by default.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@pytest.fixture
async def client(running: Running, trust: ssl.SSLContext) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, verify=trust, timeout=PATIENCE_S) as http:
        yield http


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_a_good_key_is_answered_over_tls(client: httpx.AsyncClient, key: str) -> None:
    assert str(client.base_url).startswith("https://")
    answered = await client.post("/v1/infer", json=QUESTION, headers=bearer(key))
    assert answered.json()["answer"] == "2"


async def test_the_openai_sdk_sends_its_key(running: Running, trust: ssl.SSLContext, key: str) -> None:
    async with (
        httpx.AsyncClient(verify=trust) as http,
        openai.AsyncOpenAI(
            api_key=key, base_url=f"{running.addresses.rest}/v1", http_client=http, max_retries=0
        ) as sdk,
    ):
        asked = await sdk.chat.completions.create(
            model="weightless", messages=[{"role": "user", "content": "ab"}]
        )
        assert asked.choices[0].message.content == "2"
        with pytest.raises(openai.AuthenticationError):
            await sdk.with_options(api_key="sk-wrong").models.list()


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer wrong", "Bearer tokenlink-aaaa-bbbb", "Digest x", "Basic %%%", "Basic OmE="],
)
async def test_without_a_good_key_nothing_is_answered_or_read(
    running: Running, client: httpx.AsyncClient, key: str, authorization: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    for path in ("/v1/infer", "/v1/chat/completions", "/v1/responses"):
        refused = await client.post(path, content=b"x" * 2**25, headers=headers)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "unauthenticated"
        assert refused.headers["www-authenticate"].startswith("Bearer")
    for path in ("/v1/models", "/openapi.json", "/nowhere"):
        assert (await client.get(path, headers=headers)).status_code == 401
    assert rejections(running, "no_key") + rejections(running, "unknown_key") == 6.0


async def test_probes_need_no_key_and_metrics_only_where_that_is_wanted(
    running: Running, client: httpx.AsyncClient
) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await client.get(path)).status_code == 200


class TestClosedMetrics:
    @pytest.fixture
    def settings(self, pki: Pki) -> dict[str, object]:
        return pki.settings() | {"metrics_open": False}

    async def test_metrics_need_a_key(self, client: httpx.AsyncClient, key: str) -> None:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers=bearer(key))).status_code == 200


async def test_a_browser_may_give_the_key_as_a_password_but_not_to_the_programs_paths(
    client: httpx.AsyncClient, key: str
) -> None:
    refused = await client.get("/docs")
    assert refused.headers["www-authenticate"].startswith("Basic")
    basic = {"Authorization": "Basic " + base64.b64encode(f"me:{key}".encode()).decode()}
    assert (await client.get("/docs", headers=basic)).status_code == 200
    assert (await client.post("/v1/infer", json=QUESTION, headers=basic)).status_code == 401


async def test_a_key_that_was_revoked_is_refused_at_once(
    client: httpx.AsyncClient, pki: Pki, key: str
) -> None:
    assert (await client.get("/v1/models", headers=bearer(key))).status_code == 200
    keys.revoke_key(pki.access, "app", time.time())
    refused = await client.get("/v1/models", headers=bearer(key))
    assert refused.status_code == 401
    assert "revoked" in refused.json()["error"]["message"]


class TestRates:
    @pytest.fixture
    def settings(self, pki: Pki) -> dict[str, object]:
        return pki.settings() | {"questions_per_minute": 2, "bytes_per_minute": 4000, "max_streams": 2}

    async def test_each_key_has_its_own_minute(
        self, running: Running, client: httpx.AsyncClient, pki: Pki, key: str
    ) -> None:
        other = keys.add_key(pki.access, "other", time.time())
        for status in (200, 200, 429):
            answered = await client.post("/v1/infer", json=QUESTION, headers=bearer(key))
            assert answered.status_code == status
        assert 20 < int(answered.headers["retry-after"]) <= 30
        assert (await client.post("/v1/infer", json=QUESTION, headers=bearer(other))).status_code == 200
        assert rejections(running, "question_rate") == 1.0

    async def test_bytes_are_counted_while_they_are_read(self, running: Running, key: str) -> None:
        sent = 0

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal sent
            for _ in range(4000):
                sent += 1
                yield b" " * 1000

        transport = httpx.ASGITransport(running.server.rest_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            refused = await http.post("/v1/infer", content=pieces(), headers=bearer(key))
        assert refused.status_code == 429
        assert sent == 5
        assert rejections(running, "byte_rate") == 1.0

    async def test_open_requests_are_bounded(
        self, running: Running, client: httpx.AsyncClient, key: str
    ) -> None:
        running.model.gate.close()
        asked = [
            asyncio.create_task(client.post("/v1/infer", json=QUESTION, headers=bearer(key)))
            for _ in range(2)
        ]
        await running.until(lambda: running.server.engine.unanswered == 2)
        assert (await client.get("/v1/models", headers=bearer(key))).status_code == 429
        running.model.gate.open()
        assert {(await each).status_code for each in asked} == {200}


@pytest.mark.parametrize(
    ("content", "status", "named"),
    [
        (b'{"question": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "10001 deep"),
        (b'{"question": "a", "max_new_tokens": ' + b"9" * 100_000 + b"}", 400, "100000 digits"),
        (b'{"question": "a", "media": [' + b"1," * 200_000 + b"1]}", 413, "commas"),
        (b'{"question": "a", "max_new_tokens": ' + b"9" * 60 + b"}", 400, "max_new_tokens"),
        (b'{"question": ' + b"[" * (MAX_DEPTH - 2) + b"]" * (MAX_DEPTH - 2) + b"}", 400, "question"),
    ],
    ids=["nested", "long integer", "many parts", "large integer", "deepest allowed"],
)
@pytest.mark.parametrize("path", ["/v1/infer", "/v1/chat/completions", "/v1/responses"])
async def test_bodies_that_would_choke_a_parser_are_named_quickly(
    running: Running, client: httpx.AsyncClient, key: str, path: str, content: bytes, status: int, named: str
) -> None:
    if path != "/v1/infer":
        asks, bound = {
            "/v1/responses": (b"input", b"max_output_tokens"),
            "/v1/chat/completions": (b"messages", b"max_tokens"),
        }[path]
        content = content.replace(b'"question": "a"', b'"model": "weightless"').replace(b"question", asks)
        content = content.replace(b"max_new_tokens", bound).replace(b"media", b"tools")
        named = "required" if named in ("max_new_tokens", "question") else named
    began_s = time.process_time()
    refused = await client.post(
        path, content=content, headers=bearer(key) | {"content-type": "application/json"}
    )
    assert time.process_time() - began_s < 1.0
    assert refused.status_code == status, refused.text
    assert named in refused.json()["error"]["message"]
    good = await client.post("/v1/infer", json=QUESTION, headers=bearer(key))
    assert good.json()["answer"] == "2"


async def test_no_secret_reaches_the_log(
    client: httpx.AsyncClient, pki: Pki, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = [key, "tokenlink-aaaabbbbcccc-WRONGSECRET", (pki.folder / "server.key").read_text()]
    with caplog.at_level(logging.DEBUG):
        for secret in secrets[:2]:
            for headers in (bearer(secret), {"Authorization": f"Basic {secret}"}):
                await client.post("/v1/infer", json=QUESTION, headers=headers)
                await client.post("/v1/infer", content=b"[" * 100, headers=headers)
                await client.get("/docs", headers=headers)
    ours = [record for record in caplog.records if record.name.startswith(("edge_server", "uvicorn"))]
    assert any(record.message == "not let in" for record in ours)
    logged = "\n".join(JsonFormatter().format(record) for record in ours)
    for secret in secrets:
        assert secret not in logged
        assert json.dumps(secret)[1:-1] not in logged
    for secret in secrets[:2]:
        assert secret.rpartition("-")[2] not in logged
