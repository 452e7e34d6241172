"""A small version of each row of the chaos harness; the harness itself is ``make chaos``."""

from __future__ import annotations

import asyncio
import importlib
import random
from pathlib import Path

import pytest

from device_agent.outbox.records import Entry
from tests.chaos.judge import judge_one
from tests.chaos.proxy import Impairment, Proxy
from tests.chaos.questions import expected
from tests.chaos.row import Row, at_most, exactly
from tests.chaos.rows import ROWS, mtls


@pytest.mark.parametrize(
    "name", ["kills", "offline", "impairments", pytest.param("sharing", marks=pytest.mark.slow)]
)
async def test_what_is_promised_is_kept(name: str, tmp_path: Path) -> None:
    row: Row = await importlib.import_module(ROWS[name]).run("test", tmp_path)
    assert [check for check in row.checks if not check.kept] == []
    assert row.checks


@pytest.mark.slow
async def test_a_crowd_is_answered_with_mutual_tls_and_without(tmp_path: Path) -> None:
    row = await mtls.run("test", tmp_path)
    # How fast is a matter for a machine that does nothing else.
    assert [check.what for check in row.checks if not check.kept and "throughput" not in check.what] == []
    assert all(rate > 0 for rates in row.facts["answered_hz"].values() for rate in rates)


def test_every_row_is_there() -> None:
    for name, module in ROWS.items():
        assert asyncio.iscoroutinefunction(importlib.import_module(module).run), name


def test_a_row_is_kept_when_all_its_promises_are() -> None:
    assert Row("r", "done", [exactly("a", 1, 1), at_most("b", 2.0, 2.0)]).kept
    assert not Row("r", "done", [exactly("a", 1, 1), at_most("b", 2.1, 2.0)]).kept


def entry(
    number: int, outcome: str = "answered", state: str = "delivered", answer: str | None = None
) -> Entry:
    record = {"answer": answer or expected(7, number)} if outcome == "answered" else {"error": "why"}
    return Entry(number + 1, f"a7-{number}", "s", "x", state, outcome, 0.0, 1.0, 1, record)  # type: ignore[arg-type]


def test_the_judge_sees_what_was_lost_twice_wrong_and_out_of_order() -> None:
    good = [entry(number) for number in range(5)]
    shown = [f"a7-{number}" for number in range(5)]
    assert judge_one(7, 5, good, shown) == judge_one(7, 5, reversed(good), shown)
    perfect = judge_one(7, 5, good, shown)
    assert (perfect.asked, perfect.answered) == (5, 5)
    assert sum(vars(perfect).values()) == 10

    def found(entries: list[Entry], shown: list[str]) -> dict[str, int]:
        verdict = vars(judge_one(7, 5, entries, shown))
        return {name: count for name, count in verdict.items() if count and name not in ("asked", "answered")}

    assert found(good[:4], shown[:4]) == {"lost": 1}
    assert found([*good[:4], entry(4, state="ended")], shown[:4]) == {"lost": 1}
    assert found([*good[:4], entry(4, outcome="expired")], shown) == {"dropped": 1}
    assert found([*good[:4], entry(4, answer="another")], shown) == {"wrong": 1}
    assert found(good, [*shown, "a7-4"]) == {"twice": 1}
    assert found(good, [*shown[1:], shown[0]]) == {"unordered": 1}
    assert found(good, shown[:4]) == {"unprinted": 1}


class TestProxy:
    """What the proxy does to a connection, it does."""

    @pytest.fixture
    async def echo_port(self) -> object:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1000):
                writer.write(data)
            writer.close()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]

    async def _round_trip_s(self, proxy: Proxy, size: int = 1000) -> float:
        host, port = proxy.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        started = asyncio.get_running_loop().time()
        sent = random.Random(0).randbytes(size)
        try:
            writer.write(sent)
            assert await asyncio.wait_for(reader.readexactly(size), 10) == sent
            return asyncio.get_running_loop().time() - started
        finally:
            writer.close()

    async def test_bytes_come_late_slowly_and_in_pieces_but_right(self, echo_port: int) -> None:
        async with Proxy("127.0.0.1", echo_port) as proxy:
            assert await self._round_trip_s(proxy) < 0.2
            proxy.impairment = Impairment(latency_s=0.2)
            assert await self._round_trip_s(proxy) >= 0.4
            proxy.impairment = Impairment(bandwidth_bps=32_000)
            assert await self._round_trip_s(proxy, 2000) >= 0.5
            proxy.impairment = Impairment(slice_bytes=3)
            await self._round_trip_s(proxy)

    async def test_connections_are_reset_refused_and_swallowed(self, echo_port: int) -> None:
        async with Proxy("127.0.0.1", echo_port, Impairment(reset_probability=1.0)) as proxy:
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await self._round_trip_s(proxy)
            assert proxy.resets == 1
            proxy.impairment = Impairment()
            proxy.refuse()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await self._round_trip_s(proxy)
            proxy.heal()
            proxy.swallow()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(self._round_trip_s(proxy), 0.3)
            proxy.heal()
            await self._round_trip_s(proxy)
