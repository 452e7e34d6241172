"""A contestant, up and ready: our edge server over gRPC, or a peer over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.loadtest.grpc_target import GrpcTarget
from deploy.loadtest.target import Failed, Question, Refused, Target
from device_agent.bundle.bundle import read_manifest
from tests.benchmarks.peers.contestants import Choice, Peer
from tests.benchmarks.peers.environments import ROOT
from tests.benchmarks.peers.processes import ServerDiedError, ServerProcess
from tests.benchmarks.peers.wires import HttpTarget
from tests.ports import free_port

READY_WITHIN_S = 180.0
_FIRST_ANSWER_WITHIN_S = 20.0
_AGAIN_AFTER_S = 0.25


@dataclass(frozen=True)
class Served:
    """One that can be asked.

    Attributes:
        process: its server's.
        target: for the load generator.
    """

    process: ServerProcess
    target: Target


@asynccontextmanager
async def our_server(model: Path, folder: Path, first: Question) -> AsyncIterator[Served]:
    """The edge server as it is shipped, with its own defaults for all else.

    Args:
        model: folder of the model.
        folder: takes its log.
        first: a question to see that it answers.

    Raises:
        ServerDiedError: it does not come up.
    """
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    command: list[str | Path] = [Path(sys.executable).with_name("edge-server"), "serve"]
    command += ["--model", model, "--ready-file", ready]
    command += ["--grpc-port", "0", "--rest-port", "0", "--log-level", "WARNING"]
    with ServerProcess(command, _environment(), folder / "ours.log", ROOT) as process:
        end_s = time.monotonic() + READY_WITHIN_S
        while not ready.exists():
            process.check()
            if time.monotonic() > end_s:
                raise ServerDiedError(f"not ready within {READY_WITHIN_S:g} s: {process.last_words()}")
            await asyncio.sleep(_AGAIN_AFTER_S)
        address = json.loads(ready.read_text(encoding="utf-8"))["grpc"]
        target = GrpcTarget(address, read_manifest(model / "bundle").bundle_hash)
        try:
            await _until_answered(process, target, first)
            yield Served(process, target)
        finally:
            await target.close()


@asynccontextmanager
async def peer_server(
    peer: Peer, choice: Choice, model: Path, folder: Path, first: Question
) -> AsyncIterator[Served]:
    """A peer, set up in one way; arguments otherwise as for :func:`our_server`.

    Raises:
        MissingEnvironmentError: it has no environment.
        ServerDiedError: it does not come up.
    """
    port = free_port()
    # What it leaves behind goes with the folder.
    environment = _environment() | {"OMP_NUM_THREADS": str(choice.threads), "TMPDIR": str(folder)}
    environment |= choice.settings(model, port).to_environment()
    environment |= dict(peer.environment) | dict(choice.environment)
    log = folder / f"{peer.name}.log"
    with ServerProcess(peer.command(port), environment, log, ROOT) as process:
        target = HttpTarget(port, peer.wire)
        try:
            await _until_answered(process, target, first)
            yield Served(process, target)
        finally:
            await target.close()


def _environment() -> dict[str, str]:
    """The repository's modules are found, whatever the interpreter; the rest as in this process."""
    others = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{others}" if others else str(ROOT)}


async def _until_answered(process: ServerProcess, target: Target, question: Question) -> None:
    """Wait for a first answer, and until what else starts up has done so."""
    end_s = time.monotonic() + READY_WITHIN_S
    reason: object = "nobody listens"
    while time.monotonic() < end_s:
        process.check()
        try:
            async with asyncio.timeout(_FIRST_ANSWER_WITHIN_S):
                connection = await target.connect(0)
                try:
                    await connection.ask(question)
                finally:
                    await connection.close()
        except (Refused, Failed, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            await asyncio.sleep(_AGAIN_AFTER_S)
        else:
            return await process.until_idle()
    raise ServerDiedError(f"no answer within {READY_WITHIN_S:g} s ({reason}): {process.last_words()}")
