"""Products in pieces are the products."""

from __future__ import annotations

import pytest
import torch

from edge_server.runtime.matmul import add_product, product, rows_together


def test_there_are_few_numbers_of_rows() -> None:
    rounded = [rows_together(count) for count in range(1, 2049)]
    assert all(count <= more < count + 64 for count, more in enumerate(rounded, 1))
    assert len({rows % 1024 for rows in rounded}) == 16


@pytest.mark.parametrize("rows", [64, 1024, 1088, 2112])
def test_pieces_in_bfloat16_are_the_whole(rows: int) -> None:
    torch.manual_seed(1)
    x_NX, weight_XY, bias_Y = torch.randn(rows, 40), torch.randn(40, 24), torch.randn(24)
    rounded = [each.bfloat16() for each in (x_NX, weight_XY, bias_Y)]
    x16_NX, weight16_XY, bias16_Y = rounded
    with torch.inference_mode():
        exact_NY = x16_NX.double() @ weight16_XY.double()
        for found, exact in (
            (product(x16_NX, weight16_XY), exact_NY),
            (product(x16_NX, weight16_XY, bias16_Y), exact_NY + bias16_Y.double()),
        ):
            assert found.dtype == torch.bfloat16
            torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=0.05)
        x_NY = torch.ones(rows, 24)
        add_product(x_NY, x16_NX, weight16_XY)
        assert x_NY.dtype == torch.float32
        torch.testing.assert_close(x_NY.double(), 1 + exact_NY, rtol=2**-8, atol=0.05)


def test_in_float32_they_are_exact() -> None:
    x_NX, weight_XY, bias_Y = torch.randn(7, 40), torch.randn(40, 24), torch.randn(24)
    assert torch.equal(product(x_NX, weight_XY), x_NX @ weight_XY)
    torch.testing.assert_close(product(x_NX, weight_XY, bias_Y), x_NX @ weight_XY + bias_Y)
    x_NY = torch.ones(7, 24)
    add_product(x_NY, x_NX, weight_XY)
    torch.testing.assert_close(x_NY, 1 + x_NX @ weight_XY)
