"""Files of weights are held to their headers, without a weight being read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from edge_server.errors import ModelError
from edge_server.model.weight_files import check_weights, check_weights_of

SHIPPED = Path(__file__).resolve().parents[4] / "deploy" / "models" / "soundstage-small"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "link.safetensors"
    save_file({"a": np.ones(10, np.float32), "b": np.zeros((3, 5), np.int8)}, path, {"made": "here"})
    return path


def test_whole_files_pass(weights: Path) -> None:
    check_weights(weights)
    check_weights_of(SHIPPED)


@pytest.mark.parametrize("left", [0, 5, 8, 40, -1])
def test_a_file_that_was_cut_is_told(weights: Path, left: int) -> None:
    whole = weights.read_bytes()
    weights.write_bytes(whole[:left])
    with pytest.raises(ModelError, match=r"link.safetensors is (cut short|no file of weights)"):
        check_weights_of(weights.parent)


def test_so_is_one_with_more_behind(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(ModelError, match="longer than its header says"):
        check_weights(weights)


@pytest.mark.parametrize("header", [b"[]", b"{", b'{"a": 1}', b'{"a": {"data_offsets": "x"}}', b"[" * 50_000])
def test_a_header_that_is_none_is_told(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelError, match="is no file of weights"):
        check_weights(path)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        check_weights(tmp_path / "none.safetensors")
