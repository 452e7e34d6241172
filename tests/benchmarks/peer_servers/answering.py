"""The model as every peer calls it: a batch of serialized questions in, their texts out.

What computes is lent by the edge server (:mod:`edge_server.runtime.model_runner`), through its public port
only; or
it is what a user would write who has no such thing: Hugging Face's class with prompts padded to the longest.
Both ways the batch is static, as with ``generate()``: all prompts are prefilled together, and all rows are
decoded until the last one has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from edge_server.engine import EngineConfig, Prompt
from edge_server.frontdoor.ports import LinkShape
from edge_server.frontdoor.questions import block_of
from edge_server.model.link import Link
from edge_server.runtime.computing import Computing
from edge_server.runtime.model_runner import ServedLink, load
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.benchmarks.peer_servers.settings import Forward
from tests.eager_reference import EagerLink

NEW_TOKENS = EngineConfig().default_new_tokens
Steps: TypeAlias = Callable[[Sequence[Prompt]], Iterator[list[int]]]
"""Language tokens of all rows, step by step, without end."""


class Answerer:
    """One copy of the model. Not thread-safe.

    Args:
        model: folder of the model.
        threads: of its operators, process-wide.
        forward: what computes.

    Raises:
        ModelError: the folder cannot be read.
    """

    def __init__(self, model: Path | str, threads: int, forward: Forward = "lent") -> None:
        self._model: ServedLink = load(Path(model), Computing(threads))
        self._steps: Steps = self._lent if forward == "lent" else self._library
        whole = Link.load(Path(model))
        whole.merge_lora()
        self._eager = EagerLink(whole)
        self._shape = LinkShape(self._model.channel_dim, self._model.max_positions)

    def prompt(self, data: bytes) -> tuple[Prompt, int]:
        """A serialized ``pb.Question`` as a prompt, and how many language tokens its answer may have.

        Raises:
            InvalidQuestionError, InvalidPromptError: name the field.
        """
        question = pb.Question.FromString(data)
        longest = max(self._model.token_lengths)
        blocks = tuple(
            block_of(received, f"payloads[{index}]", longest, self._shape)
            for index, received in enumerate(question.payloads)
        )
        prompt = Prompt(blocks, tuple(question.question_ids), tuple(question.context_ids))
        self._model.check(prompt)
        return prompt, question.max_new_tokens or NEW_TOKENS

    def answer(self, questions: Sequence[bytes]) -> list[str]:
        """Texts of the answers, in the order of the questions.

        Raises:
            InvalidQuestionError, InvalidPromptError: one of them is no question; none is answered.
        """
        return self.generate([self.prompt(data) for data in questions])

    def generate(self, asked: Sequence[tuple[Prompt, int]]) -> list[str]:
        """The same for questions that :meth:`prompt` has read."""
        limits = [limit for _, limit in asked]
        ids: list[list[int]] = [[] for _ in asked]
        going_on = set(range(len(asked)))
        for tokens in self._steps([prompt for prompt, _ in asked]):
            for row in tuple(going_on):
                if tokens[row] != self._model.eos_id:
                    ids[row].append(tokens[row])
                    if len(ids[row]) < limits[row]:
                        continue
                going_on.discard(row)
            if not going_on:
                break
        return [self._model.text(each) for each in ids]

    def _lent(self, prompts: Sequence[Prompt]) -> Iterator[list[int]]:
        state, steps = self._model.prefill(prompts)
        while True:
            yield [step.token_id for step in steps]
            state, steps = self._model.decode(state)

    def _library(self, prompts: Sequence[Prompt]) -> Iterator[list[int]]:
        rows = self._eager.prefill(prompts)
        while True:
            yield rows.tokens
            rows = self._eager.decode(rows)
