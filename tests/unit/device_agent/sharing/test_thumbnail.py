"""A small picture of a window: a JPEG that anybody can show, small whatever the camera is."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from device_agent.media.clip import Clip
from device_agent.sharing.thumbnail import MAX_BYTES, thumbnail_of


@pytest.mark.parametrize(("height", "width"), [(144, 256), (1080, 1920), (37, 5), (1, 1)])
def test_it_is_a_small_jpeg_of_the_middle_frame(height: int, width: int) -> None:
    frames = np.zeros((3, height, width, 3), np.uint8)
    frames[1] = (200, 40, 40)
    made = thumbnail_of(Clip(frames))
    assert made.startswith(b"\xff\xd8\xff")
    assert len(made) <= MAX_BYTES
    with av.open(io.BytesIO(made)) as container:
        (shown,) = container.decode(video=0)
    assert max(shown.width, shown.height) <= 192
    assert shown.width / shown.height == pytest.approx(width / height, rel=0.05)
    np.testing.assert_allclose(shown.to_ndarray(format="rgb24").mean(axis=(0, 1)), (200, 40, 40), atol=12)


def test_noise_is_small_too() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1, 720, 1280, 3), np.uint8)
    assert 0 < len(thumbnail_of(Clip(noise))) <= MAX_BYTES


def test_a_sound_has_none() -> None:
    assert thumbnail_of(Clip(pcm_S=np.zeros(9, np.float32))) == b""
