"""Pages of others, and browsers without a key, at the HTTP door."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from edge_server.access import keys
from edge_server.cell import LimitConfig, Limits
from edge_server.errors import UnauthenticatedError
from edge_server.ui.gate import KeyGate
from edge_server.ui.visits import OF_ALL_AT_ONCE, OF_ONE_AT_ONCE, Visits
from tests.authority import Pki, make_pki
from tests.clock import FakeClock
from tests.contract.conftest import Running
from tests.contract.test_device_certificates import rejections

QUESTION = {"question": "ab"}


@pytest.fixture
def settings() -> dict[str, object]:
    return {"cors_origins": ("https://app.example",)}


async def asked(running: Running, method: str = "POST", path: str = "/v1/infer", **headers: str) -> int:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=10) as http:
        body = {"json": QUESTION} if method == "POST" else {}
        response = await http.request(method, path, headers=headers, **body)  # type: ignore[arg-type]
        return response.status_code


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "[::2]", "["]
)
async def test_a_name_that_is_not_ours_is_not_answered(running: Running, host: str) -> None:
    assert await asked(running, host=host) == 403
    assert await asked(running, "GET", "/v1/models", host=host) == 403
    assert rejections(running, "foreign_host") == 2.0
    # A probe tells nothing that is worth hiding.
    assert await asked(running, "GET", "/livez", host=host) == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8080"])
async def test_this_machines_names_are(running: Running, host: str) -> None:
    assert await asked(running, host=host) == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("null", 403),
        ("http://localhost:3000", 403),
        ("http://localhost", 200),
        ("https://app.example", 200),
    ],
)
async def test_a_page_elsewhere_asks_only_where_it_may(running: Running, origin: str, status: int) -> None:
    assert await asked(running, host="localhost", origin=origin) == status


class TestNamed:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"allowed_hosts": ("Edge.example",)}

    async def test_only_these_names_are_ours(self, running: Running) -> None:
        assert await asked(running, host="edge.example:443") == 200
        assert await asked(running, host="localhost") == 403


class TestKeyGate:
    @pytest.fixture
    def pki(self, tmp_path: Any) -> Pki:
        return make_pki(tmp_path / "certs")

    def test_wrong_keys_are_counted_and_a_revoked_one_shuts(self, pki: Pki) -> None:
        from edge_server.access.credential_store import CredentialStore

        good = keys.add_key(pki.access, "app", 0.0)
        store = CredentialStore(pki.access)
        counted: list[str] = []
        gate = KeyGate(store, Limits(LimitConfig(), FakeClock()), counted.append)
        for wrong in ("", "tokenlink-0-wrong"):
            with pytest.raises(UnauthenticatedError):
                gate.user_of(wrong, "127.0.0.1")
        assert counted == ["unknown_key", "unknown_key"]
        assert gate.user_of(good, "127.0.0.1") == "key:app"
        assert gate.still_good(good)
        keys.revoke_key(pki.access, "app", 1.0)
        assert not gate.still_good(good)
        store.close()


class TestVisits:
    def test_pages_are_made_so_often_for_one_and_for_all(self) -> None:
        clock = FakeClock()
        visits = Visits(clock)
        assert sum(visits.admit("a") for _ in range(100)) == OF_ONE_AT_ONCE
        assert sum(visits.admit(f"{number}") for number in range(100)) == OF_ALL_AT_ONCE - OF_ONE_AT_ONCE
        assert not visits.admit("b")
        clock.advance(1.0)
        assert sum(visits.admit("a") for _ in range(10)) == 2


class TestSocket:
    """What a browser sends is not for the log."""

    async def test_lines_of_a_browser_and_malformed_events_are_not_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        pytest.importorskip("nicegui")
        from nicegui import core

        from edge_server.ui.socket import EVENTS, keep_the_log_ours

        before = dict(core.sio.handlers["/"])
        try:
            keep_the_log_ours()
            keep_the_log_ours()
            handlers = core.sio.handlers["/"]
            forged = {"client_id": "x", "level": "error", "message": "restart the server"}
            with caplog.at_level("INFO"):
                await handlers["log"]("sid", forged)
                for name in EVENTS:
                    for sent in ("?", {}, ["?"], {"client_id": "x"}, 1):
                        assert not await asyncio.wait_for(handlers[name]("sid", sent), 5)
            assert caplog.records == []
        finally:
            core.sio.handlers["/"].update(before)
