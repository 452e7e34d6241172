"""The table of families is what the registry says; a family is added by one file."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import torch

from edge_server.errors import ModelError
from edge_server.export.families import BEGIN, END, table
from edge_server.export.split import prepare_split
from edge_server.model.split import family
from edge_server.model.split.families.llava import _picture
from edge_server.model.split.family import Family, families, family_of, register_family
from edge_server.runtime.split_runner import serve_split
from tests.tiny_families import TINY, llava
from tests.unit.edge_server.export.test_split import TOKENS, asked, prompt_of, said

ROOT = Path(__file__).parents[4]


def test_the_table_of_the_document_is_made_from_the_registry() -> None:
    document = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert document.split(BEGIN)[1].split(END)[0].strip() == table()


def test_every_family_of_the_table_has_a_test_but_one() -> None:
    split = {name for name, known in families().items() if not known.refused}
    assert split == TINY.keys()


@pytest.mark.parametrize("name", ["qwen3_vl", "gemma3", "mllama"])
def test_what_cannot_be_split_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name}' cannot be split: .*language model"):
        family_of(name)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of its own, and a checkpoint of a family to be taken out of it."""
    monkeypatch.setattr(family, "_families", dict(families()))
    torch.manual_seed(0)
    llava(tmp_path)
    return tmp_path


def test_a_family_that_is_registered_answers_as_its_own_class_does(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del family._families["llava"]
    with pytest.raises(ModelError, match="model_type is 'llava', which is not split here"):
        prepare_split(checkpoint)
    register_family(Family("llava", "LlavaForConditionalGeneration", {"visual": _picture}))
    torch.manual_seed(0)
    tiny = llava(checkpoint)
    prepared = prepare_split(checkpoint)
    tokenizer = prepared.checkpoint.tokenizer.backend_tokenizer
    model = serve_split(prepared.config, tokenizer, prepared.language, "ab" * 32)
    few = asked(tiny)[:5]
    prompts = [prompt_of(prepared, question, media) for question, media in few]
    assert said(model, prompts) == [tiny.answer(question, media, TOKENS) for question, media in few]
    with pytest.raises(ValueError, match="there is a family 'llava' already"):
        register_family(Family("llava"))


def test_a_family_of_another_package_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(group: str) -> EntryPoints:
        return EntryPoints([EntryPoint("toy", f"{__name__}:TOY", group)])

    monkeypatch.setattr(family, "entry_points", installed)
    assert family_of("toy") is TOY
    with pytest.raises(ModelError, match=r"there are: .*toy"):
        family_of("no_such")


TOY = Family("toy")
