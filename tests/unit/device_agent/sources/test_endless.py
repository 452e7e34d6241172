"""Sources that do not end: a file again and again, a camera of the network whose address nobody is told."""

from __future__ import annotations

import asyncio
import base64
import logging
import wave
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from urllib.parse import quote

import numpy as np
import pytest

from device_agent.errors import ConfigurationError, MediaError
from device_agent.media.clip import Clip, MediaSpec
from device_agent.sharing.sharing import named_sources
from device_agent.sources.looped import Windows
from device_agent.sources.network import Rtsp, host_of
from device_agent.sources.registry import Source, first_clip, open_source
from tests.ports import free_port

SPEC = MediaSpec(window_s=1.0)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """Two and a half seconds that get louder with each."""
    path = tmp_path / "sound.wav"
    tone = np.sin(np.arange(16_000) / 10.0)
    levels = np.concatenate([tone * 0.1, tone * 0.3, tone[:8000] * 0.9])
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes((levels * 32767).astype("<i2").tobytes())
    return path


async def take(source: Source, most: int) -> list[Clip]:
    taken: list[Clip] = []
    clips = source.clips()
    async for clip in clips:
        taken.append(clip)
        if len(taken) == most:
            break
    await clips.aclose()  # type: ignore[attr-defined]
    return taken


def loudness(clips: list[Clip]) -> list[float]:
    return [round(float(np.abs(clip.pcm_S).max()), 1) for clip in clips if clip.pcm_S is not None]


def test_a_file_is_gone_through_again_and_again(wav: Path) -> None:
    clips = asyncio.run(take(open_source(f"loop:{wav}", SPEC), 7))
    assert loudness(clips) == [0.1, 0.3, 0.9, 0.1, 0.3, 0.9, 0.1]


def test_or_once(wav: Path) -> None:
    assert loudness(asyncio.run(take(Windows(str(wav), SPEC), 9))) == [0.1, 0.3, 0.9]


