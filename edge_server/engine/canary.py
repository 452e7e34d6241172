"""Canary questions: asked of a model before it is promoted, and again after; what it must answer is known.

``MODEL/canary.json``, written by ``edge-server export`` with the weights that it was exported with:

    {"version": 1, "questions": [
        {"seed": 1, "blocks": {"video": [16, 32]}, "question_ids": [7], "answer": "yes"}]}

The feature tokens of a question follow from its seed: Gaussian tokens of unit power, so that the file needs
no media, and no device bundle is run to ask it. A model without the file is asked questions of the same kind
whose answers are not known: it must answer them with finite probabilities, whatever it says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_server.engine.answer import AnswerStream
from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.engine.request import Request
from edge_server.errors import DrainingError, EdgeServerError, EngineOverloadedError, ModelError

FILE = "canary.json"
VERSION = 1
#: Of the answers that are known, so many must come. Not all: arithmetic differs between processors, and a
#: token that is hardly likelier than the next may give way to it.
_NEEDED_SHARE = 0.75
_SNR_DB = 30.0
_MAX_NEW_TOKENS = 16
_DEADLINE_S = 60.0
_USER = "canary"


class CanaryError(ModelError):
    """A model does not answer what it must."""


@dataclass(frozen=True)
class Canary:
    """A question whose answer is known, or that there must be one.

    Attributes:
        prompt: what is asked.
        answer: what must come; None: anything.
    """

    prompt: Prompt
    answer: str | None = None

    @classmethod
    def of(
        cls,
        seed: int,
        blocks: Mapping[str, tuple[int, int]],
        question_ids: Sequence[int],
        answer: str | None = None,
    ) -> Canary:
        """A canary whose feature tokens follow from a seed.

        Args:
            seed: of the tokens.
            blocks: shape [token_length, channel_dim] of each modality's block.
            question_ids: language token ids.
            answer: what must come.
        """
        rng = np.random.default_rng(seed)
        made = tuple(
            # Es = 1 for a complex symbol of two reals.
            FeatureBlock(modality, rng.normal(0.0, 0.5**0.5, shape).astype(np.float32), _SNR_DB)
            for modality, shape in blocks.items()
        )
        return cls(Prompt(made, tuple(question_ids)), answer)


def read_canaries(path: Path) -> tuple[Canary, ...]:
    """The canaries of a model folder; none where the file is not there.

    Raises:
        ModelError: it is there and cannot be read.
    """
    if not path.exists():
        return ()
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["version"] != VERSION:
            raise ModelError(f"{path}: version is {found['version']}; {VERSION} can be read")
        return tuple(
            Canary.of(
                int(each["seed"]),
                {name: (int(shape[0]), int(shape[1])) for name, shape in each["blocks"].items()},
                [int(token_id) for token_id in each["question_ids"]],
                str(each["answer"]),
            )
            for each in found["questions"]
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ModelError(f"{path}: holds no canary questions: {error!r}") from error


async def try_out(submit: Callable[[Request], AnswerStream], canaries: Sequence[Canary]) -> None:
    """Ask all canaries at once.

    Args:
        submit: hands a question to the engine that is tried.
        canaries: what to ask.

    Raises:
        CanaryError: one failed, or too few were answered as they must be.
        EngineOverloadedError, DrainingError: the engine takes no question now, whatever its model is.
    """
    try:
        asked = [
            submit(
                Request(
                    each.prompt,
                    _USER,
                    max_new_tokens=_MAX_NEW_TOKENS,
                    deadline_s=_DEADLINE_S,
                    request_id=f"canary-{number}",
                    whole=True,
                )
            )
            for number, each in enumerate(canaries)
        ]
        said = [
            done.guess or done.text
            for done in await asyncio.gather(*(stream.completion() for stream in asked))
        ]
    except (EngineOverloadedError, DrainingError):
        raise
    except EdgeServerError as error:
        raise CanaryError(f"a canary question failed: {error}") from error
    known = [
        (each.answer, text) for each, text in zip(canaries, said, strict=True) if each.answer is not None
    ]
    right = sum(answer == text for answer, text in known)
    if right < _NEEDED_SHARE * len(known):
        wrong = next((answer, text) for answer, text in known if answer != text)
        raise CanaryError(
            f"{right} of {len(known)} canary questions are answered as the model answered them when it was "
            f"exported; one is {wrong[1]!r}, known is {wrong[0]!r}; export it again if its weights are new"
        )
