"""How a call ends without what it was made for."""

from __future__ import annotations

from typing import Any, NoReturn

from edge_server.errors import EdgeServerError
from edge_server.frontdoor.status import failure_of, status_of
from protos.metadata import FAILURE_KEY


async def abort(context: Any, error: EdgeServerError) -> NoReturn:
    """End the call with the error's status."""
    failure = failure_of(error)
    metadata: list[tuple[str, str | bytes]] = [(FAILURE_KEY, failure.SerializeToString())]
    if failure.retry_delay_ms:
        # Understood by the retry policy of every gRPC client.
        metadata.append(("grpc-retry-pushback-ms", str(failure.retry_delay_ms)))
    await context.abort(status_of(error).grpc, str(error), tuple(metadata))
    raise AssertionError("abort always raises")
