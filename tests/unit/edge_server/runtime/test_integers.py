"""Decode steps in 8-bit integers: near what floats give, and the same beside any neighbours."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edge_server.model.foundation_classes import weights_of
from edge_server.runtime.decoder import Decoder
from edge_server.runtime.integers import IntegerMatrix, IntegerRows, has_integers
from edge_server.runtime.matmul import add_product, product, rows_for
from tests.unit.edge_server.runtime.test_decoder import MAX_POSITIONS, qwen2

pytestmark = pytest.mark.skipif(
    not has_integers(torch.device("cpu")), reason="the processor has no instructions for integers"
)


def drawn(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows with one value that is many times as large as the others, as language models have; a matrix."""
    generator = torch.Generator().manual_seed(seed)
    x_NX = torch.randn(rows, 64, generator=generator)
    x_NX[:, 7] *= 200
    return x_NX, torch.randn(64, 48, generator=generator)


def test_a_product_is_off_by_what_rounding_the_matrix_costs() -> None:
    x_NX, weight_XY = drawn(5)
    scale_Y = weight_XY.abs().amax(dim=0) / 127
    rounded_XY = (weight_XY / scale_Y).round() * scale_Y
    found = product(x_NX, IntegerMatrix.of(weight_XY))
    # Of the rows nothing is lost that counts: 8 bits of one with such a value would be off by several units.
    torch.testing.assert_close(found, x_NX @ rounded_XY, atol=0.5, rtol=0)
    assert (found - x_NX @ weight_XY).abs().max() > 0.5


def test_rows_do_not_depend_on_their_neighbours() -> None:
    x_NX, weight_XY = drawn(9)
    matrix = IntegerMatrix.of(weight_XY)
    together = product(x_NX, matrix)
    for row in range(len(x_NX)):
        assert torch.equal(product(x_NX[row : row + 1], matrix)[0], together[row])


def test_rows_that_are_rounded_once_do_for_several_matrices_and_a_bias() -> None:
    x_NX, weight_XY = drawn(3)
    matrix, bias_Y = IntegerMatrix.of(weight_XY), torch.arange(48.0)
    rows = rows_for(x_NX, matrix)
    assert isinstance(rows, IntegerRows)
    assert torch.equal(product(rows, matrix, bias_Y), product(x_NX, matrix) + bias_Y)


def test_what_is_added_is_the_product() -> None:
    x_NX, weight_XY = drawn(3)
    matrix, sum_NY = IntegerMatrix.of(weight_XY), torch.ones(3, 48)
    add_product(sum_NY, x_NX, matrix)
    torch.testing.assert_close(sum_NY, product(x_NX, matrix) + 1, atol=1e-3, rtol=1e-5)


def test_zeros_stay_zeros_and_no_number_stays_none() -> None:
    x_NX, weight_XY = drawn(3)
    x_NX[0] = 0
    x_NX[1, 3] = torch.nan
    found = product(x_NX, IntegerMatrix.of(weight_XY))
    assert torch.equal(found[0], torch.zeros(48))
    assert found[1].isnan().all()
    assert found[2].isfinite().all()


def test_decode_steps_are_near_those_in_floats_and_prompts_the_same() -> None:
    network = qwen2()
    weights = weights_of(network, MAX_POSITIONS)
    generator = torch.Generator().manual_seed(1)
    lengths = [9, 4]
    x_NE, step_BE = torch.randn(13, 32, generator=generator), torch.randn(2, 32, generator=generator)
    found = []
    for integers in (False, True):
        decoder = Decoder(weights, MAX_POSITIONS, integers=integers)
        cache = decoder.new_cache()
        with torch.inference_mode():
            read = decoder.prefill(x_NE.clone(), lengths, cache, cache.take(lengths))
            longest = cache.room_for_one_more(2)
            said = decoder.decode(step_BE.clone(), torch.tensor(lengths), cache, longest)
        found.append((read, said))
    (read, said), (read_in_integers, said_in_integers) = found
    assert torch.equal(read, read_in_integers)
    assert not torch.equal(said, said_in_integers)
    assert (said - said_in_integers).abs().max() < 0.1 * said.std()
