"""Co-training as a process of its own, beside the one that serves: lower priority, waits while that is busy.

model folder ─▶ ModelHalf ─▶ LearningRound ◀─▶ CoTrainingServer ◀─▶ devices
                                  └─▶ candidate and report
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge_server.access.credential_store import CredentialStore
from edge_server.access.identity import peer_of_certificate
from edge_server.cotrain.candidate import bundles_of, write_candidate
from edge_server.cotrain.learning_round import LearningRound, Pause
from edge_server.cotrain.model_half import ModelHalf
from edge_server.cotrain.pausing import QueueWatch
from edge_server.cotrain.service import CoTrainingServer, CoTrainingService, Identity
from edge_server.cotrain.state import RoundState
from edge_server.cotrain.weights_of_bundles import heads_of
from edge_server.errors import ConfigurationError
from edge_server.frontdoor.tls import TlsFiles
from edge_server.model.link import Link

logger = logging.getLogger(__name__)

NICE = 19
"""Added to the priority's number: serving goes first."""


@dataclass(frozen=True)
class Surroundings:
    """Where a round is held.

    Attributes:
        host: address to listen at.
        port: 0: any free one.
        threads: torch computes with.
        tls: certificates; None: no encryption.
        access: file of the devices that are enrolled; None: any device may take part.
        metrics: of the server beside, ``http://.../metrics``; None: nobody is waited for.
        pause_above: questions that may wait there.
        data: data set whose ``val`` split the model was shipped with; None: it is not asked.
        rehearse: data set, or folder of one's own clips, that is not to be forgotten; None: nothing.
        ready: told the port once devices can come.
        progress: told the status after each moment.
    """

    host: str = "127.0.0.1"
    port: int = 0
    threads: int = 1
    tls: TlsFiles | None = None
    access: Path | None = None
    metrics: str | None = None
    pause_above: int = 2
    data: Path | None = None
    rehearse: Path | None = None
    ready: Callable[[int], None] = lambda port: None
    progress: Callable[[dict[str, Any]], None] = lambda status: None


async def hold_round(state: RoundState, around: Surroundings) -> tuple[str, dict[str, Any]]:
    """Hold a round until it is done or stopped.

    Returns:
        Why it ended, and the candidate's report; empty where it was stopped.

    Raises:
        ConfigurationError: the address cannot be bound, or a setting names what is not there.
        DatasetError: what is to be rehearsed, or asked before and after, cannot be read.
        ModelError: the model cannot be read.
    """
    if around.access is not None and (around.tls is None or around.tls.client_ca is None):
        raise ConfigurationError(
            "access: devices are known by certificates; tls_cert, tls_key and tls_ca too"
        )
    torch.set_num_threads(around.threads)
    torch.manual_seed(state.plan.seed)
    link = Link.load(state.model)
    rehearsal = None
    if around.rehearse is not None:
        from edge_server.cotrain.rehearsal import Rehearsal  # what makes data sets is not everywhere

        rehearsal = Rehearsal.of(link, around.rehearse, state.path("rehearsal"), state.plan)
    half = ModelHalf(link, state.plan, rehearsal=rehearsal)
    bundles = {bundle_hash: heads_of(bundle) for bundle_hash, bundle in bundles_of(state.model).items()}
    unknown = set(state.plan.token_lengths) - set(half.link.config.token_lengths)
    if unknown:
        allowed = ", ".join(map(str, half.link.config.token_lengths))
        raise ConfigurationError(f"token_lengths: {sorted(unknown)} not of this model; allowed: {allowed}")
    pause: Pause | None = QueueWatch(around.metrics, around.pause_above) if around.metrics else None
    learning = LearningRound(state, half, bundles, pause=pause)
    validation = None
    if around.data is not None:
        from edge_server.cotrain.validation import ValidationSet  # likewise

        validation = ValidationSet.of(half.link, around.data, state.path("validation"))
    store = CredentialStore(around.access) if around.access is not None else None
    identity = Identity(peer_of_certificate, store) if store is not None else None
    server = CoTrainingServer(CoTrainingService(learning, identity), state.plan.max_devices, around.tls)
    around.ready(await server.start(around.host, around.port))
    watching = asyncio.create_task(_watch(learning, around.progress))
    try:
        with _stopping(state):
            reason = await learning.run()
    finally:
        watching.cancel()
        await server.stop()
        learning.close()
        if store is not None:
            store.close()
    report = await asyncio.to_thread(write_candidate, learning, validation) if reason == "done" else {}
    around.progress(learning.status())
    return reason, report


def lower_priority(*, beside: bool = False) -> None:
    """Let everything else of the machine go first.

    Args:
        beside: something on this machine is not to wait at all, as a server that answers meanwhile: this
            computes when nobody else wants to (SCHED_IDLE, sched(7)). Whoever is woken then takes the
            processor at once; where priority is merely low, they wait for the end of its time slice, at each
            of a question's steps.
    """
    with contextlib.suppress(OSError):
        os.nice(NICE)
    if beside and hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


@contextlib.contextmanager
def _stopping(state: RoundState) -> Any:
    """SIGTERM and SIGINT stop the round after its present step; it can go on later."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    try:
        for number in numbers:
            loop.add_signal_handler(number, state.stop)
    except (NotImplementedError, RuntimeError, ValueError):
        yield  # not the main thread
        return
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _watch(learning: LearningRound, progress: Callable[[dict[str, Any]], None]) -> None:
    while True:
        progress(learning.status())
        await asyncio.sleep(0.5)
