"""Pictures become the bytes that Pillow makes of them, inside the graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from edge_server.errors import ModelError
from edge_server.model.split.pictures import PictureFrontEnd, PictureSettings, normalisation
from tests.tiny_families import picture

FILTERS = {1: Image.Resampling.LANCZOS, 2: Image.Resampling.BILINEAR, 3: Image.Resampling.BICUBIC}
# Shapes whose columns every version of Pillow takes first.
SIZES = ((64, 64), (90, 130), (120, 200), (480, 640), (31, 7))
AS_BYTES = {"mean": (0.0, 0.0, 0.0), "deviation": (1 / 255, 1 / 255, 1 / 255)}


def bytes_of(settings: PictureSettings, pixels: np.ndarray) -> np.ndarray:
    """What a front end makes of a picture, uint8 [h, w, 3]."""
    (made,) = PictureFrontEnd(settings)(torch.from_numpy(pixels)[None])
    return made.permute(1, 2, 0).numpy().round().astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resample", FILTERS)
def test_a_picture_is_stretched_as_pillow_does(resample: int, size: tuple[int, int]) -> None:
    pixels = picture(sum(size), *size)
    expected = Image.fromarray(pixels).resize((168, 112), FILTERS[resample])
    found = bytes_of(PictureSettings((112, 168), resample, **AS_BYTES), pixels)
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_whichever_axis_pillow_takes_first_bytes_are_nearly_the_same() -> None:
    pixels = picture(1, 200, 120)
    expected = Image.fromarray(pixels).resize((168, 112), Image.Resampling.LANCZOS)
    found = bytes_of(PictureSettings((112, 168), 1, **AS_BYTES), pixels)
    assert np.abs(found.astype(int) - np.asarray(expected).astype(int)).max() <= 2


def test_the_middle_is_cut_out_after_the_shortest_edge_has_its_length() -> None:
    pixels = picture(1, 90, 130)
    settings = PictureSettings((56, 56), 3, fit="crop", edge=56, **AS_BYTES)
    whole = Image.fromarray(pixels).resize((130 * 56 // 90, 56), Image.Resampling.BICUBIC)
    left = (whole.width - 56) // 2
    np.testing.assert_array_equal(bytes_of(settings, pixels), np.asarray(whole)[:, left : left + 56])


def test_settings_that_nothing_here_does_are_refused() -> None:
    known = {"resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    assert normalisation(known)["deviation"] == (0.5, 0.5, 0.5)
    assert normalisation(known | {"do_normalize": False})["mean"] == (0.0, 0.0, 0.0)
    with pytest.raises(ModelError, match="resample is 0; allowed: 1, 2, 3"):
        normalisation(known | {"resample": 0})
    with pytest.raises(ModelError, match="rescale_factor is 1; 1/255 is read"):
        normalisation(known | {"rescale_factor": 1})
