"""The API does what its description says; ``python -m tests.chaos --row openapi`` asks it far more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from tests.chaos.rows import openapi


async def test_every_operation_answers_as_described_and_refuses_by_field(tmp_path: Path) -> None:
    row = await openapi.run("test", tmp_path)
    assert row.kept, [check for check in row.checks if not check.kept] + [row.facts]


class Count(BaseModel):
    count: int = Field(ge=0)


@pytest.fixture
def lying() -> Iterator[str]:
    """An API that breaks on some of what it says it takes, and refuses in another shape."""
    app = FastAPI()

    @app.post("/broken")
    async def broken(body: Count) -> JSONResponse:
        return JSONResponse({}, 500 if body.count else 200)

    @app.post("/undescribed")
    async def undescribed(body: Count) -> JSONResponse:
        return JSONResponse({"error": {"message": "no", "type": "", "code": "", "param": None}}, 418)

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


async def test_an_api_that_lies_is_found(lying: str, tmp_path: Path) -> None:
    arguments = ("--phases", "fuzzing", "--max-examples", "10")
    tested = await asyncio.to_thread(openapi.schemathesis, f"{lying}/openapi.json", tmp_path, arguments)
    titles = " ".join(failure["title"] for failure in tested.failures)
    assert "Server error" in titles
    assert "Undocumented status code" in titles
    assert "refusals_name_their_field" in titles
