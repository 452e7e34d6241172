"""Where notices go: brokers of MQTT, with what Home Assistant needs to find them by itself, and webhooks.

    tokenlink/rules/RULE/DEVICE/state    on or off; retained
    tokenlink/rules/RULE/DEVICE/event    the notice, JSON
    homeassistant/binary_sensor/ID/config  retained, before the first state

Everything is published with QoS 1 and counts as delivered when the broker has said so; a webhook, when it
answered 2xx. A broker that begins anew may have forgotten all: whenever one is connected to, it is told how
things are. Sources: MQTT 5 (OASIS), section 4.3.2; Home Assistant, "MQTT Discovery".
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import re
import ssl
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from edge_server.scenes.rule_file import Notice
from edge_server.scenes.rules import Rule

if TYPE_CHECKING:
    import aiomqtt

PREFIX, DISCOVERY = "tokenlink/rules", "homeassistant"
WITHIN_S = 10.0
"""For one delivery [s]."""
_PORTS = {"mqtt": 1883, "mqtts": 8883}


class DeliveryError(Exception):
    """A notice did not arrive; says why, and nothing of who may send it."""


class Courier:
    """Delivers notices; a broker's connection stays open between two.

    Args:
        shown: how things are that a broker is told of, by its address: what was noticed last of each rule and
            device, and the rule; not of those of which a notice waits.
    """

    def __init__(self, shown: Callable[[str], Awaitable[Sequence[tuple[Notice, Rule]]]]) -> None:
        self._shown = shown
        self._brokers: dict[str, aiomqtt.Client] = {}
        self._watched: dict[str, asyncio.Task[None]] = {}
        self._discovered: set[tuple[str, str]] = set()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def deliver(self, notice: Notice, rule: Rule) -> None:
        """Bring a notice where it is to go.

        Raises:
            DeliveryError: it did not arrive, or nobody said that it did.
        """
        try:
            if notice.url.startswith("mqtt"):
                await self.keep(notice.url)
            async with asyncio.timeout(WITHIN_S):
                if notice.url.startswith("mqtt"):
                    await self._publish(notice, rule)
                else:
                    await asyncio.to_thread(_post, notice)
        except TimeoutError as error:
            await self._hang_up(notice.url)
            raise DeliveryError(f"no word within {WITHIN_S:g} s") from error

    async def keep(self, url: str) -> None:
        """Be connected to a broker; one that was not is told how things are.

        Raises:
            DeliveryError: it cannot be.
        """
        try:
            # Once, and long: on another thread, for the event loop is everybody's.
            if "aiomqtt" not in sys.modules:
                await asyncio.to_thread(importlib.import_module, "aiomqtt")
            import aiomqtt
        except ImportError as error:
            raise DeliveryError("aiomqtt is not installed; pip install '.[scenes]'") from error
        async with self._turns[url]:
            if url in self._brokers:
                return
            try:
                broker = _client(url)
                await broker.__aenter__()
                self._brokers[url] = broker
                self._watched[url] = asyncio.create_task(self._watch(url, broker), name="tokenlink-broker")
                for notice, rule in await self._shown(url):
                    await self._tell(broker, notice, rule)
            except (aiomqtt.MqttError, OSError, ValueError) as error:
                await self._hang_up(url)
                # Not its words: they may hold the address with its password.
                raise DeliveryError(type(error).__name__) from error

    async def close(self) -> None:
        """Leave every broker."""
        for url in list(self._brokers):
            await self._hang_up(url)

    async def _publish(self, notice: Notice, rule: Rule) -> None:
        import aiomqtt

        broker = self._brokers.get(notice.url)
        if broker is None:
            raise DeliveryError("the connection ended")
        try:
            await broker.publish(f"{topic_of(notice)}/event", json.dumps(notice.body), qos=1)
            await self._tell(broker, notice, rule)
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            await self._hang_up(notice.url)
            raise DeliveryError(type(error).__name__) from error

    async def _tell(self, broker: aiomqtt.Client, notice: Notice, rule: Rule) -> None:
        """How things are, for whoever looks at any time."""
        topic = topic_of(notice)
        key = (notice.url, topic)
        if key not in self._discovered:
            name, config = discovery_of(notice, rule)
            await broker.publish(name, json.dumps(config), qos=1, retain=True)
            self._discovered.add(key)
        await broker.publish(f"{topic}/state", "on" if notice.is_on else "off", qos=1, retain=True)

    async def _watch(self, url: str, broker: aiomqtt.Client) -> None:
        """Notice when a connection ends, though nothing is to be told."""
        import aiomqtt

        with contextlib.suppress(aiomqtt.MqttError):
            async for _ in broker.messages:
                pass  # none was asked for
        if self._brokers.get(url) is broker:
            await self._hang_up(url)

    async def _hang_up(self, url: str) -> None:
        broker = self._brokers.pop(url, None)
        watched = self._watched.pop(url, None)
        if watched is not None and watched is not asyncio.current_task():
            watched.cancel()
            await asyncio.wait([watched])
        self._discovered = {key for key in self._discovered if key[0] != url}
        if broker is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1.0):
                    await broker.__aexit__(None, None, None)


def topic_of(notice: Notice) -> str:
    """Where a rule's word on a device stands; what MQTT gives a meaning becomes ``_``."""
    return f"{PREFIX}/{notice.rule_id}/{slug(notice.device)}"


def slug(device: str) -> str:
    """A device's name as a level of a topic."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", device)


def discovery_of(notice: Notice, rule: Rule) -> tuple[str, dict[str, Any]]:
    """Topic and body of what tells Home Assistant of a rule on a device."""
    topic = topic_of(notice)
    unique = re.sub(r"[^A-Za-z0-9_-]", "_", f"tokenlink_{rule.rule_id}_{notice.device}")
    return f"{DISCOVERY}/binary_sensor/{unique}/config", {
        "name": rule.question,
        "unique_id": unique,
        "state_topic": f"{topic}/state",
        "payload_on": "on",
        "payload_off": "off",
        "json_attributes_topic": f"{topic}/event",
        "device": {
            "identifiers": [f"tokenlink_{slug(notice.device)}"],
            "name": notice.device,
            "manufacturer": "TokenLink",
        },
    }


def _client(url: str) -> aiomqtt.Client:
    import aiomqtt

    parts = urlsplit(url)
    return aiomqtt.Client(
        parts.hostname or "",
        parts.port or _PORTS[parts.scheme],
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        tls_context=ssl.create_default_context() if parts.scheme == "mqtts" else None,
        timeout=WITHIN_S,
    )


def _post(notice: Notice) -> None:
    request = urllib.request.Request(  # noqa: S310 - the rule was checked: http or https
        notice.url,
        json.dumps(notice.body).encode(),
        {"Content-Type": "application/json", "Idempotency-Key": str(notice.number)},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=WITHIN_S) as response:  # noqa: S310
            if not 200 <= response.status < 300:
                raise DeliveryError(f"HTTP {response.status}")
    except urllib.error.HTTPError as error:
        raise DeliveryError(f"HTTP {error.code}") from error
    except (OSError, ValueError) as error:
        raise DeliveryError(type(error).__name__) from error
