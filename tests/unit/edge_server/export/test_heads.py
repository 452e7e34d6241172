"""The shipped model's heads as graphs: as exact as autograd at every token length; with other weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.bundle.bundle import load_bundle
from device_agent.cotrain.head import learning_heads
from device_agent.cotrain.weights import read_weights
from device_agent.transmitter import Transmitter
from edge_server.errors import ExportError
from edge_server.export.heads import GRADIENT_TOLERANCE, export_head, head_parity
from edge_server.export.personal import with_heads
from edge_server.model.head import TransmitterHead
from edge_server.model.head_gradient import can_learn_on_a_device
from edge_server.model.link import Link

SHIPPED = Path("deploy/models/soundstage-small")


def test_the_shipped_bundles_gradients_are_autograds(tmp_path: Path) -> None:
    link, bundle = Link.load(SHIPPED), load_bundle(SHIPPED / "bundle")
    assert set(bundle.manifest.heads) == set(link.slots)
    for slot in link.slots:
        head = link.heads[slot]
        assert isinstance(head, TransmitterHead)
        assert head_parity(head, link.config.token_lengths, bundle.folder, slot) <= GRADIENT_TOLERANCE


def test_a_gradient_that_is_off_is_not_shipped(
    link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_server.export.heads.GRADIENT_TOLERANCE", 0.0)
    slot = link.slots[0]
    with pytest.raises(ExportError, match="differs from torch's"):
        export_head(link.heads[slot], link.config.token_lengths, tmp_path, slot)


def test_learned_queries_are_not_learned_on_a_device() -> None:
    from edge_server.model.config import HeadConfig

    assert not can_learn_on_a_device(TransmitterHead(HeadConfig(selection="queries"), 60, 32, 16))


def test_a_personal_bundle_sends_what_its_head_makes(tmp_path: Path) -> None:
    source = load_bundle(SHIPPED / "bundle")
    rng = np.random.default_rng(0)
    heads = {}
    for slot, head in source.manifest.heads.items():
        weights, _ = read_weights(source.folder / head.weights)
        heads[slot] = {
            n: (w + 0.01 * rng.standard_normal(w.shape)).astype(np.float32) for n, w in weights.items()
        }
    made = with_heads(source, heads, tmp_path / "own", "hall")
    assert made.hash != source.hash
    assert (made.manifest.personal_to, made.manifest.personalised_from) == ("hall", source.hash)
    frames = rng.integers(0, 256, (9, 60, 80, 3), dtype=np.uint8)
    from device_agent.media.clip import Clip

    clip = Clip(frames_THWC=frames)
    tokens = Transmitter(made).encode(clip, 8).tokens["video"]
    slot, features = next(iter(Transmitter(source).features(clip).items()))
    own = learning_heads(made)[slot]
    for name, each in own.weights.items():
        np.testing.assert_array_equal(each, heads[slot][name])
    np.testing.assert_allclose(tokens, own.forward(features[None], 8)[0], atol=1e-4)
    assert np.abs(tokens - Transmitter(source).encode(clip, 8).tokens["video"]).max() > 1e-2
    again = with_heads(made, heads, tmp_path / "again", "hall")
    assert again.manifest.personalised_from == source.hash
