from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edge_server.errors import ModelError
from edge_server.model.link import Link


def test_a_model_folder_gives_back_what_was_saved(link: Link, tmp_path: Path) -> None:
    link.save(tmp_path)
    again = Link.load(tmp_path)
    before, after = dict(link.named_parameters()), dict(again.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again.config == link.config
    assert again.tokenizer.to_str() == link.tokenizer.to_str()


def test_weights_are_safetensors_and_nothing_else(link: Link, tmp_path: Path) -> None:
    link.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize(
    "name", ["model.json", "link.safetensors", "foundation.safetensors", "tokenizer.json"]
)
def test_a_missing_file_is_named(link: Link, tmp_path: Path, name: str) -> None:
    link.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=name.split(".")[0]):
        Link.load(tmp_path)


@pytest.mark.parametrize("name", ["encoders", "foundation", "link"])
def test_weights_that_were_cut_short_are_named(name: str, link: Link, tmp_path: Path) -> None:
    link.save(tmp_path)
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"{name}.safetensors: .*cut short"):
        Link.load(tmp_path)


def test_weights_of_another_model_are_refused(link: Link, tmp_path: Path) -> None:
    link.save(tmp_path)
    description = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(description.replace('"channel_dim": 16', '"channel_dim": 8'))
    with pytest.raises(ModelError, match="not a model folder"):
        Link.load(tmp_path)
