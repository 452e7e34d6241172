"""Films and photos of phones over REST: larger than what of a body is held in memory, and little is read."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator
from fractions import Fraction

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from device_agent.media.limits import MediaLimits
from edge_server.server.config import ServerConfig
from tests import hostile_media as hostile
from tests.contract.conftest import Running
from tests.media_films import slow_motion
from tests.waiting import PATIENCE_S

SIZE = 16 * 2**20


@pytest.fixture
def media_limits() -> MediaLimits:
    return ServerConfig().media


@pytest.fixture
async def http(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client:
        yield client


def film() -> bytes:
    """Six seconds of noise: 3 MiB a second."""
    file = io.BytesIO()
    rng = np.random.default_rng(1)
    with av.open(file, "w", format="matroska") as out:
        video = out.add_stream("ffv1", rate=8)
        video.width, video.height, video.pix_fmt = 512, 512, "yuv420p"
        for number in range(48):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (768, 512), np.uint8), format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 8)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return file.getvalue()


def photo() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((4000, 6000), 60).save(file, "JPEG", quality=98)
    return file.getvalue()


async def test_a_film_larger_than_any_body_in_memory_is_asked_about(
    running: Running, http: httpx.AsyncClient
) -> None:
    data = film()
    assert len(data) > SIZE
    part = {"type": "video", "data": base64.b64encode(data).decode(), "window": {"start_s": 1.5}}
    answer = await http.post("/v1/infer", json={"question": "ab", "media": [part]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["window"] == {"start_s": 1.5, "end_s": 5.5, "duration_s": 6.0}
    bounds = running.server.bounds
    assert bounds.uploads.held == bounds.held_bytes.held == 0
    url = f"data:video/x-matroska;base64,{part['data']}"
    text = {"type": "text", "text": "ab"}
    asked = {"role": "user", "content": [text, {"type": "video_url", "video_url": {"url": url}}]}
    chat = await http.post("/v1/chat/completions", json={"model": "weightless", "messages": [asked]})
    assert chat.status_code == 200, chat.text
    assert chat.json()["window"]["end_s"] == 4.0


async def test_every_window_is_asked_about(http: httpx.AsyncClient) -> None:
    part = {"type": "audio", "data": base64.b64encode(hostile.wav(8_000, 1, 8_000 * 10)).decode()}
    answer = await http.post("/v1/infer", json={"question": "ab", "media": [part], "every": True})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [one["window"]["start_s"] for one in found["windows"]] == [0.0, 4.0, 8.0]
    assert found["windows"][2]["window"]["end_s"] == 10.0
    assert found["answer"] == found["windows"][0]["answer"]
    long = {**part, "data": base64.b64encode(hostile.wav(8_000, 1, 8_000 * 300)).decode()}
    for media, said in (
        ([], "needs media that has a time"),
        ([{**part, "window": {"start_s": 1.0}}], "goes without a window"),
        ([long], "rest.max_windows"),
    ):
        refused = await http.post("/v1/infer", json={"question": "ab", "media": media, "every": True})
        assert refused.status_code in (400, 413)
        assert refused.json()["error"]["param"] == "every"
        assert said in refused.text


def chat_about(data: bytes, **more: object) -> dict[str, object]:
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "wav"}}
    asked = {"role": "user", "content": [{"type": "text", "text": "ab"}, {**sound, **more}]}
    return {"model": "weightless", "messages": [asked], "every": True}


async def test_every_window_is_asked_about_in_a_chat(http: httpx.AsyncClient) -> None:
    ten_s = hostile.wav(8_000, 1, 8_000 * 10)
    answer = await http.post("/v1/chat/completions", json=chat_about(ten_s))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    said = "2+audio:16"
    lines = [f"0:00 to 0:04: {said}", f"0:04 to 0:08: {said}", f"0:08 to 0:10: {said}"]
    (choice,) = found["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("\n".join(lines), "stop")
    assert [one["window"]["start_s"] for one in found["windows"]] == [0.0, 4.0, 8.0]
    assert {one["content"] for one in found["windows"]} == {said}
    assert found["usage"]["completion_tokens"] == 3 * len(said)
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] + 3 * len(said)
    assert "warnings" not in {name for name, value in found.items() if value}

    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    events = await http.post("/v1/chat/completions", json=chat_about(ten_s) | streamed)
    *chunks, done = [line.removeprefix("data: ") for line in events.text.split("\n\n") if line]
    assert done == "[DONE]"
    told = [json.loads(chunk) for chunk in chunks]
    deltas = [choice["delta"]["content"] or "" for chunk in told for choice in chunk["choices"]]
    assert "".join(deltas) == "\n".join(lines)
    windows = [window for chunk in told for window in chunk.get("windows", ())]
    assert windows == found["windows"]
    assert told[-1]["usage"] == found["usage"]
    assert told[-2]["choices"][0]["finish_reason"] == "stop"

    text = {"model": "weightless", "messages": [{"role": "user", "content": "ab"}], "every": True}
    for body, reason in (
        (text, "needs media that has a time"),
        (chat_about(ten_s, window={"start_s": 1.0}), "goes without a window"),
        (chat_about(hostile.wav(8_000, 1, 8_000 * 300)), "rest.max_windows"),
        (chat_about(ten_s) | {"n": 2}, "leave out n and logprobs"),
        (chat_about(ten_s) | {"logprobs": True}, "leave out n and logprobs"),
    ):
        refused = await http.post("/v1/chat/completions", json=body)
        assert refused.status_code in (400, 413)
        assert refused.json()["error"]["param"] == "every"
        assert reason in refused.text


async def test_a_film_at_960_frames_a_second_is_asked_about(http: httpx.AsyncClient) -> None:
    part = {"type": "video", "data": base64.b64encode(slow_motion(fast_s=1.0)).decode()}
    answer = await http.post("/v1/infer", json={"question": "ab", "media": [part]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["answer"] == "2+video:16"
    assert answer.json()["window"]["end_s"] == pytest.approx(4.0, abs=0.13)


async def test_a_photo_of_24_megapixels_is_asked_about(http: httpx.AsyncClient) -> None:
    part = {"type": "image", "data": base64.b64encode(photo()).decode()}
    answer = await http.post("/v1/infer", json={"question": "ab", "media": [part]})
    assert answer.status_code == 200, answer.text


async def test_a_data_url_need_not_say_what_it_holds(http: httpx.AsyncClient) -> None:
    text = {"type": "text", "text": "ab"}
    for kind in ("image/jpeg", "application/octet-stream", ""):
        url = f"data:{kind};base64,{base64.b64encode(photo()).decode()}"
        asked = {"role": "user", "content": [text, {"type": "image_url", "image_url": {"url": url}}]}
        chat = await http.post("/v1/chat/completions", json={"model": "weightless", "messages": [asked]})
        assert chat.status_code == 200, chat.text


@pytest.fixture
def settings() -> dict[str, object]:
    return {}


async def test_what_is_too_large_says_which_limit(http: httpx.AsyncClient) -> None:
    long = {"question": "ab " * (6 * 2**20)}
    refused = await http.post("/v1/infer", json=long)
    assert refused.status_code == 413
    assert "rest.max_body_bytes" in refused.text
