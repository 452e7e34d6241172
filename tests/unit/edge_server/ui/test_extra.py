"""A server without the page carries nothing of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edge_server.errors import ConfigurationError
from edge_server.ui.extra import page_is_served

WITHOUT = """
import asyncio, sys
sys.modules["nicegui"] = None
import httpx
from edge_server.server.app import Server
from edge_server.server.config import ServerConfig
from edge_server.ui.extra import page_is_served
from tests.contract.serve_weightless import served

config = ServerConfig(ui="{setting}", grpc_port=0, rest_port=0)

async def main():
    server = Server(config, served(), with_page=page_is_served(config.page.ui))
    addresses = await server.start()
    async with httpx.AsyncClient(base_url=addresses.rest) as http:
        root = await http.get("/")
        assert root.status_code == 200, root.text
        assert root.headers["content-type"].startswith("text/plain"), root.headers
        assert "pip install '.[ui]'" in root.text, root.text
        missing = await http.get("/nothing-here")
        assert missing.status_code == 404 and "error" in missing.json()
    await server.stop()

asyncio.run(main())
heavy = [name for name in sys.modules if name.startswith(("nicegui.", "socketio", "engineio", "PIL"))]
assert not heavy, heavy
pages = {name for name in sys.modules if name.startswith("edge_server.ui")}
assert pages == {"edge_server.ui", "edge_server.ui.extra", "edge_server.ui.gate"}, pages
"""


@pytest.mark.parametrize("setting", ["auto", "off"])
def test_a_server_without_the_extra_imports_nothing_of_it_and_says_so(setting: str) -> None:
    code = WITHOUT.replace("{setting}", setting)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_asking_for_a_page_that_is_not_installed_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert page_is_served("on")
    assert page_is_served("auto")
    assert not page_is_served("off")
    monkeypatch.setitem(sys.modules, "nicegui", None)
    assert not page_is_served("auto")
    with pytest.raises(ConfigurationError, match=r"ui is 'on'.*pip install '\.\[ui\]'"):
        page_is_served("on")
