"""Certificates of devices renew by themselves: years of a server's clock, power cuts, ends, refusals."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from device_agent.config import DeviceSettings
from device_agent.enrol import Renewal, enrol, renew
from device_agent.errors import ConfigurationError, NotAdmittedError, RefusedError, UnauthenticatedError
from device_agent.lasting import LastingClock
from device_agent.renewing import AGAIN_AFTER_S, Renewer
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.credentials import CERTIFICATE, KEY, PENDING_KEY
from device_agent.uplink.uplink import Uplink
from edge_server.access.authority import read_certificate
from edge_server.access.devices import list_certificates, revoke
from edge_server.access.enrolment import make_token
from tests.authority import Pki, make_pki
from tests.clock import FakeClock
from tests.contract.conftest import Running
from tests.questions import about_video
from tests.waiting import until
from tests.weightless import BUNDLE_HASH

DAY_S = 86_400.0
DAYS = 400.0


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "certs")


@pytest.fixture
def clock() -> FakeClock:
    """The server's."""
    return FakeClock(time.time())


@pytest.fixture
def wall_clock(clock: FakeClock) -> Callable[[], float]:
    return clock


@pytest.fixture
def settings(pki: Pki) -> dict[str, object]:
    return pki.settings(enrol=True) | {"certificate_days": DAYS, "renew_expired_days": 20.0}


@pytest.fixture
async def identity(running: Running, pki: Pki, clock: FakeClock, tmp_path: Path) -> Path:
    """The folder of a device that has just enrolled."""
    authority = read_certificate(pki.folder / "ca.pem")
    token = make_token(pki.access, "camera", authority, LastingClock(), 600.0).text()
    folder = tmp_path / "identity"
    await enrol(running.addresses.enrol or "", token, folder)
    return folder


def uplink_of(running: Running, folder: Path, passing: FakeClock | None = None) -> Uplink:
    settings = DeviceSettings(identity=folder)
    return Uplink(
        running.addresses.grpc,
        BUNDLE_HASH,
        device_id="camera",
        backoff=Backoff(retries=0),
        credentials=settings.credentials(),
        renews=Renewer(folder, settings.credentials, clock=passing or FakeClock()),
        clock=passing or FakeClock(),
    )


async def ask(running: Running, folder: Path) -> str:
    """As `device-agent ask`, each time anew."""
    async with uplink_of(running, folder) as uplink:
        return (await uplink.ask(about_video("q"))).answer.text


def serial_of(folder: Path) -> int:
    return x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes()).serial_number


async def test_over_years_a_device_is_always_let_in_and_nobody_has_to_do_anything(
    running: Running, pki: Pki, clock: FakeClock, identity: Path
) -> None:
    serials = {serial_of(identity)}
    for _ in range(12):  # ten years
        clock.advance(300 * DAY_S)
        assert await ask(running, identity) == "2+video:4"
        serials.add(serial_of(identity))
    assert len(serials) == 13
    states = [each.state(clock()) for each in list_certificates(pki.access)]
    assert states.count("good") <= 2  # the present one, and for a while the one before
    assert "revoked" not in states


async def test_a_device_that_stays_connected_goes_over_to_the_new_certificate(
    running: Running, clock: FakeClock, identity: Path
) -> None:
    passing = FakeClock()
    async with uplink_of(running, identity, passing) as uplink:
        for month in range(4):
            before = serial_of(identity)
            assert (await uplink.ask(about_video(f"q{month}"))).answer.text == "2+video:4"
            for each in (clock, passing):
                each.advance(300 * DAY_S)
            assert (await uplink.ask(about_video(f"r{month}"))).answer.text == "2+video:4"
            await until(lambda before=before: serial_of(identity) != before)  # type: ignore[misc]


async def test_before_half_of_its_life_nothing_is_renewed(
    running: Running, clock: FakeClock, identity: Path
) -> None:
    before = serial_of(identity)
    clock.advance(DAYS / 2 * DAY_S - 60.0)
    await ask(running, identity)
    assert serial_of(identity) == before
    noted = Renewal.read(identity)
    assert noted is not None
    with pytest.raises(RefusedError, match="certificate: is renewed from"):
        await renew(identity, noted)
    clock.advance(120.0)
    await ask(running, identity)
    assert serial_of(identity) != before


