"""The doctor against the real server: every fault that can be seeded, found, with the line that mends it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agent.bundle.bundle import Bundle, load_bundle, write_manifest
from device_agent.compose import uplink_for
from device_agent.config import DeviceSettings
from device_agent.doctor.doctor import Equipment, examine
from device_agent.doctor.finding import Finding
from device_agent.errors import UnauthenticatedError
from device_agent.outbox.store import Spool
from device_agent.uplink.backoff import Backoff
from tests.contract.conftest import Running
from tests.waiting import PATIENCE_S
from tests.weightless import WeightlessModel

SHIPPED = Path(__file__).parents[2] / "deploy" / "models" / "soundstage-small" / "bundle"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(SHIPPED)


@pytest.fixture
def model(bundle: Bundle) -> WeightlessModel:
    return WeightlessModel(bundle_hash=bundle.hash)


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TOKENLINK_DEVICE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TOKENLINK_DEVICE_CONFIG", str(tmp_path / "no-settings.toml"))


async def look(
    running: Running,
    equipment: Equipment | None = None,
    wall_clock: Callable[[], float] = time.time,
    **settings: Any,
) -> dict[str, Finding]:
    chosen = DeviceSettings(**({"server": running.addresses.grpc, "bundle": SHIPPED} | settings))
    findings = await examine(
        chosen,
        lambda bundle_hash: uplink_for(chosen, bundle_hash, backoff=Backoff(retries=0)),
        equipment,
        wall_clock=wall_clock,
    )
    assert len({finding.name for finding in findings}) == len(findings)
    assert all(bool(finding.advice) == (finding.state != "ok") for finding in findings)
    return {finding.name: finding for finding in findings}


def faults(found: dict[str, Finding]) -> dict[str, str]:
    """What is not well, and what to do about it."""
    return {name: finding.advice for name, finding in found.items() if finding.state != "ok"}


async def test_a_healthy_device_is_found_healthy(running: Running) -> None:
    assert faults(await look(running)) == {}


async def test_a_bad_certificate(running: Running, tmp_path: Path) -> None:
    certificate, key = tmp_path / "device.pem", tmp_path / "device.key"
    certificate.write_text("no certificate")
    key.write_text("no key")
    found = await look(running, tls_ca=certificate, tls_cert=certificate, tls_key=key)
    assert list(faults(found)) == ["certificate"]
    assert "device-agent enrol" in faults(found)["certificate"]
    assert "server" not in found  # who cannot show a certificate need not knock


async def test_a_device_that_is_not_let_in(running: Running, bundle: Bundle) -> None:
    class Shut:
        async def __aenter__(self) -> Shut:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def open(self) -> None:
            raise UnauthenticatedError("the certificate of camera was revoked")

    chosen = DeviceSettings(server=running.addresses.grpc, bundle=SHIPPED)
    findings = await examine(chosen, lambda bundle_hash: Shut())  # type: ignore[arg-type, return-value]
    found = {finding.name: finding for finding in findings}
    assert found["server"].state == "ok"
    assert list(faults(found)) == ["admission"]
    assert "was revoked" in found["admission"].found


async def test_a_wrong_clock(running: Running) -> None:
    found = await look(running, wall_clock=lambda: time.time() - 10 * 365 * 86_400)
    assert found["clock"].state == "failure"
    assert "timedatectl set-ntp true" in faults(found)["clock"]
    assert list(faults(found)) == ["clock"]


async def test_an_outbox_that_cannot_be_used(running: Running, tmp_path: Path) -> None:
    found = await look(running, outbox=tmp_path / "none.db")
    assert (found["outbox"].state, (tmp_path / "none.db").exists()) == ("ok", False)
    version = tmp_path / "newer.db"
    Spool(version).close()
    database = sqlite3.connect(version)
    database.execute("PRAGMA user_version = 99")
    database.close()
    for broken in (version, version / "within-a-file.db"):
        found = await look(running, outbox=broken)
        assert "--outbox" in faults(found)["outbox"], broken


async def test_a_name_that_cannot_be_resolved(running: Running) -> None:
    found = await look(running, server="edge.invalid:50051")
    assert list(faults(found)) == ["name"]
    assert "getent hosts edge.invalid" in faults(found)["name"]


async def test_a_closed_port(running: Running) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        port = nobody_listens.getsockname()[1]
        found = await look(running, server=f"localhost:{port}")
    assert list(faults(found)) == ["port"]
    assert found["name"].state == "ok"
    assert f"edge-server serve --host 0.0.0.0 --grpc-port {port}" in faults(found)["port"]


async def test_something_else_listens_there(running: Running) -> None:
    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        found = await look(running, server=f"127.0.0.1:{port}")
    assert list(faults(found)) == ["server"]
    assert found["port"].state == "ok"


async def test_an_address_that_is_none(running: Running) -> None:
    found = await look(running, server="dns:///nowhere")
    assert faults(found)["server"] == "--server HOST:PORT"


async def test_another_bundle_than_the_servers(running: Running, bundle: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in bundle.folder.iterdir():
        (other / file.name).symlink_to(file)
    (other / "manifest.json").unlink()
    fields = json.loads((bundle.folder / "manifest.json").read_text()) | {"name": "other"}
    write_manifest(other, fields)
    found = await look(running, bundle=other)
    assert list(faults(found)) == ["bundle match"]
    assert f"device-agent pull --server {running.addresses.grpc}" in faults(found)["bundle match"]


async def test_no_bundle_at_all(running: Running, tmp_path: Path) -> None:
    found = await look(running, bundle=tmp_path / "none")
    assert list(faults(found)) == ["bundle"]
    assert found["server"].state == "ok"


async def test_a_missing_onnx_provider(running: Running) -> None:
    found = await look(running, provider="CUDAExecutionProvider")
    assert list(faults(found)) == ["ONNX provider"]
    assert "pip install onnxruntime-gpu" in faults(found)["ONNX provider"]
    assert "--provider CPUExecutionProvider" in faults(found)["ONNX provider"]


class TestFullDisk:
    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        """A disk of one MiB, which is full."""
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
        try:
            (folder / "outbox").mkdir()
            with pytest.raises(OSError, match="No space left"):
                (folder / "outbox" / "questions").write_bytes(bytes(2**21))
            yield folder / "outbox"
        finally:
            subprocess.run(["umount", str(folder)], check=True)

    async def test_a_full_outbox_disk(self, running: Running, small_disk: Path) -> None:
        found = await look(running, Equipment(least_free_bytes=4096), outbox=small_disk / "outbox.db")
        assert list(faults(found)) == ["disk"]
        assert f"du -xh {small_disk}" in faults(found)["disk"]

    async def test_a_disk_with_less_room_than_wanted(self, running: Running, tmp_path: Path) -> None:
        found = await look(running, Equipment(least_free_bytes=2**60), outbox=tmp_path / "not" / "yet.db")
        assert list(faults(found)) == ["disk"]


async def test_a_missing_camera_and_a_missing_microphone(running: Running) -> None:
    found = await look(running, Equipment(camera="/dev/video97", microphone="no-such-microphone"))
    assert list(faults(found)) == ["camera", "microphone"]
    assert "ls /dev/video*" in faults(found)["camera"]
    assert "/dev/video97" in found["camera"].found
    assert "arecord -L" in faults(found)["microphone"]


class TestVersionSkew:
    @pytest.fixture(autouse=True)
    def another_release(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edge_server.server.app.version", lambda package: "97.1.0")

    async def test_another_release_on_the_server(self, running: Running) -> None:
        found = await look(running)
        assert list(faults(found)) == ["server version"]
        assert found["server version"].state == "warning"
        assert "release 97.1.0, pip install '.[device]'" in faults(found)["server version"]


class TestUnusableSnr:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"outage_snr_db": -3.0}

    async def test_below_what_the_model_learnt(self, running: Running) -> None:
        assert faults(await look(running, snr_db=-3.0)) == {}
        assert faults(await look(running, snr_db=-9.0, channel="none")) == {}
        found = await look(running, snr_db=-3.5)
        assert list(faults(found)) == ["SNR"]
        assert found["SNR"].state == "failure"
        assert "--snr-db -3" in faults(found)["SNR"]

    async def test_a_trace_that_dips_and_one_that_drowns(self, running: Running, tmp_path: Path) -> None:
        trace = tmp_path / "trace.csv"
        trace.write_text("time_s,snr_db\n0,10\n1,-9\n")
        found = await look(running, trace=trace)
        assert (list(faults(found)), found["SNR"].state) == (["SNR"], "warning")
        trace.write_text("time_s,snr_db\n0,-8\n1,-9\n")
        assert (await look(running, trace=trace))["SNR"].state == "failure"

    async def test_a_trace_that_cannot_be_read(self, running: Running, tmp_path: Path) -> None:
        found = await look(running, trace=tmp_path / "none.csv")
        assert list(faults(found)) == ["trace", "SNR"]


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--snr-db", "-20"), 1)], ids=["healthy", "ill"])
async def test_the_command_says_it_in_json_and_by_its_exit_code(
    running: Running, flags: tuple[str, ...], code: int
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "device_agent.cli.main", "doctor", "--json", *flags),
        *("--server", running.addresses.grpc, "--bundle", str(SHIPPED)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert (process.returncode, errors) == (code, b"")
    states = {finding["name"]: finding["state"] for finding in json.loads(out)}
    assert ("failure" in states.values()) == (code == 1)
    assert set(json.loads(out)[0]) == {"name", "state", "found", "advice", "where"}


def test_the_transmitters_refuse_a_provider_that_is_not_here(bundle: Bundle) -> None:
    from device_agent.errors import ConfigurationError
    from device_agent.transmitter import Transmitter

    transmitter = Transmitter(bundle, provider="CUDAExecutionProvider")
    with pytest.raises(ConfigurationError, match=r"provider \(--provider\) is CUDAExecutionProvider"):
        transmitter.encode_audio(np.zeros(16_000, np.float32), 1)
