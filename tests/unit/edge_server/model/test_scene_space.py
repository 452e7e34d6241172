"""Heads that bring scenes and texts together: what goes in, what comes out, what is kept of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_server.engine.ports import FeatureBlock
from edge_server.errors import ModelError
from edge_server.model.link import Link
from edge_server.model.scene_space import FILE, SceneSpaceConfig, SceneSpaceHeads
from edge_server.runtime.scene_space import FILE as SERVED_FILE
from edge_server.runtime.scene_space import LinkSpace
from edge_server.scenes import SceneBlock
from edge_server.training.scene_space import Words, ranks


@pytest.fixture
def heads(link: Link) -> SceneSpaceHeads:
    torch.manual_seed(0)
    config = SceneSpaceConfig(link.slots, 4, 32, link.tokenizer.get_vocab_size(), dim=16, text_width=8)
    return SceneSpaceHeads(config).eval()


def test_texts_of_any_length_stand_where_they_would_alone(heads: SceneSpaceHeads) -> None:
    texts = [[20, 21, 22, 23], [30], [40, 41]]
    together = heads.texts(texts)
    np.testing.assert_allclose(together.norm(dim=1).detach(), 1.0, rtol=1e-5)
    for index, ids in enumerate(texts):
        torch.testing.assert_close(heads.texts([ids])[0], together[index], rtol=1e-4, atol=1e-5)


def test_words_of_a_foundation_stay_as_they_are_and_are_near_to_what_means_the_same(link: Link) -> None:
    torch.manual_seed(0)
    size = link.tokenizer.get_vocab_size()
    heads = SceneSpaceHeads(SceneSpaceConfig(link.slots, 4, 32, size, dim=16, text_width=8, word_width=32))
    embedding_VE = torch.randn(size, 32) + 5.0
    embedding_VE[21] = embedding_VE[20] + 0.01 * torch.randn(32)
    heads.know_words(embedding_VE)
    assert not heads.words.weight.requires_grad
    assert heads.words.weight.square().mean().item() == pytest.approx(1.0, rel=1e-4)
    with torch.inference_mode():
        one, same, other = heads.texts([[20, 30], [21, 30], [22, 30]])
        assert float(one @ same) > 0.999 > float(one @ other)
        assert not torch.allclose(heads.texts([[20, 30]], noise=0.3)[0], one)
        torch.testing.assert_close(heads.texts([[20, 30]])[0], one)


def test_a_scene_may_lack_a_slot(heads: SceneSpaceHeads, link: Link) -> None:
    received = {slot: torch.randn(3, 4, 32) for slot in link.slots}
    whole = heads.scenes(received)
    assert whole.shape == (3, 16)
    for slot in link.slots:
        part = heads.scenes({slot: received[slot]})
        assert part.shape == (3, 16)
        assert not torch.allclose(part, whole)


def test_they_are_read_as_they_were_written(heads: SceneSpaceHeads, tmp_path: Path) -> None:
    heads.save(tmp_path)
    again = SceneSpaceHeads.load(tmp_path)
    assert again.config == heads.config
    torch.testing.assert_close(again.texts([[20, 21]]), heads.texts([[20, 21]]))
    (tmp_path / FILE).write_bytes(b"no weights")
    with pytest.raises(ModelError, match=FILE):
        SceneSpaceHeads.load(tmp_path)


def test_a_served_model_finds_them(heads: SceneSpaceHeads, link: Link, tmp_path: Path) -> None:
    assert SERVED_FILE == FILE
    link.save(tmp_path)
    heads.save(tmp_path)
    rng = np.random.default_rng(0)
    x_TC = rng.standard_normal((16, 16)).astype(np.float32)
    kept = (SceneBlock("video", 16, 10.0, b""), SceneBlock("audio", 16, 10.0, b""))
    space = LinkSpace(tmp_path, lambda blocks: [FeatureBlock(b.modality, x_TC, b.snr_db) for b in blocks])
    scene = space.of_scene(kept)
    text = space.of_text("a violin on the left")
    assert scene is not None
    assert text is not None
    assert scene.shape == text.shape == (16,)
    assert float(np.linalg.norm(scene)) == pytest.approx(1.0, abs=1e-5)
    assert (space.of_text(""), space.of_scene(())) == (None, None)
    other = tmp_path / "other"
    other.mkdir()
    torch.manual_seed(1)
    SceneSpaceHeads(heads.config).save(other)
    assert LinkSpace(other, lambda blocks: []).name != space.name


def test_words_of_the_search_are_not_those_of_training() -> None:
    choices = ("plays", "sounds", "performs")
    training, searching = Words(1, held_out=False), Words(1, held_out=True)
    assert {choices[training.integers(len(choices))] for _ in range(99)} == {"plays", "sounds"}
    assert {choices[searching.integers(len(choices))] for _ in range(9)} == {"performs"}
    assert training.integers(1) == searching.integers(1) == 0
    assert sorted(training.permutation(4)) == [0, 1, 2, 3]


def test_ranks_count_who_stands_nearer() -> None:
    scenes = torch.eye(3)
    texts = torch.tensor([[1.0, 0.5, 0.0], [0.1, 0.0, 1.0]])
    assert ranks(scenes, texts, torch.tensor([0, 1])).tolist() == [0, 2]
