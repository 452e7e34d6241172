"""Puts an agent together from its settings: the one place where clocks and randomness come from."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from device_agent.agent import Agent
from device_agent.backoff import Backoff
from device_agent.bundle import Bundle
from device_agent.channel import read_trace
from device_agent.config import DeviceSettings
from device_agent.transmitter import Transmitter
from device_agent.uplink import Uplink


def uplink_for(settings: DeviceSettings, bundle_hash: str, *, backoff: Backoff | None = None) -> Uplink:
    """An uplink to the server in the settings.

    The device id gets a suffix of its own: to a server, two agents of the same name would be one session. A
    device with a certificate goes by the name in it.

    Raises:
        ConfigurationError: a certificate or a key cannot be read.
    """
    credentials = settings.credentials()
    suffix = secrets.token_hex(4)
    certified = credentials.device_id if credentials is not None else None
    return Uplink(
        settings.server,
        bundle_hash,
        device_id=f"{certified}/{suffix}" if certified else f"{settings.device_id}-{suffix}",
        snr_db=settings.snr_db,
        backoff=backoff or Backoff(retries=settings.retries),
        credentials=credentials,
    )


@asynccontextmanager
async def open_agent(settings: DeviceSettings, bundle: Bundle) -> AsyncIterator[Agent]:
    """An agent for a verified bundle; its connection closes with the context.

    Raises:
        ConfigurationError: the trace in the settings cannot be read.
    """
    trace = read_trace(settings.trace) if settings.trace is not None else None
    async with uplink_for(settings, bundle.hash) as uplink:
        yield Agent(
            settings,
            Transmitter(bundle, settings.threads, provider=settings.provider),
            uplink,
            rng=np.random.default_rng(settings.seed),
            trace=trace,
        )
