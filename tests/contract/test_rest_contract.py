"""What an HTTP client may rely on, with and without a socket."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import os
import socket
import wave
from collections.abc import AsyncIterator

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from edge_server.errors import AdmissionRefusedError
from protos import payload
from protos.names import DTYPES
from tests import hostile_media as hostile
from tests.contract.conftest import Running
from tests.waiting import PATIENCE_S, obey
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 24), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def wav(seconds: float = 0.5) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(np.zeros(int(16_000 * seconds), "<i2").tobytes())
    return file.getvalue()


def image(data: bytes | None = None) -> dict[str, str]:
    return {"type": "image", "data": b64(png() if data is None else data)}


def noise() -> bytes:
    """A picture of more than a mebibyte."""
    file = io.BytesIO()
    Image.effect_noise((1200, 1200), 80).save(file, "PNG")
    return file.getvalue()


def audio(data: bytes | None = None) -> dict[str, str]:
    return {"type": "audio", "data": b64(wav() if data is None else data)}


def block(modality: str = "video", token_length: int = 4, dtype: str = "float16") -> dict[str, object]:
    packed = payload.encode(np.full((token_length, CHANNEL_DIM), 0.5, np.float32), modality, dtype)
    return {
        "modality": modality,
        "dtype": dtype,
        "shape": [token_length, CHANNEL_DIM],
        "data": b64(packed.data),
        "scale": packed.scale,
        "snr_db": 10.0,
    }


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(running.server.rest_app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


def error_of(response: httpx.Response) -> dict[str, str | None]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "code", "param"}
    error: dict[str, str | None] = body["error"]
    return error


async def test_media_is_tokenised_and_answered_with_its_cost(client: httpx.AsyncClient) -> None:
    asked = {
        "question": "what plays?",
        "media": [image(), audio()],
        "link": {"channel": "awgn", "snr_db": 10, "token_length": 8, "bandwidth_hz": 1e6, "seed": 1},
    }
    response = await client.post("/v1/infer", json=asked)
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["answer"] == "11+image:8+audio:8"
    assert (body["model"], body["bundle_hash"]) == ("weightless", BUNDLE_HASH)
    assert body["finish_reason"] == "stop"
    assert body["logprobs"] == [pytest.approx(math.log(0.5))] * len("11+image:8+audio:8")
    uses = 8 * CHANNEL_DIM // 2
    assert body["uplink"][0] == {
        "modality": "image",
        "token_length": 8,
        "effective_snr_db": 10.0,
        "channel_uses": uses,
        "airtime_s": pytest.approx(uses / 1e6),
        "payload_bytes": 8 * CHANNEL_DIM * 4,
    }


def seconds_of_silence(seconds: float) -> str:
    return base64.b64encode(hostile.wav(16_000, 1, round(16_000 * seconds))).decode()


async def test_an_answer_says_which_part_of_a_recording_it_is_about(client: httpx.AsyncClient) -> None:
    sound = {"type": "audio", "data": seconds_of_silence(10)}
    for asked, start_s, end_s in (({}, 0, 4), ({"start_s": 5}, 5, 9), ({"start_s": 1, "end_s": 2.5}, 1, 2.5)):
        part = sound | ({"window": asked} if asked else {})
        response = await client.post("/v1/infer", json={"question": "ab", "media": [part]})
        assert response.json()["window"] == {"start_s": start_s, "end_s": end_s, "duration_s": 10}
        url = {"data": seconds_of_silence(10), "format": "wav"}
        heard = {"type": "input_audio", "input_audio": url} | ({"window": asked} if asked else {})
        content = [{"type": "text", "text": "ab"}, heard]
        body = {"model": "weightless", "messages": [{"role": "user", "content": content}]}
        response = await client.post("/v1/chat/completions", json=body)
        assert response.json()["window"] == {"start_s": start_s, "end_s": end_s, "duration_s": 10}
    response = await client.post("/v1/infer", json={"question": "ab"})
    assert response.json()["window"] is None


@pytest.mark.parametrize(
    ("window", "param", "complaint"),
    [
        ({"start_s": 3, "end_s": 2}, "media[0].window.end_s", "start_s is 3"),
        ({"start_s": 0, "end_s": 9}, "media[0].window", "looks at 4 s at a time"),
        ({"start_s": 12}, "media[0].window", "holds nothing from 12 s on"),
        ({"start_s": -1}, "media[0].window.start_s", "greater than or equal to 0"),
    ],
)
async def test_a_window_that_is_none_is_refused_by_its_field(
    client: httpx.AsyncClient, window: dict[str, float], param: str, complaint: str
) -> None:
    part = {"type": "audio", "data": seconds_of_silence(10), "window": window}
    response = await client.post("/v1/infer", json={"question": "ab", "media": [part]})
    assert response.status_code in (400, 422)
    assert response.json()["error"]["param"] == param
    assert complaint in response.json()["error"]["message"]


async def test_the_payload_of_the_emulated_link_can_be_chosen(client: httpx.AsyncClient) -> None:
    link = {"channel": "awgn", "snr_db": 10, "token_length": 4, "payload": "int4"}
    response = await client.post("/v1/infer", json={"question": "a", "media": [image()], "link": link})
    assert response.json()["uplink"][0]["payload_bytes"] == 4 * CHANNEL_DIM // 2
    refused = await client.post("/v1/infer", json={"question": "a", "link": {"payload": "int2"}})
    assert error_of(refused)["param"] == "link.payload"


async def test_token_blocks_are_answered(client: httpx.AsyncClient) -> None:
    for dtype in DTYPES:
        response = await client.post(
            "/v1/infer", json={"question": "ab", "blocks": [block(dtype=dtype), block("audio", 32, dtype)]}
        )
        assert response.json()["answer"] == "2+video:4+audio:32"


async def test_a_text_block_carries_the_question(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/infer", json={"blocks": [block("text", 20)]})
    assert response.json()["answer"] == "0+text:20"


def without_end(data: bytes) -> bytes:
    return data[: len(data) // 3]


def lying_wav() -> bytes:
    """A WAV whose header promises a gigabyte."""
    data = bytearray(wav())
    data[40:44] = (2**30).to_bytes(4, "little")
    return bytes(data)


BAD: dict[str, tuple[dict[str, object], int, str | None]] = {
    "empty question": ({"question": "", "media": [image()]}, 400, "question"),
    "blank question": ({"question": " \n\t"}, 400, "question"),
    "question twice": ({"question": "a", "blocks": [block("text")]}, 400, "question"),
    "unknown field": ({"question": "a", "temperture": 1}, 400, "temperture"),
    "unknown modality of media": (
        {"question": "a", "media": [{"type": "smell", "data": ""}]},
        400,
        "media[0].type",
    ),
    "unknown modality of a block": (
        {"question": "a", "blocks": [block() | {"modality": "smell"}]},
        400,
        "blocks[0].modality",
    ),
    "wrong dtype": ({"question": "a", "blocks": [block() | {"dtype": "float64"}]}, 400, "blocks[0].dtype"),
    "wrong shape": ({"question": "a", "blocks": [block() | {"shape": [4, 9]}]}, 400, "blocks[0].shape"),
    "wrong size": ({"question": "a", "blocks": [block() | {"data": b64(b"12")}]}, 400, "blocks[0].data"),
    "too many tokens": ({"question": "a", "blocks": [block(token_length=64)]}, 400, "blocks[0].shape"),
    "NaN": (
        {
            "question": "a",
            "blocks": [block() | {"data": b64(np.full((4, CHANNEL_DIM), np.nan, "<f2").tobytes())}],
        },
        400,
        "blocks[0].data",
    ),
    "wrong checksum": ({"question": "a", "blocks": [block() | {"crc32": 1}]}, 400, "blocks[0].crc32"),
    "block that is not base64": (
        {"question": "a", "blocks": [block() | {"data": "%%%"}]},
        400,
        "blocks[0].data",
    ),
    "media that is not base64": (
        {"question": "a", "media": [{"type": "image", "data": "%%%"}]},
        400,
        "media[0].data",
    ),
    "empty media": ({"question": "a", "media": [{"type": "image", "data": ""}]}, 400, "media[0].data"),
    "broken image": ({"question": "a", "media": [image(without_end(png()))]}, 400, "media[0].data"),
    "no image at all": ({"question": "a", "media": [image(b"hello" * 50)]}, 400, "media[0].data"),
    "sound as an image": ({"question": "a", "media": [image(wav())]}, 400, "media[0].data"),
    "WAV that lies about its length": (
        {"question": "a", "media": [audio(lying_wav())]},
        400,
        "media[0].data",
    ),
    "media beyond the limit": ({"question": "a", "media": [image(noise())]}, 413, "media[0].data"),
    "two images": ({"question": "a", "media": [image(), image()]}, 400, "media"),
    "image and image block": ({"question": "a", "media": [image()], "blocks": [block()]}, 400, "media"),
    "token length that was not trained": (
        {"question": "a", "media": [image()], "link": {"token_length": 5}},
        400,
        "token_length",
    ),
    "unknown channel": (
        {"question": "a", "media": [image()], "link": {"channel": "telepathy"}},
        400,
        "link.channel",
    ),
    "too many new tokens": ({"question": "a", "max_new_tokens": 100_000}, 400, "max_new_tokens"),
    "unknown priority": ({"question": "a", "priority": "royal"}, 400, "priority"),
    "text that is no Unicode": ({"question": "\ud800"}, 400, "question"),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_question_names_its_field_and_its_neighbour_is_answered(
    client: httpx.AsyncClient, what: str
) -> None:
    body, status, field = BAD[what]
    # By hand: httpx would not send a lone surrogate, other clients do.
    content = json.dumps(body).encode()
    bad, good = await asyncio.gather(
        client.post("/v1/infer", content=content, headers={"content-type": "application/json"}),
        client.post("/v1/infer", json={"question": "ab"}),
    )
    assert bad.status_code == status, bad.text
    error = error_of(bad)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == field
    assert str(field) in str(error["message"])
    assert good.json()["answer"] == "2"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b'{"question": "\xff"}', b"[1]", b'{"question": NaN}', b"null"]
)
async def test_a_body_that_is_no_question_is_refused_in_the_one_shape(
    client: httpx.AsyncClient, content: bytes
) -> None:
    response = await client.post("/v1/infer", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"
    # A number that JSON does not have has a place; all else is the body as a whole.
    assert error_of(response)["param"] == ("question" if b"NaN" in content else "body")


async def test_unknown_paths_and_methods_answer_in_the_one_shape(client: httpx.AsyncClient) -> None:
    for response, status in (
        (await client.get("/nowhere"), 404),
        (await client.get("/v1/infer"), 405),
    ):
        assert response.status_code == status
        assert error_of(response)["message"]


async def test_who_asks_for_more_of_the_openai_api_is_told_what_there_is(client: httpx.AsyncClient) -> None:
    for path in ("completions", "embeddings", "responses/compact"):
        refused = await client.post(f"/v1/{path}", json={"input": "Is there a flute sound?"})
        assert refused.status_code == 404
        said = str(error_of(refused)["message"])
        assert said.startswith(f"POST /v1/{path}: Not Found; there are ")
        there = set(said.split("are ")[1].split(", "))
        assert {"POST /v1/responses", "POST /v1/chat/completions", "GET /v1/models/{model_id}"} <= there


class TestSmallBodies:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"max_rest_body_bytes": 2000, "rest.max_upload_bytes": 1024}

    @pytest.mark.parametrize("announced", [True, False])
    async def test_a_body_beyond_the_limit_is_not_read_to_its_end(
        self, running: Running, announced: bool
    ) -> None:
        sent = 0

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal sent
            for _ in range(1000):
                sent += 1
                yield b"x" * 1000

        headers = {"content-length": str(1_000_000)} if announced else {}
        transport = httpx.ASGITransport(running.server.rest_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            response = await http.post("/v1/infer", content=pieces(), headers=headers)
            assert response.status_code == 413
            assert "2000" in str(error_of(response)["message"])
            assert error_of(response)["param"] == "body"
            assert sent <= (1 if announced else 3)
            good = await http.post("/v1/infer", json={"question": "ab"})
            assert good.json()["answer"] == "2"


class TestOverload:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"max_batch": 1, "max_queue": 1}

    async def test_too_much_is_429_with_a_delay_that_leads_to_success(
        self, running: Running, client: httpx.AsyncClient
    ) -> None:
        running.model.gate.close()
        engine = running.server.engine
        first = asyncio.create_task(client.post("/v1/infer", json={"question": "a", "user": "first"}))
        await running.until(lambda: engine.running == 1)
        second = asyncio.create_task(client.post("/v1/infer", json={"question": "b", "user": "second"}))
        await running.until(lambda: engine.waiting == 1)
        # Admission comes before decoding: the broken image is not even looked at.
        refused = await client.post("/v1/infer", json={"question": "c", "media": [image(b"broken")]})
        assert refused.status_code == 429
        assert error_of(refused)["type"] == "rate_limit_error"
        assert int(refused.headers["retry-after"]) >= 1
        assert int(refused.headers["retry-after-ms"]) > 0
        running.model.gate.open()
        await obey(int(refused.headers["retry-after-ms"]) / 1000)
        again = await client.post("/v1/infer", json={"question": "c"})
        assert again.status_code == (await first).status_code == (await second).status_code == 200


async def test_a_model_that_fails_is_500_without_its_secrets(
    running: Running, client: httpx.AsyncClient
) -> None:
    def fault(rows: object) -> None:
        raise RuntimeError("broken")

    running.model.prefill_fault = fault
    response = await client.post("/v1/infer", json={"question": "a"})
    assert response.status_code == 500
    assert error_of(response)["type"] == "server_error"


@pytest.mark.parametrize("path", ["/v1/infer", "/v1/chat/completions", "stream", "/v1/responses", "events"])
async def test_a_client_that_disconnects_frees_its_slot(running: Running, path: str) -> None:
    running.model.answer = lambda prompt: "x" * 30
    running.model.gate.close()
    engine = running.server.engine
    chat = {"model": "weightless", "messages": [{"role": "user", "content": "a"}]}
    response = {"model": "weightless", "input": "a"}
    url, body = {
        "/v1/infer": ("/v1/infer", {"question": "a"}),
        "/v1/chat/completions": ("/v1/chat/completions", chat),
        "stream": ("/v1/chat/completions", chat | {"stream": True}),
        "/v1/responses": ("/v1/responses", response),
        "events": ("/v1/responses", response | {"stream": True}),
    }[path]
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as http:
        asking = asyncio.create_task(http.post(url, json=body))
        await running.until(lambda: engine.running == 1)
        asking.cancel()
        await asyncio.wait({asking})
        await running.until(lambda: engine.unanswered == 0)
        running.model.gate.open()
        await running.until(lambda: engine.running == 0)
        assert len(running.model.decodes) == 1
        running.model.answer = lambda prompt: "fine"
        assert (await http.post("/v1/infer", json={"question": "a"})).json()["answer"] == "fine"


async def test_probes_follow_the_engine(running: Running, client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).json()["status"] == "alive"
    assert (await client.get("/readyz")).json()["status"] == "ready"
    await running.server.drain()
    assert (await client.get("/livez")).status_code == 200
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert "draining" in str(error_of(response)["message"])
    refused = await client.post("/v1/infer", json={"question": "a"})
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"


async def test_metrics_count_what_happened(client: httpx.AsyncClient) -> None:
    link = {"channel": "awgn", "bandwidth_hz": 1e3, "token_length": 8}
    await client.post("/v1/infer", json={"question": "a", "media": [audio()], "link": link})
    await client.post("/v1/infer", json={"question": "a", "max_new_tokens": 100_000})
    text = (await client.get("/metrics")).text
    for line in (
        'tokenlink_questions_total{outcome="answered"} 1.0',
        'tokenlink_rejections_total{kind="invalid",reason="invalid"} 1.0',
        'tokenlink_token_length_sum{modality="audio"} 8.0',
        'tokenlink_airtime_seconds_total{modality="audio"} 0.032',
        "tokenlink_time_to_first_token_seconds_count 1.0",
        "tokenlink_queue_wait_seconds_count 1.0",
        "tokenlink_prefill_seconds_count 1.0",
        "tokenlink_queue_depth 0.0",
    ):
        assert line in text
    assert "tokenlink_batch_size_bucket" in text
    assert "tokenlink_decode_seconds_count" in text


async def test_what_is_refused_before_it_reaches_the_engine_is_counted(
    running: Running, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def count(reason: str) -> float:
        text = (await client.get("/metrics")).text
        (line,) = [line for line in text.splitlines() if f'reason="{reason}"' in line and "_total" in line]
        return float(line.split()[-1])

    for body in ({"question": " "}, {"question": "a", "media": [image(b"broken")]}):
        before = await count("invalid")
        assert (await client.post("/v1/infer", json=body)).status_code == 400
        assert await count("invalid") == before + 1

    async def full(*_: object) -> None:
        raise AdmissionRefusedError("enough", reason="ingest", retry_delay_s=1.0)

    monkeypatch.setattr(running.server.backends.current.served.ingest, "prepare", full)
    response = await client.post("/v1/infer", json={"question": "a", "media": [image()]})
    assert response.status_code == 429
    assert await count("ingest") == 1


async def test_an_answer_on_a_kept_connection_does_not_wait_for_an_acknowledgement(running: Running) -> None:
    # Nagle's algorithm and a delayed acknowledgement together take 40 ms, every time.
    async with httpx.AsyncClient(base_url=running.addresses.rest) as http:
        await http.get("/livez")
        links = [each for each in psutil.Process().net_connections("tcp") if each.status == "ESTABLISHED"]
        (ours,) = [each for each in links if each.laddr.port == running.addresses.rest_port]
        with socket.socket(fileno=os.dup(ours.fd)) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("name", ["gpt-7", "a/b", "%0Agpt", "gpt%0A", "a%0D%0A/b", "%00"])
async def test_a_model_that_is_not_served_is_named_whatever_its_name(
    client: httpx.AsyncClient, name: str
) -> None:
    response = await client.get(f"/v1/models/{name}")
    assert response.status_code == 404
    assert error_of(response)["param"] == "model"


async def test_the_api_describes_itself(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    asked = {"/v1/infer", "/v1/chat/completions", "/v1/responses", "/v1/models"}
    assert asked | {"/livez", "/readyz", "/metrics"} <= set(described["paths"])
    assert (await client.get("/docs")).status_code == 200
    text = json.dumps(described)
    assert "#/$defs" not in text, "a reference that leads nowhere"
    assert '"422"' not in text, "a status that is never answered"
    events = described["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"][
        "text/event-stream"
    ]
    assert "response.completed" in json.dumps(described["paths"]["/v1/responses"])
    choice = events["schema"]["properties"]["choices"]["items"]
    assert "content" in choice["properties"]["delta"]["properties"]
