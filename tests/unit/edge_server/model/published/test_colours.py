"""A thing's colour has the name that people would give it; what is around the thing does not count."""

from __future__ import annotations

import pytest
import torch

from edge_server.model.published.colours import ColourNames
from edge_server.weights.captions import COLOURS

_RGB = {
    "black": (10, 10, 12),
    "white": (250, 248, 245),
    "grey": (130, 130, 128),
    "red": (205, 25, 30),
    "orange": (245, 130, 20),
    "yellow": (245, 220, 30),
    "green": (40, 140, 50),
    "blue": (40, 80, 200),
    "purple": (120, 50, 150),
    "pink": (245, 150, 180),
    "brown": (110, 65, 35),
}


@pytest.fixture(scope="module")
def names() -> ColourNames:
    return ColourNames()


def _picture(*rgb: int) -> torch.Tensor:
    return (torch.tensor(rgb) / 255.0)[None, :, None, None].expand(1, 3, 56, 56).clone()


@pytest.mark.parametrize("colour", _RGB)
def test_a_plain_surface_has_its_colours_name(names: ColourNames, colour: str) -> None:
    found = names(_picture(*_RGB[colour]), torch.full((1, 7, 7), 1 / 49))
    assert COLOURS[int(found.argmax())] == colour
    assert found.sum() == 1


def test_only_cells_that_count_are_looked_at(names: ColourNames) -> None:
    picture = _picture(*_RGB["green"])
    picture[:, :, :28, :28] = _picture(*_RGB["red"])[:, :, :28, :28]
    counts = torch.zeros(1, 7, 7)
    counts[:, :3, :3] = 1 / 9
    assert COLOURS[int(names(picture, counts).argmax())] == "red"


def test_many_colours_have_no_name(names: ColourNames) -> None:
    stripes = [_picture(*_RGB[c])[:, :, :, :14] for c in ("red", "green", "blue", "yellow")]
    found = names(torch.cat(stripes, dim=3), torch.full((1, 7, 7), 1 / 49))
    assert COLOURS[int(found.argmax())] == ""
