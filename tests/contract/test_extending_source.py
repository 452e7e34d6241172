"""Adding a source of clips takes its class and its registration: commands know sources by scheme alone."""

from __future__ import annotations

import asyncio
import importlib
import json
import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from device_agent.cli import start
from device_agent.errors import ConfigurationError, MediaError
from device_agent.media.clip import Clip, MediaSpec
from device_agent.sources import registry
from device_agent.sources.folder import Folder
from device_agent.sources.registry import Source, first_clip, open_source, register, schemes, unregister
from tests.spelling import files_that_spell

SPEC = MediaSpec()


class Tone(Source):
    """Tones, ``tone:HZ`` and its overtones; silent above 1 kHz."""

    scheme: ClassVar[str] = "tone"
    live: ClassVar[bool] = True
    taken: ClassVar[list[str]] = []
    closed: ClassVar[list[str]] = []

    async def clips(self) -> AsyncIterator[Clip]:
        """One tone after another."""
        try:
            hz = float(self.where)
            while hz < 1000.0:
                self.taken.append(self.where)
                time_s = np.arange(self.spec.sample_rate_hz, dtype=np.float32) / self.spec.sample_rate_hz
                yield Clip(None, np.sin(2.0 * np.pi * hz * time_s).astype(np.float32))
                hz *= 2.0
        finally:
            self.closed.append(self.where)


@pytest.fixture
def tone() -> Iterator[str]:
    register(Tone)
    Tone.taken.clear()
    Tone.closed.clear()
    yield Tone.scheme
    unregister(Tone.scheme)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "silence.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(bytes(2 * 8_000))
    return path


def test_it_gives_clips_for_as_long_as_it_has_any(tone: str) -> None:
    async def all_of(source: Source) -> list[Clip]:
        return [clip async for clip in source.clips()]

    assert len(asyncio.run(all_of(open_source("tone:300", SPEC)))) == 2
    clip = asyncio.run(first_clip(open_source("tone:300", SPEC)))
    assert clip.modalities == ("audio",)
    # Whoever takes one closes it.
    assert Tone.closed == ["300", "300"]
    with pytest.raises(MediaError, match="gave no clip"):
        asyncio.run(first_clip(open_source("tone:2000", SPEC)))


def test_a_question_is_asked_about_it(
    tone: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Clip] = []

    class Outcome:
        def to_json(self) -> dict[str, str]:
            return {"answer": "a tone"}

    class Agent:
        async def __aenter__(self) -> Agent:
            return self

        async def __aexit__(self, *error: object) -> None:
            return None

        async def ask(self, question: str, clip: Clip, **options: Any) -> Outcome:
            asked.append(clip)
            return Outcome()

    # The package has a function of the module's name.
    module = importlib.import_module("device_agent.cli.main")
    monkeypatch.setattr(module, "open_agent", lambda settings, bundle: Agent())
    monkeypatch.setattr("sys.argv", ["device-agent", "ask", "tone:440", "what is it?", "--json"])
    with pytest.raises(SystemExit) as ended:
        start.main()
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out) == {"answer": "a tone"}
    assert [clip.modalities for clip in asked] == [("audio",)]
    assert Tone.taken == Tone.closed == ["440"]


def test_sources_of_the_package_are_known_by_their_schemes(wav: Path) -> None:
    lasting, live = ("file", "folder", "loop"), ("camera", "microphone", "v4l2", "alsa", "rtsp")
    assert set(schemes()) == {*lasting, *live}
    assert all(open_source(f"{scheme}://x", SPEC).live == (scheme in live) for scheme in schemes())
    assert asyncio.run(first_clip(open_source(str(wav), SPEC))).modalities == ("audio",)
    assert asyncio.run(first_clip(open_source(f"file:{wav}", SPEC))).modalities == ("audio",)


def test_a_folder_is_a_source_of_its_files(wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "poll_s", 0.0)
    assert asyncio.run(first_clip(open_source(f"folder:{wav.parent}", SPEC))).modalities == ("audio",)


def test_a_file_keeps_its_name(tmp_path: Path, wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "camera:1").write_bytes(wav.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert open_source("camera:1", SPEC).scheme == "file"
    assert open_source("holiday:1.wav", SPEC).scheme == "file"
    assert open_source("camera:2", SPEC).scheme == "camera"


def test_what_cannot_be_is_refused(tone: str) -> None:
    with pytest.raises(ConfigurationError, match="tone:WHERE"):
        open_source("tone:", SPEC)

    class Other(Tone):
        """Another of the same scheme."""

    with pytest.raises(ValueError, match="'tone' is registered already"):
        register(Other)


def test_a_scheme_is_spelled_by_its_class_the_registry_and_flags_of_its_own() -> None:
    allowed = {
        "device_agent/sources/capture.py",
        "device_agent/sources/registry.py",
        # --camera and --microphone, and advice about them.
        "device_agent/cli/main.py",
        "device_agent/doctor/device.py",
        # Words of questions that no clip answers.
        "edge_server/data/soundstage/outsiders.py",
    }
    assert files_that_spell("microphone", "camera") == allowed
    assert set(registry._MODULES) == set(schemes())
