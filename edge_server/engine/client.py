"""The port through which front doors reach an engine, wherever it computes.

In this process (:class:`edge_server.engine.engine.Engine`) or elsewhere: whatever implements
:class:`EngineClient` can be served, once :mod:`edge_server.engine.registry` knows its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge_server.engine.answer import AnswerStream
from edge_server.engine.ports import Model
from edge_server.engine.request import Priority, Request


@dataclass(frozen=True)
class EngineStatus:
    """How an engine does, at one moment.

    Attributes:
        ready: questions are accepted and answers make progress.
        draining: it was told to take nothing new.
        waiting: questions in its queue.
        running: questions that are computed.
        unanswered: accepted questions whose end has not come.
        runners: how many of what it computes with can compute.
        of_runners: how many of those there are.
        askers: doors elsewhere that ask it.
    """

    ready: bool
    draining: bool
    waiting: int = 0
    running: int = 0
    unanswered: int = 0
    runners: int = 1
    of_runners: int = 1
    askers: int = 0

    @property
    def degraded(self) -> bool:
        """Whether it answers with less than it has."""
        return self.ready and self.runners < self.of_runners


class EngineClient(Protocol):
    """What front doors, cell and rollout need of an engine. Called from one event loop."""

    @property
    def model(self) -> Model:
        """What is asked, as far as it is known without its weights."""

    @property
    def status(self) -> EngineStatus:
        """How it does."""

    @property
    def retry_delay_s(self) -> float:
        """After how long it pays to come again, for who is turned away now [s]."""

    def admit(self, user: str, priority: Priority = "interactive") -> None:
        """Tell whether a question of this user would be accepted now, before work is put into it.

        Raises:
            DrainingError: nothing new is accepted.
            EngineOverloadedError: there is no room for it.
        """

    def submit(self, request: Request) -> AnswerStream:
        """Accept a question: from here on it ends with an answer, an error or its cancellation.

        Raises:
            InvalidQuestionError: the model cannot take it.
            DrainingError: nothing new is accepted.
            EngineOverloadedError: there is no room for it.
        """

    async def start(self) -> None:
        """Accept questions."""

    async def drain(self) -> None:
        """Accept nothing new and wait until every accepted question has ended."""

    async def stop(self) -> None:
        """End at once: what is unanswered fails with :class:`~edge_server.errors.DrainingError`."""
