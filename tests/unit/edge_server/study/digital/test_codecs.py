"""JPEG, Opus and MP4: what goes in comes back, and costs what it should."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from edge_server.data.soundstage.dataset import sample_scenes
from edge_server.model.config import VisualFormat
from edge_server.model.preprocess import VisualFrontEnd
from edge_server.study.digital.media import (
    JPEG_STEPS,
    OPUS_STEPS,
    Frames,
    JpegStep,
    OpusStep,
    Pcm,
    scan_bits,
    through_jpeg,
    through_opus,
)
from edge_server.study.digital.movie import MP4_STEPS, Movie

SAMPLES = 64_000
#: Mean square error of what is only quantised and has its colours at half the resolution; neighbouring frames
#: differ by ten times as much.
SAME = 80


@pytest.fixture(scope="module")
def frames() -> Frames:
    """A square that moves over a coloured gradient, as large as the encoder takes."""
    y, x = np.mgrid[0:72, 0:120].astype(np.float32)
    still = np.stack([x * 2, y * 3, 255 - x], axis=-1)
    clip = np.repeat(still[None], 8, axis=0)
    for index, picture in enumerate(clip):
        picture[20:44, 10 * index : 10 * index + 20] = (250, 240, 20)
    return np.asarray(clip, np.uint8)


@pytest.fixture(scope="module")
def pcm() -> Pcm:
    """A tone that rises in the last quarter."""
    time_s = np.arange(SAMPLES) / 16_000
    hz = np.where(time_s < 3, 440.0, 660.0)
    return np.asarray(8000 * np.sin(2 * np.pi * hz * time_s), np.int16)


def error(a: Frames, b: Frames) -> float:
    return float(np.square(a.astype(float) - b).mean())


def test_a_fine_jpeg_of_all_frames_is_the_clip(frames: Frames) -> None:
    assert error(frames[0], frames[1]) > 10 * SAME
    bits, received = through_jpeg(frames, JpegStep(8, 1, 95))
    assert received.shape == frames.shape
    assert received.dtype == np.uint8
    assert error(received, frames) < SAME
    assert bits < frames.size * 8 / 10


@pytest.mark.parametrize("frames_sent", [1, 2, 4])
def test_frames_that_are_not_sent_are_the_nearest_one_that_is(frames: Frames, frames_sent: int) -> None:
    _, received = through_jpeg(frames, JpegStep(frames_sent, 1, 95))
    window = 8 // frames_sent
    for begin in range(0, 8, window):
        assert (received[begin : begin + window] == received[begin]).all()
        assert error(received[begin], frames[begin + window // 2]) < SAME


def test_jpeg_costs_more_with_quality_size_and_frames(frames: Frames) -> None:
    def bits(*step: int) -> int:
        return through_jpeg(frames, JpegStep(*step))[0]

    assert bits(1, 1, 10) < bits(1, 1, 40) < bits(1, 1, 80)
    assert bits(1, 4, 40) < bits(1, 2, 40) < bits(1, 1, 40)
    assert bits(1, 2, 40) < bits(2, 2, 40) < bits(4, 2, 40) < bits(8, 2, 40)
    errors = [error(through_jpeg(frames, JpegStep(8, shrink, 60))[1], frames) for shrink in (4, 2, 1)]
    assert errors[0] > errors[1] > errors[2]


def test_a_jpegs_size_is_its_scan(frames: Frames) -> None:
    file = io.BytesIO()
    Image.fromarray(frames[0]).save(file, "JPEG", quality=60)
    jpeg = file.getvalue()
    scan = jpeg[jpeg.index(b"\xff\xda") + 14 : -2]  # the scan header of three components has 12 bytes
    assert scan_bits(jpeg) == 8 * len(scan.replace(b"\xff\x00", b"\xff"))
    grey = io.BytesIO()
    Image.new("RGB", (16, 16), (128, 128, 128)).save(grey, "JPEG")
    assert scan_bits(grey.getvalue()) <= 6 * 12 + 7  # six blocks with nothing in them


def test_frames_must_divide_the_clip(frames: Frames) -> None:
    with pytest.raises(ValueError, match="frames is 3"):
        through_jpeg(frames, JpegStep(3, 1, 50))


def test_opus_gives_the_sound_back_in_time(pcm: Pcm) -> None:
    bits, received = through_opus(pcm, OpusStep(64_000, 4.0))
    assert received.shape == pcm.shape
    assert received.dtype == np.int16
    inner = slice(2000, -2000)
    assert np.corrcoef(received[inner], pcm[inner])[0, 1] > 0.98
    assert bits == pytest.approx(4 * 64_000, rel=0.3)


def test_of_the_sounds_end_the_rest_is_a_loop(pcm: Pcm) -> None:
    _, received = through_opus(pcm, OpusStep(32_000, 1.0))
    assert np.corrcoef(received[-15_000:-1000], pcm[-15_000:-1000])[0, 1] > 0.95
    seconds = received.reshape(4, 16_000)
    assert (seconds == seconds[-1]).all()


def test_opus_costs_more_with_bit_rate_and_time(pcm: Pcm) -> None:
    def bits(bitrate_bps: int, seconds: float) -> int:
        return through_opus(pcm, OpusStep(bitrate_bps, seconds))[0]

    assert bits(6000, 4.0) < bits(16_000, 4.0) < bits(64_000, 4.0)
    assert bits(6000, 0.5) < bits(6000, 1.0) < bits(6000, 2.0) < bits(6000, 4.0)


def test_ladders_reach_from_next_to_nothing_to_transparent(frames: Frames, pcm: Pcm) -> None:
    names = [step.name for step in (*JPEG_STEPS, *OPUS_STEPS, *MP4_STEPS)]
    assert len(set(names)) == len(names)
    pictures = [through_jpeg(frames, step)[0] for step in JPEG_STEPS]
    assert min(pictures) < 200
    assert max(pictures) == pictures[-1]
    sounds = [through_opus(pcm, step)[0] for step in (OPUS_STEPS[0], OPUS_STEPS[-1])]
    assert sounds[0] < 2500
    assert sounds[1] > 50 * sounds[0]


def test_a_clip_comes_back_from_its_mp4() -> None:
    (scene,) = sample_scenes("test", 1, seed=5)
    movie = Movie(scene, VisualFrontEnd(VisualFormat()), SAMPLES)
    coarse_bits, coarse, _ = movie.through_mp4(MP4_STEPS[0])
    fine_bits, fine, sound = movie.through_mp4(MP4_STEPS[-1])
    assert coarse_bits < fine_bits
    assert fine.shape == coarse.shape == (8, 72, 120, 3)
    assert sound.shape == (SAMPLES,)
    assert sound.dtype == np.int16
    assert error(coarse, fine) > 5
