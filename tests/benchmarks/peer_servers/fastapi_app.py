"""Plain FastAPI: one question at a time, no batching.

https://fastapi.tiangolo.com/async/ : what blocks is declared with ``def`` and runs in a thread.
https://fastapi.tiangolo.com/deployment/server-workers/ : one Uvicorn worker per core.
"""

# Annotations are evaluated: FastAPI reads them.
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import Body, FastAPI
from fastapi.responses import PlainTextResponse

from tests.benchmarks.peer_servers.settings import Settings


@asynccontextmanager
async def _with_model(app: FastAPI) -> AsyncIterator[None]:
    # Not above: the process that watches over the workers needs no torch.
    from tests.benchmarks.peer_servers.answering import Answerer

    settings = Settings.from_environment()
    app.state.answerer = Answerer(settings.model, settings.threads, settings.forward)
    app.state.turn = threading.Lock()  # a copy of the model takes one call at a time
    yield


app = FastAPI(lifespan=_with_model)


@app.post("/predict")
def predict(question: Annotated[bytes, Body(media_type="application/x-protobuf")]) -> PlainTextResponse:
    """Answer one question."""
    with app.state.turn:
        (text,) = app.state.answerer.answer([question])
    return PlainTextResponse(text)


def main() -> None:
    """Entry point."""
    settings = Settings.from_environment()
    uvicorn.run(
        f"{__spec__.name}:app",
        host="127.0.0.1",
        port=settings.port,
        workers=settings.workers,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
