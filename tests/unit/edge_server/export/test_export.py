"""The device bundle does what the torch model does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from device_agent.bundle.bundle import load_bundle
from device_agent.media.clip import Clip
from device_agent.transmitter import Transmitter
from edge_server.errors import ExportError
from edge_server.export.bundle import (
    PARITY_TOLERANCE,
    check_parity,
    export_bundle,
)
from edge_server.export.graphs import AudioGraph, TextGraph, VisualGraph
from edge_server.model.config import TOKEN_LENGTHS
from edge_server.model.link import Link


@pytest.fixture
def bundle_folder(link: Link, tmp_path: Path) -> Path:
    export_bundle(link, tmp_path / "bundle", commit="test")
    return tmp_path / "bundle"


def test_graphs_give_torchs_tokens(link: Link, bundle_folder: Path) -> None:
    graphs = {"visual": VisualGraph(link), "audio": AudioGraph(link), "text": TextGraph(link)}
    worst = check_parity(graphs, bundle_folder)
    assert worst.keys() == graphs.keys()
    assert max(worst.values()) <= PARITY_TOLERANCE
    # A graph of other weights is found out.
    with torch.no_grad():
        link.text_head.outer.bias.add_(0.1)
    with pytest.raises(ExportError, match="text: tokens differ"):
        check_parity(graphs, bundle_folder)


def test_a_device_runs_the_bundle(bundle_folder: Path) -> None:
    transmitter = Transmitter(load_bundle(bundle_folder))
    rng = np.random.default_rng(0)
    clip = Clip(
        frames_THWC=rng.integers(0, 256, (32, 144, 256, 3), dtype=np.uint8),
        pcm_S=rng.normal(0, 0.1, 64_000).astype(np.float32),
    )
    for length in TOKEN_LENGTHS:
        tokens = transmitter.encode(clip, length).tokens
        assert {name: x.shape for name, x in tokens.items()} == {"video": (length, 16), "audio": (length, 16)}
        assert all(abs(float(np.mean(x**2)) - 0.5) < 1e-3 for x in tokens.values())


def test_black_and_silence_can_be_sent(bundle_folder: Path) -> None:
    transmitter = Transmitter(load_bundle(bundle_folder))
    clip = Clip(frames_THWC=np.zeros((1, 8, 8, 3), np.uint8), pcm_S=np.zeros(16_000, np.float32))
    assert all(np.isfinite(x).all() for x in transmitter.encode(clip, 4).tokens.values())
