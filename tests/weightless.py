"""A model without weights: implements the engine's model port, answers from the prompt, misbehaves on demand.

Language token ids are UTF-8 bytes; id 0 ends an answer. The default answer names what was asked:
``ask`` of ``b"2+video:16"`` is ``"2+video:16"`` where the question has two ids and a video block of 16 tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_server.engine import FeatureBlock, InvalidPromptError, Prompt, Step

BUNDLE_HASH = "ab" * 32
CHANNEL_DIM = 8
VOCABULARY = 1000


class FakeClock:
    """Seconds that pass when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def ask(*question_ids: int, blocks: dict[str, int] | None = None, context: Sequence[int] = ()) -> Prompt:
    """A prompt: question ids, and blocks by modality and token length."""
    made = tuple(
        FeatureBlock(modality, np.full((length, CHANNEL_DIM), 0.5, np.float32), 10.0)
        for modality, length in (blocks or {}).items()
    )
    return Prompt(made, question_ids or (1, 2), tuple(context))


def default_answer(prompt: Prompt) -> str:
    """What :class:`WeightlessModel` says by default."""
    parts = [str(len(prompt.question_ids))]
    parts += [f"{block.modality}:{len(block.x_TC)}" for block in prompt.blocks]
    return "+".join(parts)


@dataclass(frozen=True)
class Row:
    answer: bytes
    said: int
    prompt: Prompt


State = tuple[Row, ...]


@dataclass
class WeightlessModel:
    """See the module. All knobs may be turned while it runs.

    Attributes:
        answer: what to say to a prompt.
        prefill_fault, decode_fault: called with the rows of each step; raise to fail it.
        gate: every decode step waits for it; cleared, the model stands still.
        prefills, decodes: rows of each call so far.
    """

    answer: Callable[[Prompt], str] = default_answer
    prefill_fault: Callable[[State], None] = lambda rows: None
    decode_fault: Callable[[State], None] = lambda rows: None
    merge_fault: Callable[[State], None] = lambda rows: None
    gate: threading.Event = field(default_factory=threading.Event)
    decoding: threading.Event = field(default_factory=threading.Event)
    prefills: list[int] = field(default_factory=list)
    decodes: list[int] = field(default_factory=list)
    name: str = "weightless"
    bundle_hash: str = BUNDLE_HASH
    eos_id: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    def check(self, prompt: Prompt) -> int:
        positions = len(prompt.question_ids) + len(prompt.context_ids)
        for index, block in enumerate(prompt.blocks):
            if block.x_TC.shape[1] != CHANNEL_DIM:
                raise InvalidPromptError(f"payloads[{index}].shape", f"channel_dim is {block.x_TC.shape[1]}")
            positions += len(block.x_TC)
        for token_id in prompt.question_ids:
            if token_id >= VOCABULARY:
                raise InvalidPromptError("question_ids", f"holds {token_id}; ids lie below {VOCABULARY}")
        return positions

    def prefill(self, prompts: Sequence[Prompt]) -> tuple[State, list[Step]]:
        rows = tuple(Row(self.answer(prompt).encode(), 0, prompt) for prompt in prompts)
        self.prefills.append(len(rows))
        self.prefill_fault(rows)
        return self._step(rows)

    def decode(self, state: State) -> tuple[State, list[Step]]:
        self.decoding.set()
        assert self.gate.wait(20), "the test never opened the gate"
        self.decodes.append(len(state))
        self.decode_fault(state)
        return self._step(state)

    def merge(self, first: State, second: State) -> State:
        self.merge_fault(first + second)
        return first + second

    def keep(self, state: State, rows: Sequence[int]) -> State:
        return tuple(state[row] for row in rows)

    def text(self, token_ids: Sequence[int]) -> str:
        return bytes(token_ids).decode("utf-8", "replace")

    def _step(self, rows: State) -> tuple[State, list[Step]]:
        steps = [Step(row.answer[row.said] if row.said < len(row.answer) else 0, 0.5) for row in rows]
        return tuple(Row(row.answer, row.said + 1, row.prompt) for row in rows), steps
