from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from edge_server.model import tokenizer as tk
from edge_server.training.pretrain_foundation import world_texts


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tk.train_tokenizer(world_texts(200, seed=0), 640).save(str(path))
    return tk.load_tokenizer(path)


def test_special_tokens_have_the_first_ids(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(token) for token in tk.SPECIAL_TOKENS] == list(
        range(len(tk.SPECIAL_TOKENS))
    )
    assert (tk.PAD_ID, tk.EOS_ID, tk.ANSWER_ID) == (0, 2, 9)


@pytest.mark.parametrize("text", ["what is <answer> ?", "<eos>", "</visual><audio>"])
def test_text_that_spells_a_special_token_stays_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tk.encode(tokenizer, text)
    assert min(ids) >= len(tk.SPECIAL_TOKENS)
    assert tk.decode(tokenizer, ids) == text


def test_words_of_the_world_are_one_token_each(tokenizer: Tokenizer) -> None:
    text = "on the right the loudest saxophone plays first . nobody speaks ."
    assert len(tk.encode(tokenizer, text)) == len(text.split())


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=60))
def test_any_text_has_ids(tokenizer: Tokenizer, text: str) -> None:
    ids = tk.encode(tokenizer, text)
    assert all(len(tk.SPECIAL_TOKENS) <= i < tokenizer.get_vocab_size() for i in ids)


def test_any_id_has_text(tokenizer: Tokenizer) -> None:
    for token_id in range(tokenizer.get_vocab_size()):
        assert isinstance(tk.decode(tokenizer, [token_id]), str)
    assert tk.decode(tokenizer, [tk.ANSWER_ID, *tk.encode(tokenizer, "violin"), tk.EOS_ID]) == "violin"


@pytest.mark.parametrize("text", ["the loudest saxophone", "né à 5°, 漢字 🥁", "tab\tnew\nline"])
def test_bytes_of_tokens_join_to_those_of_the_text(tokenizer: Tokenizer, text: str) -> None:
    spelled = b"".join(tk.token_bytes(tokenizer, each) for each in tk.encode(tokenizer, text))
    assert spelled.decode().strip() == text


def test_a_special_tokens_bytes_are_its_name_and_what_is_no_token_has_none(tokenizer: Tokenizer) -> None:
    assert tk.token_bytes(tokenizer, tk.EOS_ID) == b"<eos>"
    assert tk.token_bytes(tokenizer, 10**6) == b""


def test_bytes_of_a_tokenizer_that_falls_back_to_bytes() -> None:
    blank = "\N{LOWER ONE EIGHTH BLOCK}"
    pieces = {"<unk>": 0, f"{blank}dr": 1, "um": 2, "é": 3, "<0xF0>": 4, "<0x9F>": 5}
    tokenizer = Tokenizer(models.BPE(pieces, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(blank, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    spelled = [tk.token_bytes(tokenizer, each) for each in (1, 2, 3, 4, 5)]
    assert spelled == [b" dr", b"um", "é".encode(), b"\xf0", b"\x9f"]
