"""A TCP link between agents and server that misbehaves on demand.

    agent ══▶ Proxy ══▶ server     each way: read ─▶ wait (latency) ─▶ write (bandwidth, slices)

What a real network does to TCP, TCP hides from gRPC, except for its effects: bytes come late, slowly, in
other pieces, not at all, or the connection is reset. These are what the proxy makes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import Literal, TypeAlias

_CHUNK_BYTES = 16_384

End: TypeAlias = Literal["device", "server"]


@dataclass
class Impairment:
    """How a link misbehaves; may be changed while it is in use.

    Attributes:
        latency_s: one way [s].
        bandwidth_bps: each way; None: unbounded [bit/s].
        slice_bytes: written at most at once; None: as read.
        reset_probability: that a chunk resets its connection instead of arriving.
    """

    latency_s: float = 0.0
    bandwidth_bps: float | None = None
    slice_bytes: int | None = None
    reset_probability: float = 0.0


class _Link:
    """One connection, both ways."""

    def __init__(self, writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.writers = writers
        self.dead = False  # bytes vanish; neither end is told

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Listens on a free port; an asynchronous context manager.

    Args:
        host: of the server.
        port: of the server.
        impairment: to begin with.
        rng: decides which chunks reset their connection.

    Attributes:
        impairment: in force.
        accepted: connections so far.
        resets: connections that a chunk reset.
        noticed: of connections that a partition killed: which end gave up, and after how long [s].
    """

    def __init__(
        self,
        host: str,
        port: int,
        impairment: Impairment | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._target = (host, port)
        self._rng = rng or random.Random(0)
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._swallowing = False
        self._server: asyncio.Server | None = None
        self.impairment = impairment or Impairment()
        self.address = ""
        self.accepted = 0
        self.resets = 0
        self.noticed: list[tuple[End, float]] = []
        self._refusing = False
        self._dead_since_s = 0.0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """That are open."""
        return len(self._links)

    def aim(self, host: str, port: int) -> None:
        """New connections go there."""
        self._target = (host, port)

    def cut(self) -> None:
        """Reset every connection."""
        for link in self._links:
            link.abort()
        self._links.clear()

    def refuse(self) -> None:
        """Offline: every connection is reset, and new ones are."""
        self._refusing = True
        self.cut()

    def swallow(self) -> None:
        """A partition: from now on bytes vanish on every connection, new ones too, and nobody is told."""
        self._swallowing = True
        self._dead_since_s = asyncio.get_running_loop().time()
        for link in self._links:
            link.dead = True

    def heal(self) -> None:
        """New connections work again. Those that lost bytes stay dead, as half-open ones do."""
        self._swallowing = self._refusing = False

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        self.accepted += 1
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link((writer, far_writer))
        link.dead = self._swallowing
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._one_way(link, "device", reader, far_writer))
                ways.create_task(self._one_way(link, "server", far_reader, writer))
        finally:
            link.abort()
            self._links.discard(link)

    async def _one_way(
        self, link: _Link, end: End, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

        async def arrive() -> None:
            while True:
                arrives_at, data = await under_way.get()
                await asyncio.sleep(max(0.0, arrives_at - loop.time()))
                if not data:
                    return
                await self._write(link, sink, data)

        with contextlib.suppress(ConnectionError):
            arriving = asyncio.create_task(arrive())
            try:
                while data := await source.read(_CHUNK_BYTES):
                    if link.dead:
                        continue
                    if self._rng.random() < self.impairment.reset_probability:
                        self.resets += 1
                        break
                    await under_way.put((loop.time() + self.impairment.latency_s, data))
                    if arriving.done():
                        break
                else:
                    await under_way.put((loop.time() + self.impairment.latency_s, b""))
                    await arriving
            finally:
                arriving.cancel()
                await asyncio.gather(arriving, return_exceptions=True)
        if link.dead:
            self.noticed.append((end, loop.time() - self._dead_since_s))
        # Half a connection is of no use to gRPC: its end, or its reset, is that of both ways.
        if not link.dead:
            link.abort()

    async def _write(self, link: _Link, sink: asyncio.StreamWriter, data: bytes) -> None:
        most = self.impairment.slice_bytes or len(data)
        if self.impairment.bandwidth_bps is not None:
            most = min(most, max(1, round(self.impairment.bandwidth_bps / 8 / 20)))  # 50 ms of it
        for start in range(0, len(data), most):
            piece = data[start : start + most]
            if self.impairment.bandwidth_bps is not None:
                await asyncio.sleep(len(piece) * 8 / self.impairment.bandwidth_bps)
            if link.dead:
                return
            sink.write(piece)
            await sink.drain()
