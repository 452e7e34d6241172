"""Media from strangers, over REST: small files that ask for much, files that point elsewhere."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import av
import httpx
import pytest

from device_agent.media.limits import MediaLimits
from edge_server.server.config import ServerConfig
from tests import hostile_media as hostile
from tests.contract.conftest import Running
from tests.waiting import PATIENCE_S


@pytest.fixture
def media_limits() -> MediaLimits:
    return ServerConfig().media


@pytest.fixture
async def http(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client:
        yield client


def body_of(kind: str, data: bytes) -> dict[str, object]:
    return {"question": "ab", "media": [{"type": kind, "data": base64.b64encode(data).decode()}]}


async def test_every_bomb_is_refused_by_its_field_and_its_neighbours_are_answered(
    http: httpx.AsyncClient,
) -> None:
    """CVE-2026-54233 (sound that inflates 500 times) and its relatives."""
    for name, bomb in hostile.BOMBS.items():
        data = bomb.make()
        bad, good = await asyncio.gather(
            http.post("/v1/infer", json=body_of(bomb.kind, data)),
            http.post("/v1/infer", json={"question": "ab"}),
        )
        assert bad.status_code in (400, 413), f"{name}: {bad.text}"
        assert bad.json()["error"]["param"] == "media[0].data", name
        assert good.json()["answer"] == "2"


async def test_a_bomb_is_refused_at_the_other_door_too(http: httpx.AsyncClient) -> None:
    text = {"type": "text", "text": "what is it?"}
    for mime, part in (("image/png", "image_url"), ("video/mp4", "video_url")):
        bomb = hostile.BOMBS[
            "PNG, text of a gigabyte" if part == "image_url" else "MP4, fifty million samples"
        ]
        url = f"data:{mime};base64,{base64.b64encode(bomb.make()).decode()}"
        asked = {"role": "user", "content": [text, {"type": part, part: {"url": url}}]}
        refused = await http.post("/v1/chat/completions", json={"model": "weightless", "messages": [asked]})
        assert refused.status_code == 413
        assert refused.json()["error"]["param"] == f"messages[0].content[1].{part}.url"


async def test_what_is_only_large_is_answered(http: httpx.AsyncClient) -> None:
    costly = hostile.COSTLY["an hour of silence, of which four seconds are heard"]
    response = await http.post("/v1/infer", json=body_of("audio", costly.make()))
    assert response.json()["answer"] == "2+audio:16"


class Canary:
    """An address that notes who comes."""

    def __init__(self) -> None:
        self.visits: list[str] = []

    async def __aenter__(self) -> Canary:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits.append((await reader.readline()).decode())
        writer.write(b"HTTP/1.0 404 Not Found\r\n\r\n")
        writer.close()


KINDS = ("image", "video", "audio")


async def test_nothing_that_media_points_to_is_opened(http: httpx.AsyncClient, tmp_path: Path) -> None:
    """No address is asked, no file of the server is read, whatever FFmpeg could do for a playlist."""
    secret = tmp_path / "secret.pcm"
    secret.write_bytes(b"\x55\x2a" * 4096)
    async with Canary() as canary:
        for name, data in hostile.pointers(str(secret), canary.address).items():
            for kind in KINDS:
                response = await http.post("/v1/infer", json=body_of(kind, data))
                refused = response.status_code == 400
                # A track that says it lies elsewhere may be taken as what lies here instead.
                assert refused or "QuickTime" in name, f"{name} as {kind}: {response.text}"
        assert canary.visits == []
        # The bait works: FFmpeg goes where it is sent if it may.
        options = {"protocol_whitelist": "file,http,tcp"}
        playlist = tmp_path / "list.m3u8"
        playlist.write_bytes(hostile.pointers(str(secret), canary.address)["an HLS playlist of an address"])
        with pytest.raises(av.error.FFmpegError):
            await asyncio.to_thread(av.open, str(playlist), format="hls", options=options)
        assert canary.visits


async def test_no_address_is_fetched_for_a_client(http: httpx.AsyncClient) -> None:
    async with Canary() as canary:
        for url in (f"{canary.address}/a.png", "file:///etc/passwd", "ftp://127.0.0.1/a", "data:text/html,a"):
            part = {"type": "image_url", "image_url": {"url": url}}
            asked = {"role": "user", "content": [{"type": "text", "text": "a"}, part]}
            refused = await http.post(
                "/v1/chat/completions", json={"model": "weightless", "messages": [asked]}
            )
            assert refused.status_code == 400
            assert refused.json()["error"]["param"] == "messages[0].content[1].image_url.url"
        assert canary.visits == []


def test_a_track_kept_in_another_file_is_not_read_from_there(tmp_path: Path) -> None:
    from device_agent.errors import MediaError
    from device_agent.media.loading import clip_from_bytes

    secret = tmp_path / "secret.pcm"
    secret.write_bytes(b"\x55\x2a" * 4096)
    data = hostile.pointers(str(secret), "http://127.0.0.1:9")["a QuickTime track kept in another file"]
    try:
        clip = clip_from_bytes(data)
    except MediaError:
        return
    assert clip.pcm_S is not None
    assert not clip.pcm_S.any()  # the file's own silence
