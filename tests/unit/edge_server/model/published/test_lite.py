"""EfficientNet-Lite0 as an encoder: padding, what of a picture is looked at, what its codes say."""

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
    made = LiteEncoder(LiteVisual(_CLASSES, code_size=24)).eval()
    made.derive()
    return made


@pytest.mark.parametrize(("kernel", "stride", "before", "after"), [(3, 1, 1, 1), (3, 2, 0, 1), (5, 2, 1, 2)])
def test_padding_is_uneven_as_tensorflows(kernel: int, stride: int, before: int, after: int) -> None:
    layer = _Convolution(2, 3, kernel, stride)
    maps = torch.randn(1, 2, 8, 8)
    expected = F.conv2d(F.pad(maps, (before, after, before, after)), layer.weight, stride=stride)
    assert torch.equal(layer(maps), expected)
    assert expected.shape[-1] == 8 // stride


def test_the_front_end_shows_the_middle_of_the_frame_in_the_middle() -> None:
    # Red to the left of the middle square, blue to its right; only the frame in the middle is green.
    frames = torch.zeros(9, 60, 100, 3, dtype=torch.uint8)
    frames[:, :, :20, 0] = 255
    frames[:, :, 80:, 2] = 255
    frames[4, :, 20:80, 1] = 255
    out = LiteFrontEnd(LiteFormat(side=56))(frames)
    assert out.shape == (1, 3, 56, 56)
    middle = out[0] * 128 + 127
    assert middle[[0, 2], :, 2:-2].abs().max() < 1, "nothing of either side"
    assert middle[1, :, 2:-2].min() > 254


def test_a_sure_class_is_said_by_its_code(encoder: LiteEncoder) -> None:
    likely = F.one_hot(torch.tensor([3]), _CLASSES).float()
    colour, side = F.one_hot(torch.tensor([8]), 12).float(), F.one_hot(torch.tensor([1]), 4).float()
    token = encoder.joined(likely, colour, side)[0, 0]
    torch.testing.assert_close(token[:8], encoder.codes[3])
    assert token[8:].nonzero()[:, 0].tolist() == [8, 13], "a direction for each colour and side"
    assert token[8:].square().sum().item() == pytest.approx(0.2)
    lengths = encoder.codes.norm(dim=1)
    torch.testing.assert_close(lengths, lengths[:1].expand_as(lengths), atol=1e-3, rtol=0)
    similar = F.normalize(encoder.codes, dim=1)
    assert (similar @ similar.T - torch.eye(_CLASSES)).max() < 0.99, "no two classes have one code"


def test_the_side_is_where_the_cells_that_count_are(encoder: LiteEncoder) -> None:
    cells = torch.zeros(4, 7, 7)
    cells[0, 3, 0] = cells[1, :, 3] = cells[2, 6, 6] = 1
    cells[3] = 1
    counts = cells.flatten(1) / cells.flatten(1).sum(dim=1, keepdim=True)
    sure, doubted = torch.zeros(4), torch.ones(4)
    assert encoder._side(counts, sure).argmax(dim=1).tolist() == [1, 2, 3, 2]
    assert encoder._side(counts, doubted).tolist() == [[1, 0, 0, 0]] * 4
