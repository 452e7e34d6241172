"""``device-agent share`` from a real RTSP server to a real edge, while both, the camera and the link fail."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_agent.outbox.records import Entry
from device_agent.outbox.store import Spool
from edge_server.scenes import Scene, Wanted
from edge_server.scenes.sqlite import SqliteScenes
from edge_server.server.config import ServerConfig
from tests.chaos.proxy import Proxy
from tests.e2e.commands import Command
from tests.e2e.conftest import ROOT
from tests.ports import free_port
from tests.waiting import until, until_true

CLIPS = sorted((ROOT / "deploy" / "demo" / "clips").glob("*.mp4"))
MODEL = ROOT / ServerConfig().runtime.model
LOGIN = "cam:s3cret"
UNDER_WAY = ServerConfig().cell.max_questions_in_flight
GSTREAMER = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
"""What Debian's Python must be able to do."""


def can_serve_rtsp() -> bool:
    if shutil.which("ffmpeg") is None or not Path("/usr/bin/python3").exists():
        return False
    tried = subprocess.run(["/usr/bin/python3", "-W", "ignore", "-c", GSTREAMER], capture_output=True)
    return tried.returncode == 0


needs_rtsp = pytest.mark.skipif(not can_serve_rtsp(), reason="GStreamer's RTSP server is not installed")


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def camera(tmp_path: Path, environment: dict[str, str]) -> Iterator[tuple[Command, str]]:
    port = free_port()
    script = ROOT / "deploy" / "demo" / "cameras.py"
    arguments = ["--port", str(port), "--login", LOGIN, f"left={CLIPS[0]}"]
    plain = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
    with Command([Path("/usr/bin/python3"), script, *arguments], tmp_path, "camera", plain) as command:
        until_true(lambda: "rtsp://" in command.out())
        yield command, f"rtsp://{LOGIN}@127.0.0.1:{port}/left"


@pytest.fixture
def server(tmp_path: Path, environment: dict[str, str]) -> Iterator[tuple[Command, int]]:
    port = free_port()
    ready = tmp_path / "ready.json"
    settings = {
        "TOKENLINK_SERVER_GRPC_PORT": str(port),
        "TOKENLINK_SERVER_REST_PORT": "0",
        "TOKENLINK_SERVER_READY_FILE": str(ready),
        "TOKENLINK_SERVER_SCENES": str(tmp_path / "scenes.db"),
        "TOKENLINK_SERVER_UI": "off",
    }
    with Command(
        ["edge-server", "serve", "--model", MODEL], tmp_path, "server", environment | settings
    ) as command:
        until_true(ready.exists)
        yield command, port


def scenes_of(folder: Path) -> dict[str, list[Scene]]:
    """Of each device, by when they began."""
    store = SqliteScenes(folder / "scenes.db")
    try:
        found: dict[str, list[Scene]] = {}
        for scene in sorted(store.scenes(Wanted(), 10_000), key=lambda each: each.start_s):
            found.setdefault(scene.device, []).append(scene)
        return found
    finally:
        store.close()


def entries_of(path: Path) -> list[Entry]:
    spool = Spool(path)
    try:
        return sorted(spool.entries(delivered=True), key=lambda entry: entry.number)
    finally:
        spool.close()


def waiting(path: Path) -> int:
    spool = Spool(path)
    try:
        return spool.counts()["waiting"]
    finally:
        spool.close()


