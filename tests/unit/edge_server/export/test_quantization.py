"""An int8 bundle says what the fp32 bundle says, in fewer bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from device_agent.bundle.bundle import Bundle, load_bundle
from device_agent.media.clip import Clip
from device_agent.transmitter import Transmitter
from edge_server.errors import ConfigurationError, ExportError
from edge_server.export import quantization
from edge_server.export.bundle import export_bundle
from edge_server.export.quantization import check_fidelity, quantise_bundle
from edge_server.model.link import Link
from edge_server.server.loading import load_bundles


def clips(count: int, seed: int = 0) -> list[Clip]:
    rng = np.random.default_rng(seed)
    return [
        Clip(
            frames_THWC=rng.integers(0, 256, (8, 72, 120, 3), dtype=np.uint8),
            pcm_S=rng.normal(0, 0.1, 64_000).astype(np.float32),
        )
        for _ in range(count)
    ]


@pytest.fixture
def source(link: Link, tmp_path: Path) -> Bundle:
    return export_bundle(link, tmp_path / "bundle", commit="test").bundle


def test_int8_tokens_are_fp32s_in_a_smaller_bundle(source: Bundle, tmp_path: Path) -> None:
    quantised = quantise_bundle(source, clips(4), tmp_path / "bundle-int8")
    bundle = load_bundle(tmp_path / "bundle-int8")
    assert bundle == quantised.bundle
    assert (bundle.manifest.precision, bundle.manifest.quantised_from) == ("int8", source.hash)
    assert bundle.manifest.training_commit == "test"
    assert quantised.fidelity_db.keys() == {"video", "audio"}
    # Media of another size and length than those that the ranges come from.
    rng = np.random.default_rng(9)
    other = Clip(
        frames_THWC=rng.integers(0, 256, (32, 144, 256, 3), dtype=np.uint8),
        pcm_S=rng.normal(0, 0.05, 50_000).astype(np.float32),
    )
    assert min(check_fidelity(source, bundle, [other]).values()) >= quantization.MIN_FIDELITY_DB
    tokens = Transmitter(bundle).encode(other, 16).tokens
    assert all(abs(float(np.mean(x**2)) - 0.5) < 1e-3 for x in tokens.values())
    for graph in ("visual.onnx", "audio.onnx"):
        operators = {node.op_type for node in onnx.load(str(bundle.folder / graph)).graph.node}
        assert {"QLinearConv", "QLinearMatMul"} <= operators
        assert bundle.manifest.files[graph].bytes < 0.6 * source.manifest.files[graph].bytes
    for name in ("text.onnx", "tokenizer.json"):
        assert bundle.manifest.files[name] == source.manifest.files[name]
    # An int8 bundle is no source for another one.
    with pytest.raises(ExportError, match="fp32 is needed"):
        quantise_bundle(bundle, clips(2), tmp_path / "again")


def test_a_bundle_that_fails_its_check_does_not_take_the_place_of_one_that_passed(
    source: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle-int8"
    good = quantise_bundle(source, clips(2), folder).bundle
    monkeypatch.setattr(quantization, "MIN_FIDELITY_DB", 90.0)
    with pytest.raises(ExportError, match=r"video: int8 tokens are \d+\.\d dB above their error"):
        quantise_bundle(source, clips(2, seed=1), folder)
    assert load_bundle(folder) == good
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle-int8"]


def test_what_cannot_be_quantised_is_refused(source: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="1 clips"):
        quantise_bundle(source, clips(1), tmp_path / "bundle-int8")
    silent = [Clip(frames_THWC=clip.frames_THWC) for clip in clips(2)]
    with pytest.raises(ExportError, match=r"audio\.onnx: \d+ nodes to quantise, on 0 clips"):
        quantise_bundle(source, silent, tmp_path / "bundle-int8")


def test_a_server_answers_for_the_bundles_made_from_its_own(
    source: Bundle, link: Link, tmp_path: Path
) -> None:
    small = quantise_bundle(source, clips(2), tmp_path / "bundle-int8").bundle
    assert [bundle.hash for bundle in load_bundles(tmp_path)] == [source.hash, small.hash]
    # The model is exported again, after more training; nobody thinks of the int8 bundle.
    export_bundle(link, tmp_path / "bundle", commit="later")
    with pytest.raises(ConfigurationError, match=f"bundle-int8 was made from bundle {source.hash}"):
        load_bundles(tmp_path)
