"""Puts an agent together from its settings: the one place where clocks and randomness come from."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import numpy as np

from device_agent.agent import Agent
from device_agent.backoff import Backoff
from device_agent.bundle import Bundle
from device_agent.channel import read_trace
from device_agent.config import DeviceSettings
from device_agent.tracing import NotTraced, Traced, Tracing, exporting_tracer
from device_agent.transmitter import Transmitter
from device_agent.uplink import Uplink


def uplink_for(
    settings: DeviceSettings,
    bundle_hash: str,
    *,
    backoff: Backoff | None = None,
    tracing: Tracing | None = None,
) -> Uplink:
    """An uplink to the server in the settings.

    The device id gets a suffix of its own: to a server, two agents of the same name would be one session.
    """
    return Uplink(
        settings.server,
        bundle_hash,
        device_id=f"{settings.device_id}-{secrets.token_hex(4)}",
        snr_db=settings.snr_db,
        backoff=backoff or Backoff(retries=settings.retries),
        tracing=tracing,
    )


@asynccontextmanager
async def open_agent(settings: DeviceSettings, bundle: Bundle) -> AsyncIterator[Agent]:
    """An agent for a verified bundle; its connection closes with the context.

    Raises:
        ConfigurationError: the trace in the settings cannot be read, or tracing is on and not installed.
    """
    trace = read_trace(settings.trace) if settings.trace is not None else None
    with _tracing(settings) as tracing:
        async with uplink_for(settings, bundle.hash, tracing=tracing) as uplink:
            yield Agent(
                settings,
                Transmitter(bundle, settings.threads, provider=settings.provider),
                uplink,
                rng=np.random.default_rng(settings.seed),
                trace=trace,
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
