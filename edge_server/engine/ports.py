"""The ports through which a model enters the engine.

The engine batches; it knows no torch. Whatever implements these can be served: the trained foundation with
its receivers (:mod:`edge_server.runtime.model_runner`) or a weight-free stand-in in a test.

:class:`Model` is what the event loop asks, :class:`ModelRunner` what computes one batch. They may be one
object, or the runner may be elsewhere, in a process of its own (:mod:`edge_server.engine.runner_process`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from edge_server.engine.sampling import GREEDY, Sampling


@dataclass(frozen=True)
class FeatureBlock:
    """One received codeword: feature tokens of one modality after the channel.

    Attributes:
        modality: ``"image"``, ``"video"``, ``"audio"`` or ``"text"`` (the analog embedding path).
        x_TC: float32, [token_length, channel_dim], equalised reals.
        snr_db: Es/N0 after equalisation, what the receiver is told [dB].
        label: language token ids that say whose it is and from when, where there are several of a modality.
        token_snr_db_T: the same of each token, float32 [token_length] [dB]; None: snr_db is that of all.
    """

    modality: str
    x_TC: npt.NDArray[np.float32]
    snr_db: float
    label: tuple[int, ...] = ()
    token_snr_db_T: npt.NDArray[np.float32] | None = None

    def told_db(self) -> npt.NDArray[np.float32]:
        """What the receiver is told of each token, float32 [token_length] [dB]."""
        if self.token_snr_db_T is None:
            return np.full(len(self.x_TC), self.snr_db, np.float32)
        return self.token_snr_db_T


Role: TypeAlias = Literal["system", "user", "assistant"]
"""Who says a turn of a conversation."""


@dataclass(frozen=True)
class Said:
    """A turn of a conversation.

    Attributes:
        role: whose.
        pieces: in their order: a text as language token ids, what is shown as its place in the
            prompt's blocks.
    """

    role: Role
    pieces: tuple[tuple[int, ...] | int, ...]


@dataclass(frozen=True)
class Prompt:
    """What the model is asked.

    Attributes:
        blocks: feature tokens, at most one block per modality, but for models that tell several apart by
            their labels; in a conversation, of all turns in their order.
        question_ids: language token ids of the question; empty when it came as a text block.
        context_ids: language token ids of text that goes with the question.
        sampling: how the language tokens of the answer are chosen; its seed is set where it draws.
        turns: the conversation, the turn that asks at its end; none: the blocks, the context and the question
            are all of it. Only for a model that tells turns apart.
        conversation: who may find again what was computed for the beginning of this prompt; empty: nobody.
        kept_as: names blocks and context, where others are likely to ask about the same: a runner may keep
            what it computes of them. Empty: it is not asked again.
    """

    blocks: tuple[FeatureBlock, ...]
    question_ids: tuple[int, ...]
    context_ids: tuple[int, ...] = ()
    sampling: Sampling = GREEDY
    turns: tuple[Said, ...] = ()
    conversation: str = ""
    kept_as: str = ""


@dataclass(frozen=True)
class Step:
    """One decoded language token; ``token_id == Model.eos_id`` ends the answer.

    Attributes:
        token_id: the token.
        probability: that the model gave to it, before any temperature, penalty or bias.
        alternatives: the likeliest tokens with their log-probabilities, as many as the prompt asks for.
        doubt: of an answer's first token: probability that the model would have said in its place that it is
            not sure; 0 where that is not known.
    """

    token_id: int
    probability: float
    alternatives: tuple[tuple[int, float], ...] = ()
    doubt: float = 0.0


class InvalidPromptError(ValueError):
    """A prompt that the model cannot take: names the field, what was found and what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class PromptTooLongError(InvalidPromptError):
    """A prompt, or a text of it, that does not fit the model.

    Args:
        field: at fault.
        found: how long it is.
        allowed: how long it may be.
        unit: of both.
    """

    def __init__(self, field: str, found: int, allowed: int, unit: str = "language tokens") -> None:
        super().__init__(field, f"{field} has {found} {unit}; at most {allowed} allowed")
        self.found = found
        self.allowed = allowed
        self.unit = unit


class BatchLostError(RuntimeError):
    """A runner has lost its states: no row of its batch is as it was, whichever call raised this."""


class RunnerUnavailableError(BatchLostError):
    """A runner has no process to compute with, and cannot get one now: no prompt is at fault."""


StateT = TypeVar("StateT")


class Model(Protocol):
    """What is known of a causal model without running it. Thread-safe."""

    @property
    def name(self) -> str:
        """Name of the model, as shown to clients."""

    @property
    def bundle_hash(self) -> str:
        """SHA-256 (hexadecimal) of the device bundle this model answers for."""

    @property
    def eos_id(self) -> int:
        """Language token id that ends an answer."""

    @property
    def max_positions(self) -> int:
        """Longest prompt with its answer [positions]."""

    def check(self, prompt: Prompt) -> int:
        """Validate a prompt cheaply, without running it.

        Returns:
            The number of positions that the prompt takes in the model's context.

        Raises:
            InvalidPromptError: names the field that is at fault; the prompt leaves no room for an answer.
        """

    def text(self, token_ids: Sequence[int]) -> str:
        """The text that language token ids spell, special tokens left out."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one language token adds to a text; of a special token its name."""


class ModelRunner(Protocol, Generic[StateT]):
    """Computes the answers to batches of prompts. Called by one thread at a time.

    ``StateT`` is a running batch (key/value caches), opaque to the engine; row *i* of a state belongs
    to the *i*-th prompt in it. A state is used up by the call that makes another from it, unless that call
    raises: the engine keeps no two states of one batch. One without rows may be given prompts again.

    Every call may raise :class:`BatchLostError`; then no state is as it was.
    """

    def prefill(self, prompts: Sequence[Prompt], state: StateT | None = None) -> tuple[StateT, list[Step]]:
        """Start answering prompts of any mix of lengths and modalities.

        Args:
            prompts: what is asked, at least one.
            state: the batch whose rows they join, after those that it has; None: a new one. If the call
                raises, it is as it was.

        Returns:
            The batch, and the first step of each prompt.
        """

    def decode(self, state: StateT) -> tuple[StateT, list[Step]]:
        """One more step for every row."""

    def merge(self, first: StateT, second: StateT) -> StateT:
        """Rows of both, ``first``'s before ``second``'s. If it raises, both are as they were."""

    def keep(self, state: StateT, rows: Sequence[int]) -> StateT:
        """Only these rows, in this order; the others' memory is freed."""


@runtime_checkable
class Restartable(Protocol):
    """A runner that may be without what it computes with, such as a process that was killed."""

    @property
    def started(self) -> bool:
        """Whether it computes; looked at often."""

    def ensure_started(self) -> bool:
        """Whether it computes; starts what it needs where it does not, unless that failed a moment ago."""


@runtime_checkable
class GivesWay(Protocol):
    """A runner that can compute what nobody waits for with what everything else leaves of the processor."""

    def give_way(self, whether: bool) -> None:
        """Whether the next calls are such ones. They go on however busy the machine is, if slowly."""
