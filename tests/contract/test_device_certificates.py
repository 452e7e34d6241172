"""Who is let in at the gRPC doors: real TLS on real ports, and the attacks that must not pass."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from device_agent.config import DeviceSettings
from device_agent.enrol import enrol
from device_agent.errors import (
    ConfigurationError,
    PermissionDeniedError,
    ServerUnreachableError,
    UnauthenticatedError,
)
from device_agent.lasting import LastingClock
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.credentials import Credentials
from device_agent.uplink.uplink import Uplink
from edge_server.access import devices
from edge_server.access.authority import read_certificate
from edge_server.access.enrolment import make_token
from edge_server.errors import ConfigurationError as ServerConfigurationError
from edge_server.frontdoor.backend import Served
from edge_server.server import revocation
from edge_server.server.app import Server
from edge_server.server.config import ServerConfig
from protos.enrolment import EnrolToken
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.authority import Device, Pki, make_pki
from tests.contract.conftest import Running
from tests.questions import about_video
from tests.waiting import PATIENCE_S, until
from tests.weightless import BUNDLE_HASH

YEAR_S = 365.25 * 86_400


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "certs")


@pytest.fixture
def settings(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    # What counts from the next frame on is looked at before what is ended without one.
    monkeypatch.setattr(revocation, "LOOK_S", 3600.0)
    return pki.settings(enrol=True) | {"receive_s": 1.0}


def uplink_of(running: Running, credentials: Credentials, device_id: str = "") -> Uplink:
    return Uplink(
        running.addresses.grpc,
        BUNDLE_HASH,
        device_id=device_id or credentials.device_id or "nobody",
        backoff=Backoff(retries=0),
        credentials=credentials,
    )


async def is_answered(running: Running, device: Device, request_id: str = "q") -> bool:
    async with uplink_of(running, device.credentials()) as uplink:
        return (await uplink.ask(about_video(request_id))).answer.text == "2+video:4"


def rejections(running: Running, reason: str) -> float:
    return sum(
        sample.value
        for family in running.server.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "tokenlink_rejections_total" and sample.labels["reason"] == reason
    )


@contextlib.asynccontextmanager
async def stub_of(running: Running, device: Device) -> AsyncIterator[TokenLinkStub]:
    async with grpc.aio.secure_channel(
        running.addresses.grpc, device.credentials().channel_credentials()
    ) as channel:
        yield TokenLinkStub(channel)  # type: ignore[no-untyped-call]


async def session_of(stub: TokenLinkStub, name: str) -> str:
    opened = await stub.OpenSession(pb.OpenSessionRequest(device_id=name, bundle_hash=BUNDLE_HASH))
    session_id: str = opened.session_id
    return session_id


def frame(session_id: str, request_id: str) -> pb.UplinkFrame:
    return pb.UplinkFrame(session_id=session_id, bundle_hash=BUNDLE_HASH, question=about_video(request_id))


async def test_an_enrolled_device_is_answered(running: Running, pki: Pki) -> None:
    assert await is_answered(running, pki.device("camera"))


async def test_several_agents_may_run_on_one_device(running: Running, pki: Pki) -> None:
    credentials = pki.device("camera").credentials()
    async with (
        uplink_of(running, credentials, "camera/ask") as ask,
        uplink_of(running, credentials, "camera/watch") as watch,
    ):
        await asyncio.gather(ask.open(), watch.open())
        assert running.server.cell.sessions == 2


async def refused_by_tls(running: Running, credentials: Credentials) -> None:
    before = rejections(running, "tls_handshake")
    async with uplink_of(running, credentials) as uplink:
        with pytest.raises(ServerUnreachableError):
            await uplink.open()
    # gRPC does not say which handshake failed: counted is each that led to no call.
    await running.until(lambda: rejections(running, "tls_handshake") > before)
    assert running.server.cell.sessions == 0


async def test_a_device_without_a_certificate_is_refused_and_counted(
    running: Running, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await refused_by_tls(running, Credentials(pki.root))
    assert "handshakes led to no call" in caplog.text


async def test_a_certificate_of_another_authority_is_refused(
    running: Running, pki: Pki, tmp_path: Path
) -> None:
    foreign = make_pki(tmp_path / "foreign").device("camera")
    stolen_name = Device("camera", foreign.key, foreign.signed, pki.root)
    await refused_by_tls(running, stolen_name.credentials())


async def test_an_expired_certificate_is_refused(running: Running, pki: Pki) -> None:
    old = pki.device("camera", days=1.0, issued_s=time.time() - 3 * 86_400)
    await refused_by_tls(running, old.credentials())


async def test_a_key_that_is_not_the_certificates_is_refused(
    running: Running, pki: Pki, tmp_path: Path
) -> None:
    camera, other = pki.device("camera"), pki.device("other")
    # gRPC's own client does not even begin with such a pair; openssl's does not either.
    mixed = Credentials(pki.root, camera.signed.pem.encode(), other.key, "camera")
    async with uplink_of(running, mixed) as uplink:
        with pytest.raises((ServerUnreachableError, ValueError)):
            await uplink.open()
    (tmp_path / "c.pem").write_text(camera.signed.pem)
    (tmp_path / "k.pem").write_bytes(other.key)
    with pytest.raises(ConfigurationError, match="is not the key of"):
        DeviceSettings(
            tls_ca=pki.folder / "ca.pem", tls_cert=tmp_path / "c.pem", tls_key=tmp_path / "k.pem"
        ).credentials()
    assert running.server.cell.sessions == 0


def test_a_certificate_whose_name_is_none_is_refused_by_the_device(pki: Pki, tmp_path: Path) -> None:
    forged = pki.device("camera\nroot")
    (tmp_path / "c.pem").write_text(forged.signed.pem)
    (tmp_path / "k.pem").write_bytes(forged.key)
    settings = DeviceSettings(
        tls_ca=pki.folder / "ca.pem", tls_cert=tmp_path / "c.pem", tls_key=tmp_path / "k.pem"
    )
    with pytest.raises(ConfigurationError, match=r"tls_cert: .* names the device 'camera\\nroot'; 1 to 128"):
        settings.credentials()


async def test_a_server_that_the_device_does_not_know_is_refused_by_the_device(
    running: Running, pki: Pki, tmp_path: Path
) -> None:
    camera = pki.device("camera")
    elsewhere = make_pki(tmp_path / "foreign")
    deceived = Credentials(elsewhere.root, camera.signed.pem.encode(), camera.key, "camera")
    async with uplink_of(running, deceived) as uplink:
        with pytest.raises(ServerUnreachableError, match="not one that this device trusts"):
            await uplink.open()


async def test_a_certificate_that_was_never_noted_is_refused_logged_and_counted(
    running: Running, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    forged = pki.device("camera", noted=False)
    with caplog.at_level(logging.WARNING), pytest.raises(UnauthenticatedError):
        await is_answered(running, forged)
    assert rejections(running, "unknown_certificate") == 1.0
    line = next(record for record in caplog.records if record.message == "not let in")
    assert (line.reason, line.credential) == ("unknown_certificate", forged.signed.serial)  # type: ignore[attr-defined]


async def test_a_device_may_not_go_by_anothers_name(running: Running, pki: Pki) -> None:
    camera = pki.device("camera")
    for name in ("car", "camera2", "Camera", ""):
        async with uplink_of(running, camera.credentials(), name or " ") as uplink:
            with pytest.raises(PermissionDeniedError, match="camera") as refused:
                await uplink.open()
        assert refused.value.exit_code == 10
    assert rejections(running, "device_id") == 4.0


async def test_a_revocation_counts_from_the_next_frame_of_an_open_stream_on(
    running: Running, pki: Pki
) -> None:
    camera, car = pki.device("camera"), pki.device("car")
    async with stub_of(running, camera) as stub:
        session_id = await session_of(stub, "camera")
        call = stub.Converse()
        await call.write(frame(session_id, "before"))
        answered = [part async for part in first_end(call)]
        assert answered[-1].answer.text == "2+video:4"
        devices.revoke(pki.access, "camera", time.time())
        await call.write(frame(session_id, "after"))
        refused = [part async for part in first_end(call)]
        assert refused[-1].failure.code == grpc.StatusCode.UNAUTHENTICATED.value[0]
        assert refused[-1].request_id == "after"
        for again in (stub.Ask(pb.AskRequest(session_id=session_id)), stub.GetBundle(pb.GetBundleRequest())):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                async for _ in again:
                    pass
            assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert rejections(running, "revoked") == 3.0
    assert await is_answered(running, car)


async def first_end(call: grpc.aio.StreamStreamCall) -> AsyncIterator[pb.DownlinkFrame]:
    while True:
        part = await call.read()
        yield part
        if part.WhichOneof("body") != "delta":
            return


async def test_a_session_serves_only_the_device_that_opened_it(running: Running, pki: Pki) -> None:
    camera, thief = pki.device("camera"), pki.device("thief")
    async with stub_of(running, camera) as victim, stub_of(running, thief) as stolen:
        session_id = await session_of(victim, "camera")
        await session_of(stolen, "thief")
        call = stolen.Converse()
        for request_id in ("q1", "q1"):
            # What was overheard, sent over another's connection.
            await call.write(frame(session_id, request_id))
            answer = [part async for part in first_end(call)][-1]
            assert answer.failure.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
            assert answer.failure.field == "session_id"
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stolen.CloseSession(pb.CloseSessionRequest(session_id=session_id))
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert running.model.prefills == []
        own = victim.Converse()
        await own.write(frame(session_id, "q1"))
        assert [part async for part in first_end(own)][-1].answer.text == "2+video:4"
    assert rejections(running, "foreign_session") == 3.0


async def test_a_frame_that_is_replayed_is_answered_from_the_one_run(running: Running, pki: Pki) -> None:
    async with stub_of(running, pki.device("camera")) as stub:
        session_id = await session_of(stub, "camera")
        answers = []
        for _ in range(3):
            call = stub.Converse()
            await call.write(frame(session_id, "q1"))
            answers.append([part async for part in first_end(call)][-1].answer)
            call.cancel()
    assert answers[0] == answers[1] == answers[2]
    assert running.model.prefills == [1]


async def test_a_new_certificate_of_the_server_is_taken_up_without_a_restart(
    running: Running, pki: Pki
) -> None:
    camera = pki.device("camera")
    assert await is_answered(running, camera, "q1")
    ports = [running.addresses.enrol_port or 0, running.addresses.rest_port]
    shown = [await server_certificate(port) for port in ports]
    assert shown[0] == shown[1]
    pki.authority.make_server(pki.folder, ["localhost", "127.0.0.1"], None)
    assert await is_answered(running, camera, "q2")
    for port in ports:
        await until(lambda port=port: shows_another(port, shown[0]))  # type: ignore[misc]


async def test_a_certificate_without_its_key_is_not_shown_and_its_key_mends_it(
    running: Running, pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = running.addresses.rest_port
    shown = await server_certificate(port)
    pki.authority.make_server(tmp_path, ["localhost", "127.0.0.1"], None)
    shutil.copy(tmp_path / "server.pem", pki.folder / "server.pem")
    await until(lambda: "REST's certificate cannot be read again" in caplog.text)
    assert await server_certificate(port) == shown
    shutil.copy(tmp_path / "server.key", pki.folder / "server.key")
    await until(lambda: shows_another(port, shown))


async def shows_another(port: int, before: str) -> bool:
    return await server_certificate(port) != before


async def server_certificate(port: int) -> str:
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=PATIENCE_S)


class TestLimits:
    @pytest.fixture
    def settings(self, pki: Pki) -> dict[str, object]:
        return pki.settings() | {"questions_per_minute": 2, "max_streams": 1}

    async def test_each_device_has_its_own_minute(self, running: Running, pki: Pki) -> None:
        camera, car = pki.device("camera"), pki.device("car")
        async with stub_of(running, camera) as stub:
            session_id = await session_of(stub, "camera")
            call = stub.Converse()
            for number in range(3):
                await call.write(frame(session_id, f"q{number}"))
                end = [part async for part in first_end(call)][-1]
            assert end.failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
            assert 20_000 < end.failure.retry_delay_ms <= 30_000
            second = stub.Converse()
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await second.read()
            assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await is_answered(running, car)
        assert (rejections(running, "question_rate"), rejections(running, "streams")) == (1.0, 1.0)


class TestEnrolment:
    def token(self, pki: Pki, device: str = "camera", valid_s: float = 600.0) -> str:
        authority = read_certificate(pki.folder / "ca.pem")
        return make_token(pki.access, device, authority, LastingClock(), valid_s).text()

    async def test_a_device_enrols_and_is_answered(self, running: Running, pki: Pki, tmp_path: Path) -> None:
        folder = tmp_path / "identity"
        identity = await enrol(running.addresses.enrol or "", self.token(pki), folder)
        assert identity.device_id == "camera"
        assert {path.name for path in folder.iterdir()} == {
            "ca.pem",
            "device.pem",
            "device.key",
            "renewal.json",
        }
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
        credentials = DeviceSettings(identity=folder).credentials()
        assert credentials is not None
        assert credentials.device_id == "camera"
        async with uplink_of(running, credentials) as uplink:
            assert (await uplink.ask(about_video("q"))).answer.text == "2+video:4"

    async def test_a_token_that_is_wrong_used_or_late_is_refused(
        self, running: Running, pki: Pki, tmp_path: Path
    ) -> None:
        door = running.addresses.enrol or ""
        good = self.token(pki)
        parsed = EnrolToken.from_text(good)
        wrong = EnrolToken(parsed.token_id, bytes(32), parsed.authority_der).text()
        late = self.token(pki, "car", valid_s=-1.0)
        for number, token in enumerate((wrong, late)):
            with pytest.raises(UnauthenticatedError):
                await enrol(door, token, tmp_path / str(number))
            assert not (tmp_path / str(number) / "device.pem").exists()
        await enrol(door, good, tmp_path / "good")
        with pytest.raises(UnauthenticatedError):
            await enrol(door, good, tmp_path / "again")
        counted = {reason: rejections(running, reason) for reason in ("wrong_proof", "expired_token")}
        assert counted == {"wrong_proof": 1.0, "expired_token": 1.0}
        assert rejections(running, "used_token") == 1.0

    async def test_the_token_names_the_authority_so_an_impostor_learns_nothing(
        self, running: Running, pki: Pki, tmp_path: Path
    ) -> None:
        elsewhere = make_pki(tmp_path / "foreign")
        token = make_token(
            elsewhere.access, "camera", read_certificate(elsewhere.folder / "ca.pem"), LastingClock(), 600.0
        )
        with pytest.raises(ServerUnreachableError, match="not one that this device trusts"):
            await enrol(running.addresses.enrol or "", token.text(), tmp_path / "identity")

    async def test_the_enrolment_door_gives_nothing_else(self, running: Running, pki: Pki) -> None:
        async with grpc.aio.secure_channel(
            running.addresses.enrol or "", Credentials(pki.root).channel_credentials()
        ) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await TokenLinkStub(channel).OpenSession(pb.OpenSessionRequest())  # type: ignore[no-untyped-call]
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


CLOCK_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) { const char *s = getenv("CLOCK_SHIFT_S"); return s ? atol(s) : 0; }
int clock_gettime(clockid_t id, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, ts);
    if (!failed && id == CLOCK_REALTIME) ts->tv_sec += shift();
    return failed;
}
time_t time(time_t *out) {
    struct timespec ts; clock_gettime(CLOCK_REALTIME, &ts);
    if (out) *out = ts.tv_sec;
    return ts.tv_sec;
}
int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
    struct timespec ts; clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec; tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}
"""

