"""What the next turn of a conversation costs the server, with and without what was kept of the turns before.

    python -m tests.benchmarks.conversation --out docs/results/conversation.json     on an idle machine

A model of SmolLM2-135M's shape with random weights, which cost what trained ones do, is shown a picture of
256 feature tokens and asked three questions, one turn after another. CPU time of reading each turn's prompt
and of its answer, of one thread; the smallest of several rounds.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaForConditionalGeneration

from edge_server.engine.ports import FeatureBlock, Prompt, Said
from edge_server.export.split import Prepared, prepare_split
from edge_server.model.provenance import current_commit
from edge_server.runtime.split_runner import serve_split
from tests.tiny_families import _write, tokenizer

_TOKENS = 256
_ANSWER = 16
_QUESTIONS = (
    "what is shown in this picture?",
    "where is the small red square?",
    "how many people are there?",
)
_TEXT = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
_TOWER = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 224,
    "patch_size": 14,
}


def prepare(folder: Path) -> Prepared:
    """Write the model and take it apart."""
    torch.manual_seed(0)
    wrapped = tokenizer()
    config = LlavaConfig(
        vision_config=_TOWER,
        text_config=_TEXT | {"pad_token_id": 0},
        image_token_index=wrapped.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
    )
    processor = CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
    _write(folder, LlavaForConditionalGeneration(config), wrapped, processor)
    return prepare_split(folder)


def measure(prepared: Prepared, prefix_bytes: int) -> list[dict[str, float]]:
    """CPU seconds of each turn: of its prompt, and of its answer."""
    tokenizer_ = prepared.checkpoint.tokenizer.backend_tokenizer
    model: Any = serve_split(
        prepared.config, tokenizer_, prepared.language, "ab" * 32, prefix_bytes=prefix_bytes
    )
    width = prepared.config.channel_dim
    x_TC = np.random.default_rng(0).standard_normal((_TOKENS, width)).astype(np.float32) * 0.5**0.5
    turns: list[Said] = []
    rows = []
    for number, question in enumerate(_QUESTIONS):
        ids = tuple(tokenizer_.encode(question, add_special_tokens=False).ids)
        turns.append(Said("user", (0, ids) if not number else (ids,)))
        prompt = Prompt((FeatureBlock("image", x_TC, 40.0),), ids, turns=tuple(turns), conversation="one")
        found = model.prefixes.found
        began = time.process_time()
        state, _ = model.prefill([prompt])
        read = time.process_time()
        for _ in range(_ANSWER):
            state, _ = model.decode(state)
        ended = time.process_time()
        model.keep(state, [])
        rows.append(
            {
                "positions": model.check(prompt),
                "found": model.prefixes.found - found,
                "prompt_cpu_s": read - began,
                "answer_cpu_s": ended - read,
            }
        )
        turns.append(Said("assistant", (ids[:_ANSWER],)))
    return rows


def main(
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")],
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the quickest counts.")] = 5,
) -> None:
    """Measure what turns cost."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(Path(scratch, "checkpoint"))
        measured = {
            name: [measure(prepared, prefix_bytes) for _ in range(rounds)]
            for name, prefix_bytes in (("kept", 2**28), ("read again", 0))
        }
    best = {
        name: [
            {key: min(each[turn][key] for each in of_rounds) for key in of_rounds[0][turn]}
            for turn in range(len(_QUESTIONS))
        ]
        for name, of_rounds in measured.items()
    }
    table = Table("", "turn", "positions", "found", "prompt, CPU s", "answer, CPU s")
    for name, turns in best.items():
        for number, turn in enumerate(turns, 1):
            figures = [f"{turn[key]:.3f}" for key in ("prompt_cpu_s", "answer_cpu_s")]
            table.add_row(name, str(number), f"{turn['positions']:.0f}", f"{turn['found']:.0f}", *figures)
    Console().print(table)
    result = {
        "command": "python -m tests.benchmarks.conversation",
        "commit": current_commit(),
        "measures": ["edge_server/runtime/prefixes.py", "edge_server/runtime/decoder.py"],
        "answer_tokens": _ANSWER,
        "turns": best,
        "second_over_first": {
            name: turns[1]["prompt_cpu_s"] / turns[0]["prompt_cpu_s"] for name, turns in best.items()
        },
    }
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
