"""The running batch: its questions, and the state that the model runner holds for them.

Owned by a scheduler (:mod:`edge_server.engine.scheduler`), rebuilt by its recovery. Row *i* of the state
belongs to the *i*-th question; both change together here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from edge_server.engine.ports import ModelRunner, StateT, Step
from edge_server.engine.request import Job


class Batch(Generic[StateT]):
    """Questions that are decoded together.

    Where a call of the runner raises, rows and state are as they were before it; after a
    :class:`~edge_server.engine.ports.BatchLostError` the state is worth nothing, and :meth:`clear` is due.

    Args:
        runner: what computes.
    """

    def __init__(self, runner: ModelRunner[StateT]) -> None:
        self._runner = runner
        self._state: StateT | None = None
        self.rows: list[Job] = []

    def prefill(self, arrivals: Sequence[Job]) -> list[Step]:
        """Read prompts, and let their questions join behind the rows that there are; their first steps."""
        self._state, steps = self._runner.prefill([job.request.prompt for job in arrivals], self._state)
        self.rows = [*self.rows, *arrivals]
        check_rows(steps, len(arrivals))
        return steps

    def decode(self) -> list[Step]:
        """One more step of every row."""
        assert self._state is not None  # noqa: S101 (rows and state come and go together)
        state, steps = self._runner.decode(self._state)
        check_rows(steps, len(self.rows))
        self._state = state
        return steps

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on; the others' memory is freed."""
        if len(rows) == len(self.rows):
            return
        assert self._state is not None  # noqa: S101 (rows and state come and go together)
        self._state = self._runner.keep(self._state, rows)
        self.rows = [self.rows[row] for row in rows]

    def join(self, state: StateT, job: Job) -> None:
        """Let a question that was run alone join, with its state."""
        self._state = state if self._state is None else self._runner.merge(self._state, state)
        self.rows = [*self.rows, job]

    def clear(self) -> list[Job]:
        """Give up the state; the questions that it was for."""
        rows, self.rows, self._state = self.rows, [], None
        return rows


def check_rows(steps: Sequence[Step], rows: int) -> None:
    """See that a runner made one step a row.

    Raises:
        RuntimeError: it did not.
    """
    if len(steps) != rows:
        raise RuntimeError(f"the model made {len(steps)} steps for {rows} rows")
