"""Answers that wait to be acknowledged, as the claims of a cluster keep them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from edge_server.cluster.claims import Claims


class ClusterAnswers:
    """Implements :class:`edge_server.cell.answers.AnswerStore`: engines have put each answer there already.

    Args:
        claims: of the cluster.
    """

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._forgetting: set[asyncio.Task[None]] = set()

    def put(self, answer: object) -> asyncio.Future[None]:
        """Nothing is left to do: the engine that answered has."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def forget(self, keys: Sequence[tuple[str, str]]) -> None:
        """Let the claims of these (device_id, request_id) go."""
        for device_id, request_id in keys:
            task = asyncio.create_task(self._claims.forget(device_id, request_id))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)