def test_a_camera_that_is_not_there_does_not_give_its_password_away(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    source = open_source(f"rtsp://admin:s3cret@127.0.0.1:{free_port()}/stream?token=t0ken", SPEC)
    with pytest.raises(MediaError) as told:
        asyncio.run(first_clip(source))
    said = f"{told.value} {told.value.__cause__} {source.where} {caplog.text}"
    assert "rtsp://127.0.0.1:" in said
    for secret in ("s3cret", "admin", "t0ken", "stream"):
        assert secret not in said


@pytest.mark.parametrize("secret", ["12345#s3cret", "12345?s3cret", "s3[cret", "s3#cret", "s3/cret"])
def test_a_secret_that_is_not_written_as_addresses_are_is_not_told(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="as %23 %3F %2F %5B %5D %40 and %25") as told:
        host_of(f"rtsp://admin:{secret}@camera/stream")
    assert "12345" not in str(told.value)
    assert "s3" not in str(told.value)


def test_an_address_of_another_kind_is_told_by_its_kind_alone() -> None:
    with pytest.raises(ConfigurationError, match=r"source: rtsps: is no kind .*, rtsp") as told:
        open_source("rtsps://admin:s3cret@camera/stream", SPEC)
    assert "s3cret" not in str(told.value)


def test_what_an_address_is_called_has_nothing_of_its_secret() -> None:
    assert host_of("rtsp://admin:p%23ss@w@camera:8554/stream") == "rtsp://camera:8554"
    assert host_of("rtsp://camera:8554/stream?user=a@b") == "rtsp://camera:8554"
    assert host_of("rtsp://admin:s3cret@[fe80::1]:8554/stream") == "rtsp://[fe80::1]:8554"
    # The host is "admin" to whoever reads it as an address; the digits are of the secret.
    assert host_of("rtsp://admin:12345/s3cret@camera/stream") == "rtsp://admin"


@pytest.mark.parametrize("wrong", ["rtsp:x", "rtsp://", "rtsp://u:s3cret@", "rtsp://u:s3cret@host:99999/x"])
def test_an_address_that_is_none_is_refused_without_being_told(wrong: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        open_source(wrong, SPEC)
    assert "s3cret" not in str(told.value)


def test_what_scenes_are_called() -> None:
    assert named_sources(["rtsp://a/b"], "porch") == [("porch", "rtsp://a/b")]
    assert named_sources(["left=rtsp://a/b?x=y", "alsa:default", "clip.mp4"], "porch") == [
        ("porch/left", "rtsp://a/b?x=y"),
        ("porch/alsa-2", "alsa:default"),
        ("porch/file-3", "clip.mp4"),
    ]
    assert named_sources(["rtsp://a/b?x=y"], "porch") == [("porch", "rtsp://a/b?x=y")]
    with pytest.raises(ConfigurationError, match="porch/a"):
        named_sources(["a=x.mp4", "a=y.mp4"], "porch")
    with pytest.raises(ConfigurationError, match=r"source: scenes would be called .* 1 to 128"):
        named_sources([f"{'x' * 64}=a.mp4"], "d" * 64)
    with pytest.raises(ConfigurationError, match="source: is missing"):
        named_sources([], "porch")


CAMERA = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 26\r\na=control:track1\r\n"
)
SAID = {
    "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n",
    "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(CAMERA)}\r\n\r\n{CAMERA}",
    "SETUP": "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n",
}


@contextmanager
def camera(mute: bool = False, asks: str = "") -> Iterator[tuple[int, list[str]]]:
    """One that says nothing at all, all but pictures, or only asks who is there: port, what it heard."""
    heard: list[str] = []

    class Camera(StreamRequestHandler):
        def handle(self) -> None:
            with suppress(ConnectionError):
                while head := self.head():
                    heard.append("\n".join(head))
                    number = next(line for line in head if line.startswith("CSeq"))
                    known = asks == "" or any(line.startswith("Authorization") for line in head)
                    said = SAID.get(head[0].split()[0], "Session: 1\r\n\r\n")
                    status = "200 OK"
                    if not known and not head[0].startswith("OPTIONS"):
                        status, said = "401 Unauthorized", f"WWW-Authenticate: {asks}\r\n\r\n"
                    elif asks and not head[0].startswith("OPTIONS"):
                        status, said = "404 Not Found", "\r\n"
                    if not mute:
                        self.wfile.write(f"RTSP/1.0 {status}\r\n{number}\r\n{said}".encode())

        def head(self) -> list[str]:
            lines: list[str] = []
            while line := self.rfile.readline().decode().strip():
                lines.append(line)
            return lines

    with ThreadingTCPServer(("127.0.0.1", 0), Camera) as server:
        server.daemon_threads = True
        serving = Thread(target=server.serve_forever)
        serving.start()
        yield server.server_address[1], heard
        server.shutdown()
        serving.join()


@pytest.mark.parametrize("mute", [True, False])
def test_a_camera_that_falls_silent_is_told_as_that(monkeypatch: pytest.MonkeyPatch, mute: bool) -> None:
    monkeypatch.setattr(Rtsp, "timeout_s", 0.5)
    with camera(mute) as (port, heard):
        source = open_source(f"rtsp://admin:s3cret@127.0.0.1:{port}/stream", SPEC)
        with pytest.raises(MediaError, match=r"cannot be watched \(nothing came for 0\.5 s\)"):
            asyncio.run(first_clip(source))
        assert heard


@pytest.mark.parametrize("secret", ["s3cret", "p#s@/s?[]%&:ü 1", "$p*@JX"])
def test_any_secret_may_be_written_in_an_address(secret: str) -> None:
    with camera(asks='Basic realm="camera"') as (port, heard):
        source = open_source(f"rtsp://admin:{quote(secret, safe='')}@127.0.0.1:{port}/stream", SPEC)
        with pytest.raises(MediaError, match="404"):
            asyncio.run(first_clip(source))
    (sent,) = {line.rpartition(" ")[2] for line in heard[-1].splitlines() if line.startswith("Authorization")}
    assert base64.b64decode(sent).decode() == f"admin:{secret}"
