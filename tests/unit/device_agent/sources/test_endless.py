"""Sources that do not end: a file again and again, a camera of the network whose address nobody is told."""

from __future__ import annotations

import asyncio
import logging
import wave
from pathlib import Path

import numpy as np
import pytest

from device_agent.errors import ConfigurationError, MediaError
from device_agent.media.clip import Clip, MediaSpec
from device_agent.sharing.sharing import named_sources
from device_agent.sources.looped import Windows
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
    with pytest.raises(ConfigurationError, match="source: is missing"):
        named_sources([], "porch")
