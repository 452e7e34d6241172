"""Soundstage clips in the layout of recorded data sets: what the paper-scale recipe is tried on.

OUT/VALOR/       annotation/desc_SPLIT.json   extraction/...   captions, for stage 1
    MUSIC-AVQA/  annotation/avqa-SPLIT.json   extraction/...   questions, for stage 2
"""

from __future__ import annotations

import json
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from edge_server.data import music_avqa, valor
from edge_server.data.authors_layout import ANNOTATION, FRAMES, SOUND
from edge_server.data.soundstage import picture, sound
from edge_server.data.soundstage.captions import describe
from edge_server.data.soundstage.dataset import SplitName, sample_scenes, video_id
from edge_server.data.soundstage.questions import Balancer
from edge_server.data.soundstage.scene import Scene

_JPEG_QUALITY = 92


def write_authors_layout(
    out: Path, split: SplitName, clips: int, seed: int, advance: Callable[[int], None] = lambda done: None
) -> None:
    """Write both data sets; they share no clip.

    Args:
        out: folder that gets a folder per data set.
        split: which one to write.
        clips: of each data set.
        seed: everything follows from it.
        advance: called with the number of clips finished since the last call.

    Raises:
        DatasetError: artwork, soundfont or voice are not installed.
    """
    scenes = sample_scenes(split, 2 * clips, seed)
    rng = np.random.default_rng([seed, get_args(SplitName).index(split), 2])
    captioned = {video_id(split, i): scenes[i] for i in range(clips)}
    asked = {video_id(split, i): scenes[i] for i in range(clips, 2 * clips)}
    captions = [{"video_id": name, "desc": describe(scene, rng)} for name, scene in captioned.items()]
    balancer = Balancer()
    questions: list[dict[str, object]] = []
    for name, scene in asked.items():
        for question in balancer.choose(scene, rng):
            questions.append(question.to_music_avqa(name, len(questions)))
    for folder, file, rows, shown in (
        (out / valor.FOLDER, f"desc_{split}", captions, captioned),
        (out / music_avqa.FOLDER, f"avqa-{split}", questions, asked),
    ):
        _write_rows(folder / ANNOTATION / f"{file}.json", rows)
        for name, scene in shown.items():
            _write_media(folder, name, scene)
            advance(1)


def _write_rows(path: Path, rows: Sequence[dict[str, object]] | Sequence[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=0) + "\n")


def _write_media(folder: Path, name: str, scene: Scene) -> None:
    frames = folder / FRAMES / name
    frames.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(picture.render_frames(scene), 1):
        Image.fromarray(pixels).save(frames / f"frame_{number:04d}.jpg", quality=_JPEG_QUALITY)
    (folder / SOUND).mkdir(parents=True, exist_ok=True)
    with wave.open(str(folder / SOUND / f"{name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound.SAMPLE_RATE_HZ)
        file.writeframes(sound.render_sound(scene).astype("<i2").tobytes())
