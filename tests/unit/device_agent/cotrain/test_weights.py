"""Files of weights: those that safetensors writes and reads, and those that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from device_agent.cotrain.weights import read_weights, write_weights
from device_agent.errors import BundleError

WEIGHTS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.c": np.array([1.5], np.float32)}


def test_safetensors_reads_what_is_written_and_the_other_way_round(tmp_path: Path) -> None:
    write_weights(tmp_path / "ours", WEIGHTS, {"step": "3"})
    save_file(WEIGHTS, tmp_path / "theirs", {"step": "3"})
    read, said = read_weights(tmp_path / "theirs")
    assert said == {"step": "3"}
    for name, each in load_file(tmp_path / "ours").items():
        np.testing.assert_array_equal(each, WEIGHTS[name])
        np.testing.assert_array_equal(read[name], WEIGHTS[name])
    assert read_weights(tmp_path / "ours")[1] == said


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x05\0\0\0\0\0\0\0{}",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",
        b'\x04\0\0\0\0\0\0\0{"a"',
        b"\x02\0\0\0\0\0\0\0[]",
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises(BundleError):
        read_weights(path)


def test_tensors_lie_within_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write_weights(path, WEIGHTS, {})
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(BundleError, match="within the file"):
        read_weights(path)
