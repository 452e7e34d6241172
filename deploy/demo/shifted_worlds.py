"""Makes worlds that differ from that of training out of the demo's clips: a folder of examples a device.

    python deploy/demo/shifted_worlds.py deploy/demo OUT      OUT/dark OUT/noisy OUT/hum

Needs the device agent's packages alone; what is there already stays.
"""

from __future__ import annotations

import json
import shutil
import sys
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from device_agent.cotrain.questions_file import FILE
from device_agent.media.clip import Clip
from device_agent.media.loading import clip_from_file

_RATE_HZ = 8


def _dark(clip: Clip, rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    frames, sound = _parts(clip)
    lit = frames * 0.12 + rng.normal(0.0, 6.0, frames.shape)
    return np.clip(lit, 0, 255).astype(np.uint8), sound


def _noisy(clip: Clip, rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    frames, sound = _parts(clip)
    return np.clip(frames + rng.normal(0.0, 60.0, frames.shape), 0, 255).astype(np.uint8), sound


def _hum(clip: Clip, rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    frames, sound = _parts(clip)
    time_S = np.arange(len(sound)) / 16_000
    hum = sum(np.sin(2 * np.pi * 100.0 * k * time_S) / k for k in range(1, 9))
    return frames, np.clip(sound + 0.35 * hum, -1.0, 1.0).astype(np.float32)


WORLDS = {"dark": _dark, "noisy": _noisy, "hum": _hum}


def make(demo: Path, out: Path) -> None:
    """Write each world's clips and questions; the last clip is held out."""
    questions = json.loads((demo / "questions.json").read_text(encoding="utf-8"))
    clips = sorted({each["clip"] for each in questions})
    for index, (world, shift) in enumerate(WORLDS.items()):
        folder = out / world
        if (folder / FILE).exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        rng = np.random.default_rng(index)
        for name in clips:
            frames, sound = shift(clip_from_file(demo / "clips" / name, field=name), rng)
            _write_video(folder / f"{Path(name).stem}.mkv", frames)
            _write_sound(folder / f"{Path(name).stem}.wav", sound)
        lines = [
            {
                "media": [f"{Path(each['clip']).stem}.mkv", f"{Path(each['clip']).stem}.wav"],
                "question": each["question"],
                "answer": each["answer"],
                "split": "val" if each["clip"] == clips[-1] else "train",
            }
            for each in questions
        ]
        (folder / FILE).write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")


def _parts(clip: Clip) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    if clip.frames_THWC is None or clip.pcm_S is None:
        raise SystemExit("a clip of the demo shows nothing, or does not sound")
    return clip.frames_THWC, clip.pcm_S


def _write_video(path: Path, frames_THWC: npt.NDArray[np.uint8]) -> None:
    """Lossless, so that the shift is all that is changed."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(_RATE_HZ))
        stream.height, stream.width = frames_THWC.shape[1:3]
        stream.pix_fmt = "bgr0"
        for frame in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _write_sound(path: Path, sound: npt.NDArray[np.float32]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
