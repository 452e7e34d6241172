"""Puts an agent together from its settings: the one place where clocks and randomness come from."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from device_agent.agent import Agent
from device_agent.bundle.bundle import Bundle
from device_agent.channel import read_trace
from device_agent.config import DeviceSettings
from device_agent.errors import DeviceAgentError
from device_agent.media.clip import Clip
from device_agent.outbox.outbox import Outbox
from device_agent.outbox.records import NewQuestion, Stamp, Waiting
from device_agent.outbox.relay import Spooler
from device_agent.outbox.sender import SPOOL_BACKOFF, Troubles
from device_agent.outcome import Prepared, outcome_of
from device_agent.progressive import first_round
from device_agent.renewing import Renewer
from device_agent.tracing import NotTraced, Traced, Tracing, exporting_tracer
from device_agent.transmitter import Transmitter
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.session import Reply
from device_agent.uplink.uplink import Uplink


def uplink_for(
    settings: DeviceSettings,
    bundle_hash: str,
    *,
    backoff: Backoff | None = None,
    outbox: Outbox | None = None,
    on_trouble: Callable[[DeviceAgentError], None] = lambda error: None,
    tracing: Tracing | None = None,
    lasting: Callable[[], float] = time.time,
) -> Uplink:
    """An uplink to the server in the settings.

    The device id gets a suffix: to a server, two agents of the same name would be one device. An agent with
    an outbox is known by its file's key, restart after restart, so that the server knows which answers are
    its; of the processes that share a file only one sends. Any other run of an agent is a device of its own.
    A device with a certificate goes by the name in it.

    Raises:
        ConfigurationError: a certificate or a key cannot be read.
    """
    credentials = settings.credentials()
    suffix = outbox.device_key if outbox is not None else secrets.token_hex(4)
    certified = credentials.device_id if credentials is not None else None
    return Uplink(
        settings.server,
        bundle_hash,
        device_id=f"{certified}/{suffix}" if certified else f"{settings.device_id}-{suffix}",
        snr_db=settings.snr_db,
        keep_session=outbox is not None,
        backoff=backoff or Backoff(retries=settings.retries),
        on_trouble=on_trouble,
        credentials=credentials,
        renews=_renewer(settings) if credentials is not None and settings.shows_identity else None,
        use_proxy=settings.use_proxy,
        tracing=tracing,
        lasting=lasting,
    )


def _renewer(settings: DeviceSettings) -> Renewer:
    return Renewer(settings.identity, settings.credentials, use_proxy=settings.use_proxy)


@asynccontextmanager
async def open_agent(settings: DeviceSettings, bundle: Bundle) -> AsyncIterator[Agent]:
    """An agent for a verified bundle; its connection closes with the context.

    Raises:
        ConfigurationError: the trace in the settings cannot be read, or tracing is on and not installed.
    """
    with _tracing(settings) as tracing:
        async with uplink_for(settings, bundle.hash, tracing=tracing) as uplink:
            agent = _agent(settings, bundle, uplink, tracing)
            try:
                yield agent
            finally:
                await agent.close()


@asynccontextmanager
async def open_spooler(
    settings: DeviceSettings, bundle: Bundle, outbox: Outbox, lasting: Callable[[], float] = time.time
) -> AsyncIterator[tuple[Agent, Spooler]]:
    """An agent that makes questions, and what brings them from an outbox to answers; raises as above.

    Args:
        settings: of the agent.
        bundle: verified.
        outbox: open.
        lasting: seconds, by the clock that says when shared windows began.
    """
    troubles = Troubles()
    with _tracing(settings) as tracing:
        uplink = uplink_for(
            settings,
            bundle.hash,
            backoff=SPOOL_BACKOFF,
            outbox=outbox,
            on_trouble=troubles.say,
            tracing=tracing,
            lasting=lasting,
        )
        async with uplink:
            agent = _agent(settings, bundle, uplink, tracing)
            try:
                yield agent, Spooler(outbox, uplink, _record_of, troubles, more_of=agent.more_of)
            finally:
                await agent.close()


def spooled(
    prepared: Prepared, clip: Clip, source: str, label: str, question: str, stamp: Stamp | None = None
) -> NewQuestion:
    """A question about a clip as an outbox takes it; its words are kept, to be corrected later."""
    window = None if clip.window is None else clip.window.to_json()
    facts = {
        "token_length": prepared.token_length,
        "encode_s": prepared.encode_s + (prepared.reserve.encode_s if prepared.reserve else 0.0),
        "window": window,
        "question": question,
    }
    return NewQuestion(prepared.question, source, label, prepared.bundle_hash, facts, stamp)


def _record_of(item: Waiting, reply: Reply, model: str) -> Mapping[str, Any]:
    question = first_round(item.question)
    prepared = Prepared(question, item.facts["token_length"], item.facts["encode_s"])
    return replace(outcome_of(prepared, reply, model), window=item.facts.get("window")).to_json()


def _agent(settings: DeviceSettings, bundle: Bundle, uplink: Uplink, tracing: Tracing) -> Agent:
    return Agent(
        settings,
        Transmitter(bundle, settings.threads, provider=settings.provider),
        uplink,
        rng=np.random.default_rng(settings.seed),
        trace=read_trace(settings.trace) if settings.trace is not None else None,
        tracing=tracing,
    )


@contextmanager
def _tracing(settings: DeviceSettings) -> Iterator[Tracing]:
    if not settings.tracing_endpoint:
        yield NotTraced()
        return
    facts = {"service.instance.id": settings.device_id}
    with exporting_tracer(settings.tracing_endpoint, "device-agent", **facts) as tracer:
        yield Traced(tracer)
