"""Answers that nobody reads: counted while they wait, and given up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from edge_server.cell import SharedBound
from edge_server.frontdoor.http.unread import Connections, Unread
from tests.waiting import PATIENCE_S, turns

WITHIN_S = 0.05


class Writing(asyncio.Protocol):
    unread: Unread

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.unread = self.connections.unread(transport, "somebody")

    def pause_writing(self) -> None:
        self.unread.paused()

    def resume_writing(self) -> None:
        self.unread.resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        self.unread.resumed()
        self.lost.set()


class Line:
    def __init__(self, held: SharedBound, within_s: float = WITHIN_S) -> None:
        self.refused: list[str] = []
        places = SharedBound("connections", in_all=1, of_one=1, reason="connections")
        self.connections = Connections(places, held, within_s, self.refused.append)

    async def open(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        _, self.writing = await asyncio.get_running_loop().create_connection(
            lambda: Writing(self.connections), sock=ours
        )


@pytest.fixture
def held() -> SharedBound:
    return SharedBound("bytes", in_all=8 * 2**20, of_one=6 * 2**20, reason="held_bytes")


@pytest.fixture
async def line(held: SharedBound) -> AsyncIterator[Line]:
    line = Line(held)
    await line.open()
    yield line
    line.writing.transport.abort()
    line.theirs.close()


async def test_what_is_not_read_is_counted_and_given_up_in_time(line: Line, held: SharedBound) -> None:
    line.writing.transport.write(b"x" * 4 * 2**20)
    assert held.held_by("somebody") == line.writing.transport.get_write_buffer_size() > 2**20
    await asyncio.wait_for(line.writing.lost.wait(), PATIENCE_S)
    assert line.refused == ["slow_reader"]
    assert held.held == 0


async def test_more_than_a_holder_may_have_is_given_up_at_once(line: Line, held: SharedBound) -> None:
    line.writing.transport.write(b"x" * 7 * 2**20)
    assert line.refused == ["held_bytes"]
    await asyncio.wait_for(line.writing.lost.wait(), PATIENCE_S)
    assert held.held == 0


async def test_who_reads_slowly_but_reads_is_borne_with(held: SharedBound) -> None:
    line = Line(held, within_s=3600.0)
    await line.open()
    line.writing.transport.write(b"x" * 4 * 2**20)
    waiting = line.writing.transport.get_write_buffer_size()
    while line.writing.transport.get_write_buffer_size() == waiting:
        await asyncio.get_running_loop().sock_recv(line.theirs, 200_000)
        await turns()
    line.writing.unread.look()
    assert line.refused == []
    line.writing.unread.look()
    assert line.refused == ["slow_reader"]
    line.theirs.close()


async def test_a_closing_connection_is_not_kept_for_who_does_not_read(line: Line) -> None:
    line.writing.transport.write(b"x" * 2**20)
    line.writing.transport.close()
    line.writing.unread.closing()
    await asyncio.wait_for(line.writing.lost.wait(), PATIENCE_S)
    assert line.refused == ["slow_reader"]
