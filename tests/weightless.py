"""A model without weights: implements the engine's model port, answers from the prompt, misbehaves on demand.

Language token ids are UTF-8 bytes; id 0 ends an answer. The default answer names what was asked:
``"2+video:16"`` where the question has two ids and a video block of 16 tokens.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from device_agent.errors import ConfigurationError
from device_agent.media.clip import Clip, MediaSpec
from device_agent.transmitter import Encoded
from edge_server.engine import FeatureBlock, InvalidPromptError, Prompt, Step
from tests.waiting import PATIENCE_S

BUNDLE_HASH = "ab" * 32
CHANNEL_DIM = 8
VOCABULARY = 1000


class Gate:
    """Where decode steps wait while it is closed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = True
        self._tickets = 0

    def open(self) -> None:
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._open = False

    def let_one_through(self) -> bool:
        """Let one step pass; False, so that one may do so until something else holds."""
        with self._changed:
            self._tickets += 1
            self._changed.notify_all()
        return False

    def wait(self) -> None:
        with self._changed:
            passed = self._changed.wait_for(lambda: self._open or self._tickets > 0, timeout=PATIENCE_S)
            assert passed, "the test never opened the gate"
            if not self._open:
                self._tickets -= 1


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
    gate: Gate = field(default_factory=Gate)
    prefills: list[int] = field(default_factory=list)
    decodes: list[int] = field(default_factory=list)
    name: str = "weightless"
    bundle_hash: str = BUNDLE_HASH
    eos_id: int = 0
    max_positions: int = 1 << 20

    def check(self, prompt: Prompt) -> int:
        positions = len(prompt.question_ids) + len(prompt.context_ids)
        for index, block in enumerate(prompt.blocks):
            if block.x_TC.shape[1] != CHANNEL_DIM:
                raise InvalidPromptError(f"payloads[{index}].shape", f"channel_dim is {block.x_TC.shape[1]}")
            positions += len(block.x_TC)
        for token_id in prompt.question_ids:
            if token_id >= VOCABULARY:
                raise InvalidPromptError("question_ids", f"holds {token_id}; ids lie below {VOCABULARY}")
        for token_id, _ in prompt.sampling.logit_bias:
            if not 0 <= token_id < VOCABULARY:
                raise InvalidPromptError("sampling.logit_bias", f"sampling.logit_bias names {token_id}")
        return positions

    def prefill(self, prompts: Sequence[Prompt], state: State | None = None) -> tuple[State, list[Step]]:
        rows = tuple(Row(self.answer(prompt).encode(), 0, prompt) for prompt in prompts)
        self.prefills.append(len(rows))
        self.prefill_fault(rows)
        read, steps = self._step(rows)
        return self.merge(state, read) if state else read, steps

    def decode(self, state: State) -> tuple[State, list[Step]]:
        self.gate.wait()
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

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id else b"<end>"

    def _step(self, rows: State) -> tuple[State, list[Step]]:
        steps = []
        for row in rows:
            token = row.answer[row.said] if row.said < len(row.answer) else 0
            likeliest = [(token, math.log(0.5)), (ord("x"), math.log(0.25)), (0, math.log(0.125))]
            steps.append(Step(token, 0.5, tuple(likeliest[: row.prompt.sampling.alternatives])))
        return tuple(Row(row.answer, row.said + 1, row.prompt) for row in rows), steps


class WeightlessTransmitter:
    """Stands in for a bundle's transmitters: real media in, constant tokens of the right shape out."""

    hash = BUNDLE_HASH

    def __init__(self) -> None:
        self.bundle = self

    def media_spec(self) -> MediaSpec:
        return MediaSpec()

    def tokenize(self, text: str, field: str = "text") -> list[int]:
        try:
            return list(text.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"{field} is not valid UTF-8") from error

    def encode(self, clip: Clip, token_length: int, **how: object) -> Encoded:
        if token_length not in (1, 2, 4, 8, 16, 32):
            raise ConfigurationError(f"token_length is {token_length}; the bundle allows 1, 2, 4, 8, 16, 32")
        x_TC = np.full((token_length, CHANNEL_DIM), 0.5**0.5, np.float32)
        return Encoded(dict.fromkeys(clip.modalities, x_TC), 0.0)
