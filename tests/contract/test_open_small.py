"""The published foundation of open-small answers plain questions as transformers has it answer."""

from __future__ import annotations

import pytest
import torch

from device_agent.places import downloads
from edge_server.engine.ports import Prompt
from edge_server.evaluation.accuracy import answer_all
from edge_server.model import tokenizer as tk
from edge_server.runtime.model_runner import ServedLink
from edge_server.weights.catalogue import OPEN_SMALL
from edge_server.weights.gguf_file import read_llama
from edge_server.weights.names import read_class_names
from edge_server.weights.open_small import base_link

_QUESTIONS = ("What is the capital of France?", "Name three fruits.")
_LONGEST = 12


@pytest.mark.slow
def test_plain_answers_are_those_of_the_untouched_model() -> None:
    files = [downloads() / member.name for member in OPEN_SMALL]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        pytest.skip(f"{missing[0]}: not fetched; edge-server weights get open-small")
    pytest.importorskip("gguf")
    untouched, tokenizer = read_llama(files[0])
    expected = []
    for question in _QUESTIONS:
        text = (
            "<|im_start|>system\n"
            "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        )
        prompt = torch.tensor([tokenizer.encode(text).ids])
        said = untouched.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=_LONGEST,
            do_sample=False,
            pad_token_id=tokenizer.token_to_id("<|endoftext|>"),
        )
        expected.append(tk.decode(tokenizer, said[0, prompt.shape[1] :].tolist()))
    link = base_link(files[0], files[1], read_class_names(downloads()))
    prompts = [Prompt((), tuple(tk.encode(link.tokenizer, question))) for question in _QUESTIONS]
    assert answer_all(ServedLink(link, bundle_hash=""), prompts, _LONGEST) == expected
    assert "Paris" in expected[0]
    # The marks that were added around slots begin as a new line, and are not said in place of one.
    assert expected[1].splitlines()[0] == "1. Bananas"
