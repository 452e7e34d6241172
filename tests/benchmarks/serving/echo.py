"""A bare grpc.aio server that returns what it gets: what gRPC itself costs.

python -m tests.benchmarks.serving.echo
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop

UNARY, STREAM = "/bare.Echo/Unary", "/bare.Echo/Stream"


async def _unary(data: bytes, context: Any) -> bytes:
    return data


async def _stream(data: bytes, context: Any) -> AsyncIterator[bytes]:
    yield data


async def serve(ready_file: Path) -> None:
    server = grpc.aio.server()
    handlers: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Stream": grpc.unary_stream_rpc_method_handler(_stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    draft = ready_file.with_suffix(".draft")
    draft.write_text(json.dumps({"grpc": f"127.0.0.1:{port}", "pid": os.getpid()}))
    draft.replace(ready_file)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(os.environ["TOKENLINK_SERVER_READY_FILE"])))
