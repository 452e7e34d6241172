"""EfficientNet-Lite0 as an encoder: padding, the two ways to see a picture, what a token says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from edge_server.model.published.config import LiteFormat, LiteVisual
from edge_server.model.published.lite import LiteEncoder, LiteFrontEnd, _Convolution

_CLASSES = 12


@pytest.fixture(scope="module")
def encoder() -> LiteEncoder:
    torch.manual_seed(0)
    made = LiteEncoder(LiteVisual(_CLASSES, hidden_size=40, code_size=8)).eval()
    made.derive()
    return made


@pytest.mark.parametrize(("kernel", "stride", "before", "after"), [(3, 1, 1, 1), (3, 2, 0, 1), (5, 2, 1, 2)])
def test_padding_is_uneven_as_tensorflows(kernel: int, stride: int, before: int, after: int) -> None:
    layer = _Convolution(2, 3, kernel, stride)
    maps = torch.randn(1, 2, 8, 8)
    expected = F.conv2d(F.pad(maps, (before, after, before, after)), layer.weight, stride=stride)
    assert torch.equal(layer(maps), expected)
    assert expected.shape[-1] == 8 // stride


def test_the_front_end_shows_the_middle_and_then_the_whole() -> None:
    # Red to the left of the middle square, blue to its right.
    frames = torch.zeros(8, 60, 100, 3, dtype=torch.uint8)
    frames[:, :, :20, 0] = 255
    frames[:, :, 80:, 2] = 255
    out = LiteFrontEnd(LiteFormat(side=56))(frames)
    assert out.shape == (5, 3, 56, 56)
    middle, whole = out[0] * 128 + 127, out[1] * 128 + 127
    assert middle[:, :, 2:-2].abs().max() < 1, "nothing of either side"
    assert whole[0, :, :10].min() > 250
    assert whole[2, :, -10:].min() > 250
    assert torch.equal(out[1], out[4])


def test_tokens_say_where_what_is_and_what_moves(encoder: LiteEncoder) -> None:
    side = encoder.config.format.side
    frames = torch.full((4, side, side, 3), 127, dtype=torch.uint8)
    frames[:, :, : side // 7] = 255  # the first column of cells is white
    frames[::2, : side // 7, -side // 7 :] = 255  # the upper right cell blinks
    with torch.inference_mode():
        tokens = encoder(encoder.front_end(frames)[None])
    assert tokens.shape == (1, 49, 40)
    local, whole = tokens[0, :, : encoder.local_size], tokens[0, :, encoder.local_size :]
    colour, motion = local[:, -5:-2], local[:, -2:]
    assert colour[:7].min() > 0.9, "columns come first to last"
    assert colour[7:42].abs().max() < 0.1
    assert motion[42, 0] > 1
    assert motion[:42].abs().max() == 0
    assert torch.equal(whole, whole[:1].expand(49, -1)), "the picture's class is the same everywhere"


def test_a_sure_class_is_said_by_its_code(encoder: LiteEncoder) -> None:
    likely = F.one_hot(torch.tensor([3]), _CLASSES).float()
    tokens = encoder.joined(torch.zeros(1, 49, encoder.local_size), likely)
    torch.testing.assert_close(tokens[0, 5, -8:], encoder.codes[3])
    assert tokens[0, 5, encoder.local_size] == 1.0
    lengths = encoder.codes.norm(dim=1)
    torch.testing.assert_close(lengths, lengths[:1].expand_as(lengths))
    similar = F.normalize(encoder.codes, dim=1)
    assert (similar @ similar.T - torch.eye(_CLASSES)).max() < 0.99, "no two classes have one code"
