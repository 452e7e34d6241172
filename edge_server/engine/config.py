"""What bounds the engine."""

from __future__ import annotations

from dataclasses import dataclass, fields

from edge_server.errors import ConfigurationError


@dataclass(frozen=True)
class EngineConfig:
    """Bounds and defaults of one engine.

    Raises:
        ConfigurationError: a bound is not positive, or a default lies above its bound.
    """

    batches: int = 1
    """Batches that run side by side, each on a thread of its own; for a processor with many cores."""
    max_batch: int = 32
    """Questions of one batch, which are decoded together."""
    max_batch_positions: int = 16_384
    """Context positions (prompt and answer) that these may take in all."""
    max_prefill_positions: int = 2048
    """Positions of prompts, about, that a step reads while answers are under way; at least one prompt."""
    decode_steps_between_prefills: int = 6
    """Words that answers under way are told after a prefill before the next."""
    max_queue: int = 512
    """Questions that may wait."""
    max_queue_per_user: int = 64
    """Questions of one user that may wait."""
    default_new_tokens: int = 32
    """Language tokens of an answer, where the question does not say."""
    max_new_tokens: int = 256
    """Most language tokens that a question may ask for."""
    default_deadline_s: float = 30.0
    """Seconds within which an answer is of use, where the question does not say."""
    max_deadline_s: float = 300.0
    """Longest deadline; longer ones are shortened to it [s]."""
    max_recoveries: int = 2
    """How often a question is run again after a failure that was not its own."""
    stall_s: float = 30.0
    """A step that takes longer than this makes the engine report that it is not ready [s]."""

    @property
    def max_background_rows(self) -> int:
        """Background questions that are decoded together; the other rows wait for interactive ones."""
        return max(self.max_batch - self.max_batch // 4, 1)

    @property
    def max_user_rows(self) -> int:
        """Rows, of all batches, that one user's questions may hold while others' are there."""
        return max(self.batches * self.max_batch // 4, 1)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigurationError(f"engine {field.name} is {value}; must be above 0")
        if self.default_new_tokens > self.max_new_tokens:
            raise ConfigurationError(
                f"engine default_new_tokens is {self.default_new_tokens}; "
                f"at most max_new_tokens, {self.max_new_tokens}"
            )
        if self.default_deadline_s > self.max_deadline_s:
            raise ConfigurationError(
                f"engine default_deadline_s is {self.default_deadline_s}; "
                f"at most max_deadline_s, {self.max_deadline_s}"
            )
