"""Pictures of sizes and colours that other programs stumble over."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from device_agent.media.loading import clip_from_bytes

ORANGE = (200, 100, 50)


def shown(picture: Image.Image, file_format: str = "PNG", **options: Any) -> np.ndarray:
    """What the model is shown of it, [H, W, 3]."""
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    clip = clip_from_bytes(file.getvalue(), kind="image")
    assert clip.frames_THWC is not None
    assert len(clip.frames_THWC) == 1
    return clip.frames_THWC[0]


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1), (22, 3), (27, 257), (1, 1000), (1000, 1)])
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_picture_of_a_few_pixels_is_one(file_format: str, size: tuple[int, int]) -> None:
    seen = shown(Image.new("RGB", size, ORANGE), file_format)
    width, height = size
    assert seen.shape == (min(height, 320), min(width, 320), 3)
    assert np.abs(seen.astype(int) - ORANGE).max() < 8


def test_grey_of_16_bits_is_not_white() -> None:
    ramp = (np.arange(256, dtype=np.uint16) * 257)[None].repeat(8, axis=0)
    for file_format in ("PNG", "TIFF"):
        seen = shown(Image.fromarray(ramp), file_format)
        assert np.abs(seen[0, :, 0].astype(int) - np.arange(256)).max() <= 1
        assert (seen == seen[..., :1]).all()


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_colours_for_print_are_not_inverted(file_format: str) -> None:
    for inks, colour in (
        ((0, 255, 255, 0), (255, 0, 0)),
        ((0, 0, 0, 0), (255,) * 3),
        ((0, 0, 0, 255), (0,) * 3),
    ):
        seen = shown(Image.new("CMYK", (32, 32), inks), file_format)
        assert np.abs(seen.astype(int) - colour).max() < 8, colour


def test_a_colour_that_stands_for_nothing_shows_white() -> None:
    palette = Image.new("P", (8, 8))
    palette.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    palette.putdata([0] * 32 + [1] * 32)
    seen = shown(palette, transparency=0)
    assert (seen[:4] == 255).all()
    assert (seen[4:] == (0, 0, 255)).all()
    assert (shown(Image.new("L", (8, 8), 0), transparency=0) == 255).all()
    assert (shown(Image.new("RGB", (8, 8), ORANGE), transparency=ORANGE) == 255).all()
    assert (shown(Image.new("RGB", (8, 8), ORANGE), transparency=(1, 2, 3)) == ORANGE).all()