AGENT = """
import asyncio, sys, time
from pathlib import Path
import tests.contract.test_device_certificates as here
print("year", time.gmtime().tm_year, flush=True)
print(asyncio.run(here.enrol_and_ask(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))))
"""


async def enrol_and_ask(door: str, server: str, token: str, folder: Path) -> str:
    """What a device does, in a process of its own."""
    if token != "-":
        await enrol(door, token, folder)
    credentials = DeviceSettings(identity=folder).credentials()
    assert credentials is not None
    assert credentials.device_id is not None
    async with Uplink(
        server,
        BUNDLE_HASH,
        device_id=credentials.device_id,
        credentials=credentials,
        backoff=Backoff(retries=0),
    ) as uplink:
        return (await uplink.ask(about_video("q"))).answer.text


@pytest.fixture(scope="module")
def clock_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that moves a process' clock."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("moving a clock needs a C compiler and Linux")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "shim.c").write_text(CLOCK_SHIM)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c", "-ldl"], check=True
    )
    return folder / "shim.so"


async def run_agent(shim: Path, shift_s: float, *arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        AGENT,
        *arguments,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"LD_PRELOAD": str(shim), "CLOCK_SHIFT_S": str(round(shift_s))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    return process.returncode, output.decode()


@pytest.mark.parametrize("years", [-10.0, 10.0, -40.0])
async def test_a_device_whose_clock_is_years_off_enrols_and_is_answered(
    running: Running, pki: Pki, tmp_path: Path, clock_shim: Path, years: float
) -> None:
    token = TestEnrolment().token(pki)
    code, output = await run_agent(
        clock_shim,
        years * YEAR_S,
        running.addresses.enrol or "",
        running.addresses.grpc,
        token,
        str(tmp_path / "identity"),
    )
    assert code == 0, output
    year, answer = output.split("\n")[:2]
    # The clock really was wrong.
    assert abs(int(year.split()[1]) - time.gmtime().tm_year) >= 9
    assert answer == "2+video:4"


async def test_a_certificate_of_the_server_that_ends_shuts_out_a_device_with_a_late_clock(
    running: Running, pki: Pki, tmp_path: Path, clock_shim: Path
) -> None:
    # Why the server's certificate has no end by default; and that the test above could fail.
    await enrol(running.addresses.enrol or "", TestEnrolment().token(pki), tmp_path / "identity")
    pki.authority.make_server(pki.folder, ["127.0.0.1"], 365.0)
    arguments = (running.addresses.enrol or "", running.addresses.grpc, "-", str(tmp_path / "identity"))
    code, output = await run_agent(clock_shim, 10 * YEAR_S, *arguments)
    assert code != 0
    assert "certificate has expired" in output
    code, output = await run_agent(clock_shim, 0.0, *arguments)
    assert code == 0, output


async def test_a_start_that_fails_leaves_no_door_open(running: Running, pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        enrol_port = free.getsockname()[1]
    config = ServerConfig.model_validate(
        {"rest_port": 0, **pki.settings(enrol=True)}
        | {"grpc_port": running.addresses.grpc_port, "enrol_port": enrol_port}
    )
    backend = running.server.backends.current.served
    served: Served = Served(
        running.model, lambda _: running.model, backend.ingest, backend.shape, backend.token_lengths
    )
    server: Server = Server(config, served)
    with pytest.raises(ServerConfigurationError, match="grpc_port"):
        await server.start()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", enrol_port)
