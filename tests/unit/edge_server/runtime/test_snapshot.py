from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_server.errors import ModelError
from edge_server.runtime.computing import Computing
from edge_server.runtime.snapshot import digest_of, take_snapshot
from edge_server.runtime.start import load_runner

SHIPPED = Path(__file__).parents[4] / "deploy/models/soundstage-small"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


def test_a_snapshot_is_what_the_folder_was(model: Path, tmp_path: Path) -> None:
    snapshot = take_snapshot(model, tmp_path / "scratch")
    weights = model / "foundation.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert digest_of(model) != snapshot.digest
    assert digest_of(snapshot.folder) == snapshot.digest
    shutil.rmtree(model)
    runner = load_runner(snapshot, Computing())
    assert runner is not None


@pytest.mark.parametrize("name", ["link.safetensors", "model.json", "bundle/manifest.json"])
def test_weights_that_are_not_those_that_are_served_do_not_join(
    model: Path, tmp_path: Path, name: str
) -> None:
    snapshot = take_snapshot(model, tmp_path / "scratch")
    path = snapshot.folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelError, match="not those that are served"):
        load_runner(snapshot, Computing())


def test_a_device_bundle_has_a_hash_of_its_own(model: Path) -> None:
    before = digest_of(model)
    (model / "bundle-int4").mkdir()
    (model / "bundle-int4" / "manifest.json").write_text("{}")
    (model / "bundle" / "visual.json").write_text("{}")
    assert digest_of(model) == before


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gone"):
        take_snapshot(tmp_path / "gone", tmp_path / "scratch")