async def test_one_that_has_ended_is_exchanged_as_long_as_policy_says(
    running: Running, clock: FakeClock, identity: Path
) -> None:
    clock.advance((DAYS + 19.0) * DAY_S)
    assert await ask(running, identity) == "2+video:4"
    clock.advance((DAYS + 21.0) * DAY_S)
    with pytest.raises(NotAdmittedError, match="expired"):
        await ask(running, identity)
    noted = Renewal.read(identity)
    assert noted is not None
    with pytest.raises(UnauthenticatedError, match="ended more than 20 days ago"):
        await renew(identity, noted)


async def test_one_that_no_handshake_takes_any_more_is_exchanged_too(
    running: Running, pki: Pki, clock: FakeClock, tmp_path: Path
) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    old = pki.device("camera", days=10.0, issued_s=time.time() - 15 * DAY_S)
    (folder / "ca.pem").write_bytes(pki.root)
    (folder / KEY).write_bytes(old.key)
    (folder / CERTIFICATE).write_text(old.signed.pem)
    Renewal(running.addresses.enrol or "", None, 0.0).write(folder)
    assert await ask(running, folder) == "2+video:4"
    assert serial_of(folder) != int(old.signed.serial, 16)


async def test_an_answer_that_was_lost_is_given_again_to_the_same_key_alone(
    running: Running, clock: FakeClock, identity: Path
) -> None:
    clock.advance(300 * DAY_S)
    noted = Renewal.read(identity)
    assert noted is not None
    kept = {path: path.read_bytes() for path in identity.iterdir()}
    await renew(identity, noted)
    fresh, new_key = (identity / CERTIFICATE).read_bytes(), (identity / KEY).read_bytes()
    for path, data in kept.items():
        path.write_bytes(data)  # the power went before anything was written,
    (identity / PENDING_KEY).write_bytes(new_key)  # but for the key that was asked with
    clock.advance(DAY_S)  # the old certificate has ended meanwhile
    assert await ask(running, identity) == "2+video:4"
    assert (identity / CERTIFICATE).read_bytes() == fresh
    for path, data in kept.items():
        path.write_bytes(data)
    with pytest.raises(UnauthenticatedError, match="was replaced by another"):
        await renew(identity, noted)  # with a key of whoever copied the old one


async def test_a_power_cut_between_certificate_and_key_is_mended(
    running: Running, clock: FakeClock, identity: Path
) -> None:
    old_key = (identity / KEY).read_bytes()
    clock.advance(300 * DAY_S)
    await ask(running, identity)
    (identity / PENDING_KEY).write_bytes((identity / KEY).read_bytes())
    (identity / KEY).write_bytes(old_key)
    assert await ask(running, identity) == "2+video:4"
    assert not (identity / PENDING_KEY).exists()


async def test_a_revoked_device_gets_nothing(
    running: Running, pki: Pki, clock: FakeClock, identity: Path
) -> None:
    clock.advance(300 * DAY_S)
    revoke(pki.access, "camera", clock())
    with pytest.raises(NotAdmittedError, match="revoked"):
        await ask(running, identity)
    noted = Renewal.read(identity)
    assert noted is not None
    with pytest.raises(UnauthenticatedError, match="was revoked"):
        await renew(identity, noted)


async def test_a_copied_certificate_without_its_key_is_worth_nothing(
    running: Running, clock: FakeClock, identity: Path, pki: Pki
) -> None:
    clock.advance(300 * DAY_S)
    noted = Renewal.read(identity)
    assert noted is not None
    (identity / KEY).write_bytes(pki.device("other", noted=False).key)
    with pytest.raises(ConfigurationError, match="is not the key of"):
        await renew(identity, noted)


async def test_a_door_that_cannot_be_reached_is_tried_once_an_hour(
    running: Running, clock: FakeClock, identity: Path
) -> None:
    Renewal("127.0.0.1:1", None, 0.0).write(identity)
    passing = FakeClock()
    settings = DeviceSettings(identity=identity)
    renewer = Renewer(identity, settings.credentials, clock=passing)
    assert renewer.is_due(clock())
    assert await renewer.renew() is None
    assert not renewer.is_due(clock())
    passing.advance(AGAIN_AFTER_S)
    assert renewer.is_due(clock())
