"""Stands before every call, whatever its service: who makes it, how many they have open, for how long.

Health and reflection too: a call that waits takes a place like any other, and where devices have to show who
they are, so does who asks whether the server lives. What stops being good while a call is open ends it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from edge_server.cell import Peer, SharedBound
from edge_server.errors import AdmissionRefusedError, EdgeServerError
from edge_server.frontdoor.grpc.ending import abort
from edge_server.frontdoor.handlers import stand_before
from edge_server.frontdoor.ports import Admission


@dataclass(eq=False)
class _Call:
    peer: Peer
    task: asyncio.Task[Any]
    ended_by: EdgeServerError | None = None


class Callers:
    """Tells who makes a call.

    Args:
        identify: who holds a certificate (PEM) that TLS has verified; None: none is asked for.
    """

    def __init__(self, identify: Callable[[bytes], Peer] | None) -> None:
        self._identify = identify

    def peer_of(self, context: Any) -> Peer | None:
        """Who has shown who they are; None where nobody has to."""
        if self._identify is None:
            return None
        shown = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
        return self._identify(shown) if shown is not None else None

    def holder_of(self, context: Any) -> str:
        """For whom what a call takes is held: that device, or where the call comes from."""
        peer = self.peer_of(context)
        if peer is not None:
            return peer.name
        # ipv4:10.0.0.1:5000
        return str(context.peer()).rpartition(":")[0]


class CallGate(grpc.aio.ServerInterceptor):
    """Lets a call in, counts it, ends it.

    Args:
        callers: tells who makes one.
        admission: says whether they may, and how many each may have open.
        calls: how many there may be in all.
        refused: told, in one word, of calls that were one too many.
    """

    def __init__(
        self, callers: Callers, admission: Admission, calls: SharedBound, refused: Callable[[str], None]
    ) -> None:
        self._callers = callers
        self._admission = admission
        self._calls = calls
        self._refused = refused
        self._open: set[_Call] = set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Stand before the call's handler."""
        return await stand_before(continuation, handler_call_details, self._before)

    def end_revoked(self) -> int:
        """End the calls of whoever may not make them any more; how many these were."""
        verdicts: dict[Peer, EdgeServerError | None] = {}
        ended = 0
        for call in list(self._open):
            if call.peer not in verdicts:
                verdicts[call.peer] = self._admission.refusal_of(call.peer)
            error = verdicts[call.peer]
            if error is not None and call.ended_by is None:
                call.ended_by = error
                call.task.cancel()
                ended += 1
        return ended

    def _before(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        generates = inspect.isasyncgenfunction(behaviour)

        async def handle(request: Any, context: Any) -> Any:
            with ExitStack() as held:
                peer = self._callers.peer_of(context)
                try:
                    held.enter_context(self._admission.stream(peer))
                    held.enter_context(self._place(context))
                except EdgeServerError as error:
                    await abort(context, error)
                if not generates:
                    return await self._until_ended(peer, behaviour(request, context), context)
                await self._until_ended(peer, _written(behaviour(request, context), context), context)
                return None

        return handle

    def _place(self, context: Any) -> Any:
        try:
            return self._calls.hold(self._callers.holder_of(context), 1)
        except AdmissionRefusedError as error:
            self._refused(error.reason)
            raise

    async def _until_ended(self, peer: Peer | None, work: Awaitable[Any], context: Any) -> Any:
        task = asyncio.current_task()
        if peer is None or task is None:
            return await work
        call = _Call(peer, task)
        self._open.add(call)
        try:
            return await work
        except asyncio.CancelledError:
            if call.ended_by is None:
                raise
            task.uncancel()
            await abort(context, call.ended_by)
        finally:
            self._open.discard(call)


async def _written(responses: Any, context: Any) -> None:
    async for response in responses:
        await context.write(response)
