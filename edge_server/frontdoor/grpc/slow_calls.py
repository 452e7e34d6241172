"""Calls whose request does not arrive: gRPC itself would wait for it as long as the connection lasts.

On the wire nothing changes: a single request is read like a stream of one, because only that can be given a
deadline.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from edge_server.frontdoor.senders_deadline import sent_within

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


def read_in_time(
    behaviour: Callable[[_Request, Any], Awaitable[_Response]],
    within_s: float,
    report: Callable[[], None],
) -> Callable[[AsyncIterator[_Request], Any], Awaitable[_Response]]:
    """A handler of one request as a handler of a stream that has to hold one in time.

    Args:
        behaviour: the handler.
        within_s: time for the request to arrive [s].
        report: called when one did not.
    """

    async def read(requests: AsyncIterator[_Request], context: Any) -> _Response:
        try:
            async with sent_within(within_s):
                request = await anext(aiter(requests))
        except TimeoutError:
            report()
            await context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"the request did not arrive within {within_s:g} s"
            )
        except StopAsyncIteration:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call ended without a request")
        return await behaviour(request, context)

    return read


async def begun_in_time(
    requests: AsyncIterator[_Request], within_s: float, report: Callable[[], None]
) -> AsyncIterator[_Request]:
    """A stream of requests that is over where its first does not arrive in time; later ones may take long."""
    incoming = aiter(requests)
    try:
        async with sent_within(within_s):
            request = await anext(incoming)
    except TimeoutError:
        report()
        return
    except StopAsyncIteration:
        return
    yield request
    del request  # a stream that is idle holds nobody's question
    async for request in incoming:
        yield request
        del request