@pytest.mark.slow
@needs_rtsp
async def test_every_scene_is_kept_once_in_order_whatever_fails(
    tmp_path: Path, environment: dict[str, str], camera: tuple[Command, str], server: tuple[Command, int]
) -> None:
    playing, url = camera
    serving, port = server
    outbox = tmp_path / "outbox.db"

    async with Proxy("127.0.0.1", port) as proxy:
        arguments = [
            *("share", "--json", "--server", proxy.address, "--bundle", MODEL / "bundle"),
            *("--device-id", "porch", "--outbox", outbox, "--every", "1s", "--token-length", "16"),
            *("--source", f"left={url}", "--source", f"hall=loop:{CLIPS[1]}", "--no-pace"),
            *("--budget-bytes-per-hour", "10000000"),
        ]
        with Command(["device-agent", *arguments], tmp_path, "agent", environment) as agent:

            def stored(device: str) -> int:
                records = [json.loads(line) for line in agent.out().splitlines() if line.endswith("}")]
                return sum(record["device"] == device for record in records)

            async def more(device: str, count: int = 2) -> None:
                wanted = stored(device) + count
                await until(lambda: stored(device) >= wanted)

            await more("porch/left")
            # The camera goes, and comes back; the other source goes on, and each is said once.
            playing.kill()
            await until(lambda: "waiting for it" in agent.err())
            await more("porch/hall")
            playing.start()
            await until(lambda: "is back" in agent.err())
            await more("porch/left")
            assert agent.err().count("waiting for it") == 1

            # The link is cut, and the agent is killed with what waits.
            proxy.refuse()
            await until(lambda: waiting(outbox) >= 3)
            agent.kill()
            agent.start()
            await until(lambda: waiting(outbox) >= 4)
            proxy.heal()
            await more("porch/left")

            # The edge is killed while it is sent to.
            serving.kill()
            await until(lambda: waiting(outbox) >= 3)
            (tmp_path / "ready.json").unlink()
            serving.start()
            await more("porch/left")
            await more("porch/hall")

            # No file of the agent can grow any more: as on a full disk.
            log_bytes = outbox.with_name("outbox.db-wal").stat().st_size
            resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (log_bytes, resource.RLIM_INFINITY))
            await until(lambda: "trying again" in agent.err())
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, unlimited)
            await more("porch/left")

            assert agent.terminate() == 0
    found = scenes_of(tmp_path)
    entries = entries_of(outbox)
    assert {entry.outcome for entry in entries if entry.state != "waiting"} == {"answered"}
    for device in ("porch/left", "porch/hall"):
        acknowledged = [
            entry.record["scenes"][0]["scene_id"]
            for entry in entries
            if entry.label == device and entry.outcome == "answered"
        ]
        there = [scene.scene_id for scene in found[device]]
        assert len(acknowledged) >= 8
        # What the edge stored last may wait to be told: as much as may be under way.
        assert there[: len(acknowledged)] == acknowledged
        assert len(there) == len(set(there)) <= len(acknowledged) + UNDER_WAY
    assert [block.modality for block in found["porch/left"][0].blocks] == ["video", "audio"]
    everything = agent.out() + agent.err() + serving.out() + serving.err()
    assert "s3cret" not in everything


def ask(environment: dict[str, str], *arguments: Any) -> dict[str, Any]:
    program = Path(sys.executable).parent / "device-agent"
    command = [program, "ask", *map(str, arguments), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@needs_rtsp
async def test_a_camera_of_the_network_is_asked_about_what_it_saw(
    tmp_path: Path, environment: dict[str, str], camera: tuple[Command, str], server: tuple[Command, int]
) -> None:
    _, url = camera
    _, port = server
    link = ["--server", f"127.0.0.1:{port}", "--bundle", MODEL / "bundle"]
    arguments = ["share", *link, "--device-id", "porch", "--outbox", tmp_path / "outbox.db", "--source", url]
    with Command(["device-agent", *arguments, "--every", "1s"], tmp_path, "agent", environment) as agent:
        await until(lambda: "porch: s" in agent.out())
        assert agent.terminate() == 0
    question = "What kind of instrument is on the right of the stage?"
    found = ask(environment, *link, "--scene", "porch", question)
    assert found["answer"] == "saxophone"
    assert found["cost"]["channel_uses"] == 0
    assert found["scenes"][0]["device"] == "porch"
