"""A server on a model folder that others write into: bad weights are not served; what is killed returns."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy/models/soundstage-small"
QUESTION = {"question": "What is the first instrument that comes in?", "context": "A piano begins."}


@dataclass
class Served:
    process: asyncio.subprocess.Process
    model: Path
    facts: dict[str, Any]

    async def logged(self, message: str) -> dict[str, Any]:
        """The next log line that says this."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            told: dict[str, Any] = json.loads(line)
            if message in str(told["message"]):
                return told
        raise AssertionError(f"the server ended without saying {message!r}")

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    model = Path(shutil.copytree(SHIPPED, tmp_path / "model"))
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).with_name("edge-server"), "serve"),
        cwd=ROOT,
        env=os.environ
        | {
            "TOKENLINK_SERVER_MODEL": str(model),
            "TOKENLINK_SERVER_GRPC_PORT": "0",
            "TOKENLINK_SERVER_REST_PORT": "0",
            "TOKENLINK_SERVER_BATCHES": "1",
            "TOKENLINK_SERVER_UI": "off",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    made = Served(process, model, {})
    try:
        async with asyncio.timeout(120):
            made.facts = await made.logged("serving")
            yield made
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def answer(served: Served) -> str:
    async with httpx.AsyncClient(base_url=str(served.facts["rest"]), timeout=60) as http:
        reply = await http.post("/v1/infer", json=QUESTION)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["answer"])


def runners(served: Served) -> list[psutil.Process]:
    """Processes that hold weights: of those that give way, the largest; decoders of media give way more."""
    server = psutil.Process(served.process.pid)
    given = [each for each in server.children(recursive=True) if each.nice() > server.nice()]
    least = min((each.nice() for each in given), default=0)
    return [each for each in given if each.nice() == least]


async def test_weights_that_are_not_finite_are_not_promoted(served: Served) -> None:
    said = await answer(served)
    weights = load_file(served.model / "foundation.safetensors")
    save_file(
        {name: np.full_like(tensor, np.nan) for name, tensor in weights.items()},
        served.model / "foundation.safetensors",
    )
    served.hang_up()
    refused = await served.logged("not promoted")
    assert "canary" in str(refused["message"])
    assert await answer(served) == said
    # Whoever is started again computes with what is served, not with what lies there.
    (runner,) = runners(served)
    runner.kill()
    assert await answer(served) == said


@pytest.mark.slow
async def test_another_model_behind_the_same_bundle_is_told_by_its_answers(served: Served) -> None:
    weights = load_file(served.model / "foundation.safetensors")
    save_file(
        {name: -tensor for name, tensor in weights.items()},
        served.model / "foundation.safetensors",
    )
    served.hang_up()
    refused = await served.logged("not promoted")
    assert "canary questions are answered" in str(refused["message"])


@pytest.mark.slow
async def test_a_file_that_is_missing_changes_nothing(served: Served) -> None:
    said = await answer(served)
    (served.model / "link.safetensors").unlink()
    served.hang_up()
    await served.logged("not reloaded")
    assert await answer(served) == said


async def test_a_load_that_hangs_does_not_keep_the_server_from_ending(served: Served) -> None:
    weights = load_file(served.model / "foundation.safetensors")
    save_file({name: -tensor for name, tensor in weights.items()}, served.model / "foundation.safetensors")
    before = {each.pid for each in runners(served)}
    served.hang_up()
    async with asyncio.timeout(60):
        while not (new := [each for each in runners(served) if each.pid not in before]):
            await asyncio.sleep(0.001)
    for each in new:
        each.suspend()
    served.process.terminate()
    async with asyncio.timeout(60):
        assert await served.process.wait() == 0
    assert not [each for each in new if each.is_running()]
