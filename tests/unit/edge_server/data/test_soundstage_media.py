"""Picture and sound of a scene: seeded, true to the scene, playable."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edge_server.data.soundstage.clip_file import write_mp4
from edge_server.data.soundstage.dataset import generate, load_split, sample_scenes
from edge_server.data.soundstage.picture import FRAMES, HEIGHT, WIDTH, render_frames
from edge_server.data.soundstage.scene import KINDS, Action, Performer, Place, Scene, Sound
from edge_server.data.soundstage.sound import SAMPLE_RATE_HZ, SAMPLES, render_sound
from edge_server.errors import DatasetError
from edge_server.model.config import VisualFormat


def stage(action: Action, place: Place = "middle", seed: int = 5) -> Scene:
    return Scene((Performer("piano", place, action),), (), False, seed)


def heard(*sounds: Sound) -> Scene:
    return Scene((), sounds, False, 11)


def rms_db(pcm: npt.NDArray[np.int16]) -> float:
    return float(10 * np.log10(np.mean((pcm / 32768.0) ** 2) + 1e-12))


def test_frames_can_be_rendered_alone() -> None:
    scene = stage("playing")
    whole = render_frames(scene)
    assert whole.shape == (FRAMES, HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(render_frames(scene, [3, 30]), whole[[3, 30]])


def test_other_artwork_stands_where_the_usual_does(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (255, 0, 255, 255)).save(tmp_path / "1f3b9.png")
    scene = stage("still", "left")
    usual, other = (render_frames(scene, [0], artwork).astype(float) for artwork in (None, tmp_path))
    differs = np.abs(usual - other).sum(axis=(0, 1, 3)) > 0
    assert differs[: WIDTH // 3].any()
    assert not differs[WIDTH // 2 :].any()
    with pytest.raises(DatasetError, match="artwork: the violin cannot be read"):
        render_frames(Scene((Performer("violin", "left", "still"),), (), False, 1), [0], tmp_path)


def test_what_is_no_soundfont_is_told(tmp_path: Path) -> None:
    scene = heard(Sound("piano", None, 0.0, 0.0))
    with pytest.raises(DatasetError, match=r"soundfont: .*none\.sf2 not found"):
        render_sound(scene, tmp_path / "none.sf2")
    (tmp_path / "bad.sf2").write_bytes(b"nothing of the kind")
    with pytest.raises(DatasetError, match=r"soundfont: .*bad\.sf2 is none"):
        render_sound(scene, tmp_path / "bad.sf2")


def test_who_plays_or_mimes_moves_and_who_is_still_does_not() -> None:
    def motion(action: Action) -> float:
        frames = render_frames(stage(action)).astype(float).mean(axis=3)
        # Averages over blocks: sensor noise goes, moving artwork stays.
        blocks = frames.reshape(FRAMES, HEIGHT // 8, 8, WIDTH // 8, 8).mean(axis=(2, 4))
        blocks -= blocks.mean(axis=(1, 2), keepdims=True)
        return float(np.abs(np.diff(blocks, axis=0)).max())

    assert motion("playing") > 3 * motion("still")
    assert motion("miming") > 3 * motion("still")


def test_an_instrument_stands_in_its_third() -> None:
    empty = render_frames(Scene((), (), False, 5), [0]).astype(float)
    for third, place in enumerate(("left", "middle", "right")):
        with_piano = render_frames(stage("still", place), [0]).astype(float)  # type: ignore[arg-type]
        # The same seed draws another light after a cast of another size, so compare shapes, not levels.
        difference = np.abs(with_piano / with_piano.mean() - empty / empty.mean()).mean(axis=(0, 1, 3))
        thirds = [part.mean() for part in np.array_split(difference, 3)]
        assert int(np.argmax(thirds)) == third


def test_it_sounds_the_same_whatever_was_played_before() -> None:
    scene = heard(Sound("violin", None, 0.3, 0.0), Sound("drum", None, 1.1, 3.0))
    first = render_sound(scene)
    for kind, onset_s in (("piano", 0.7), ("conga", 2.2), ("banjo", 0.01)):
        render_sound(heard(Sound(kind, None, onset_s, 0.0)))
    np.testing.assert_array_equal(render_sound(scene), first)


def test_silence_before_the_entry_and_sound_after() -> None:
    for kind in KINDS:
        pcm = render_sound(heard(Sound(kind, None, 2.0, 0.0)))
        assert pcm.shape == (SAMPLES,)
        before, after = pcm[: 2 * SAMPLE_RATE_HZ], pcm[2 * SAMPLE_RATE_HZ :]
        assert rms_db(after) - rms_db(before) > 15, kind


def test_levels_are_those_of_the_scene() -> None:
    loud, soft = (render_sound(heard(Sound("violin", None, 0.5, level))) for level in (0.0, -10.0))
    assert rms_db(loud[8000:]) - rms_db(soft[8000:]) == pytest.approx(10.0, abs=1.5)


def test_a_voice_over_is_heard() -> None:
    silent, spoken = (render_sound(Scene((), (), voice, 21)) for voice in (False, True))
    assert rms_db(spoken) - rms_db(silent) > 15


def test_mp4_plays(tmp_path: Path) -> None:
    scene = sample_scenes("test", 1, seed=1)[0]
    write_mp4(scene, tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == FRAMES
    rendered = render_frames(scene).astype(float)
    assert np.abs(np.stack(frames).astype(float) - rendered).mean() < 12
    with av.open(str(tmp_path / "clip.mp4")) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples == pytest.approx(SAMPLES, abs=2048)


def test_a_split_is_the_same_whoever_makes_it(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        generate(tmp_path / name, "val", clips=3, seed=4, workers=workers)
    one, two = (load_split(tmp_path / name, "val") for name in ("one", "two"))
    format = VisualFormat()
    assert one.frames.shape == (3, format.frames, format.height, format.width, 3)
    np.testing.assert_array_equal(one.frames, two.frames)
    np.testing.assert_array_equal(one.pcm, two.pcm)
    assert one.questions == two.questions
    assert one.scenes == sample_scenes("val", 3, seed=4)
    assert {q.clip for q in one.questions} == {0, 1, 2}


def test_an_unfinished_split_is_refused_with_the_command_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="edge-server dataset soundstage"):
        load_split(tmp_path, "test")


def test_a_split_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "split.json").write_text(json.dumps({"format": 99, "clips": 1}))
    with pytest.raises(DatasetError, match="format 99"):
        load_split(tmp_path, "test")
