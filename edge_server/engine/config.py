"""Bounds and defaults of an engine; as settings, the section ``[engine]``."""

from __future__ import annotations

from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False))
class EngineConfig:
    """Bounds and defaults of one engine; as a section of settings, ``[engine]``.

    Raises:
        ValidationError: a bound is not positive, or a default lies above its bound.
    """

    kind: str = Field(default="batching", json_schema_extra={"flag": True})
    """Which engine answers, by its name; packages bring others than the one of this server."""
    batches: PositiveInt = Field(
        default=1,
        json_schema_extra={
            "flag": True,
            "shown": "one per processor core up to four; on a GPU one",
        },
    )
    """Batches that run side by side, each on a thread of its own; for a processor with many cores."""
    max_batch: PositiveInt = Field(default=32, json_schema_extra={"flag": True})
    """Questions of one batch, which are decoded together."""
    max_batch_positions: PositiveInt = 16_384
    """Context positions (prompt and answer) that the questions of a batch may take in all."""
    max_prefill_positions: PositiveInt = 2048
    """Positions of prompts, about, that a step reads while answers are under way; at least one prompt."""
    decode_steps_between_prefills: PositiveInt = 6
    """Language tokens that each answer under way gets after a prefill before the next."""
    max_queue: PositiveInt = Field(default=512, json_schema_extra={"flag": True})
    """Questions that may wait."""
    max_queue_per_user: PositiveInt = 64
    """Questions of one user that may wait."""
    max_background_beside: PositiveInt = 1
    """Background questions under way at once, of all batches, while somebody asks interactively; with
    `cluster`, of each door."""
    default_new_tokens: PositiveInt = 32
    """Language tokens of an answer, where the question does not say."""
    max_new_tokens: PositiveInt = 256
    """Most language tokens that a question may ask for."""
    default_deadline_s: PositiveFloat = 30.0
    """Time within which an answer is of use, where the question does not say."""
    max_deadline_s: PositiveFloat = 300.0
    """Longest deadline; longer ones are shortened to it."""
    abstain_below: float | None = Field(
        default=None, ge=0.0, le=1.0, json_schema_extra={"flag": True, "shown": "the model's own threshold"}
    )
    """Answers of less confidence than this are held back, "not sure" in their place; 0: none is. Only of
    models that are calibrated (`edge-server evaluate --calibrate`)."""
    max_recoveries: PositiveInt = 2
    """How often a question is run again after a failure that was not its own."""
    stall_s: PositiveFloat = 30.0
    """A step that takes longer than this makes the engine report that it is not ready."""

    @property
    def max_background_rows(self) -> int:
        """Background questions that are decoded together; the other rows wait for interactive ones."""
        return max(self.max_batch - self.max_batch // 4, 1)

    @property
    def max_user_rows(self) -> int:
        """Rows, of all batches, that one user's questions may hold while others' are there."""
        return max(self.batches * self.max_batch // 4, 1)

    def __post_init__(self) -> None:
        for name, most in (
            ("default_new_tokens", "max_new_tokens"),
            ("default_deadline_s", "max_deadline_s"),
        ):
            if getattr(self, name) > getattr(self, most):
                raise ValueError(f"{name} is {getattr(self, name)}; at most {most}, {getattr(self, most)}")
