"""Writes a model's canary questions: what it answers now is what it must answer when it is served."""

from __future__ import annotations

import json
from pathlib import Path

from edge_server.engine.canary import FILE, VERSION, Canary
from edge_server.engine.ports import ModelRunner
from edge_server.model import tokenizer as tk
from edge_server.runtime.model_runner import ServedLink

_QUESTIONS = (
    "How many instruments are playing?",
    "Where is the loudest instrument?",
    "Is there a voiceover?",
    "What is shown?",
)
_CANARIES = 16
_TOKEN_LENGTH = 16
_MAX_NEW_TOKENS = 16


def write_canaries(model: ServedLink, folder: Path) -> int:
    """Ask a model its canary questions in float32 and note its answers in its folder; returns how many."""
    length = min(model.token_lengths, key=lambda each: abs(each - _TOKEN_LENGTH))
    shape = (length, model.channel_dim)
    modalities = model.link.config.modalities
    of_clips = [modality.of_clip for modality in modalities]
    others = [name for modality in modalities for name in modality.wire if name not in of_clips]
    kinds = [*([name] for name in of_clips), of_clips, *([name] for name in others)]
    questions = []
    for seed in range(_CANARIES):
        blocks = kinds[seed % len(kinds)]
        ids = tk.encode(model.link.tokenizer, _QUESTIONS[seed // len(kinds) % len(_QUESTIONS)])
        canary = Canary.of(seed, dict.fromkeys(blocks, shape), ids)
        questions.append(
            {
                "seed": seed,
                "blocks": {modality: list(shape) for modality in blocks},
                "question_ids": list(ids),
                "answer": answer_alone(model, canary),
            }
        )
    told = {"version": VERSION, "questions": questions}
    (folder / FILE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return len(questions)


def answer_alone(model: ServedLink, canary: Canary) -> str:
    """What a model says to one question, in a batch of its own."""
    runner: ModelRunner[object] = model  # type: ignore[assignment]
    state, steps = runner.prefill([canary.prompt])
    said: list[int] = []
    while steps[0].token_id != model.eos_id and len(said) < _MAX_NEW_TOKENS:
        said.append(steps[0].token_id)
        if len(said) < _MAX_NEW_TOKENS:
            state, steps = runner.decode(state)
    return model.text(said)
