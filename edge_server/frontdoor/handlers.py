"""Standing before the handler of a gRPC call, of whichever of the four kinds it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc


async def stand_before(
    continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
    details: grpc.HandlerCallDetails,
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> Any:
    """What an interceptor's ``intercept_service`` returns: the call's handler, its function wrapped.

    Args:
        continuation: finds the handler; None: nobody serves the method.
        details: of the call.
        wrap: makes the function that is called in place of the handler's.
    """
    handler = await continuation(details)
    if handler is None:
        return handler
    kind = ("stream" if handler.request_streaming else "unary") + (
        "_stream" if handler.response_streaming else "_unary"
    )
    return handler._replace(**{kind: wrap(getattr(handler, kind))})
