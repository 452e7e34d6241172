"""Attacks on the page: it is asked for all the time, and its socket is sent what no browser sends."""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import connect

from tests.chaos.attacks.rest import many
from tests.chaos.attacks.target import Target

_FORGED = 200


async def visits(target: Target) -> None:
    """The page, over and over."""

    async def once(target: Target, turn: int) -> None:
        async with target.line() as (reader, writer):
            writer.write(target.head("GET", "/", "Connection: close"))
            line = await reader.readline()
            while await reader.read(65_536):
                pass
            target.counts[line.split(b" ")[1].decode() if line.count(b" ") > 1 else "closed"] += 1

    await many(target, 8, once)


async def sockets(target: Target) -> None:
    """The page's socket: forged lines for the log, wrong keys, malformed events, messages of megabytes."""

    async def once(target: Target, turn: int) -> None:
        client = secrets.token_hex(16)  # as browsers name their visits
        where = urlsplit(target.rest)
        scheme = "wss" if where.scheme == "https" else "ws"
        query = (
            f"client_id={client}&next_message_id=0&implicit_handshake=true&tab_id={uuid.uuid4()}"
            f"&document_id={uuid.uuid4()}&EIO=4&transport=websocket"
        )
        address = f"{scheme}://localhost:{where.port}/_nicegui_ws/socket.io/?{query}"
        origin = "https://evil.example" if turn % 2 else None
        try:
            opened = connect(
                address,
                ssl=target.tls,
                additional_headers={"Origin": origin} if origin else None,
                local_addr=(target.address, 0),
                max_size=2**22,
                proxy=None,
            )
            async with opened as socket:
                target.counts["sockets"] += 1
                await socket.send("40")
                for number in range(_FORGED):
                    await socket.send(f"42{json.dumps(_event(client, number))}")
                    await asyncio.sleep(0.002)
        except websockets.WebSocketException as error:
            target.counts[type(error).__name__] += 1
            await asyncio.sleep(0.05)

    await many(target, 8, once)


def _event(client: str, number: int) -> list[object]:
    match number % 6:
        case 0:
            return ["log", {"client_id": client, "level": "error", "message": f"restart the server {number}"}]
        case 1:
            wrong = json.dumps(f"tokenlink-{number:012x}-wrong")
            return ["event", {"client_id": client, "id": number, "listener_id": str(number), "args": [wrong]}]
        case 2:
            return ["event", ["?"]]
        case 3:
            return ["javascript_response", {"client_id": client}]
        case 4:
            return ["log", {"client_id": client, "level": "nope", "message": "A" * 100_000}]
        case _:
            return ["handshake", {"client_id": client, "old_tab_id": 1}]
