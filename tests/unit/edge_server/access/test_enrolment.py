from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.lasting import LastingClock
from edge_server.access.authority import NO_END, Authority, make_authority, read_certificate
from edge_server.access.credential_store import CredentialStore
from edge_server.access.devices import list_certificates
from edge_server.access.enrolment import MAX_FAILURES, NONCE_VALID_S, Enrolled, Enrolment, make_token
from edge_server.access.renewal import Policy
from edge_server.cell import Peer
from edge_server.errors import ConfigurationError, InvalidQuestionError, UnauthenticatedError
from protos.enrolment import EnrolToken, make_proof
from tests.authority import Pki, make_pki
from tests.clock import FakeClock

NOW_S = 1.8e9


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def wall_clock() -> FakeClock:
    return FakeClock(NOW_S)


@pytest.fixture
def enrolment(pki: Pki, clock: FakeClock, wall_clock: FakeClock) -> Enrolment:
    return Enrolment(
        pki.access,
        pki.authority,
        policy=Policy(days=100, expired_days=30),
        clock=clock,
        wall_clock=wall_clock,
        lasting_clock=lambda: lasting(clock, wall_clock),
    )


def lasting(clock: FakeClock, wall_clock: FakeClock, boot: str = "this") -> LastingClock:
    return LastingClock(boot_clock=clock, wall_clock=wall_clock, boot_id=boot)


def token_for(
    pki: Pki, device: str = "camera", valid_s: float = 3600.0, clock: LastingClock | None = None
) -> EnrolToken:
    clock = clock or lasting(FakeClock(), FakeClock(NOW_S))
    return make_token(pki.access, device, read_certificate(pki.folder / "ca.pem"), clock, valid_s)


def request_for(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def ask(enrolment: Enrolment, token: EnrolToken, request: bytes, nonce: bytes | None = None) -> Enrolled:
    nonce = nonce or enrolment.challenge()
    return enrolment.enrol(nonce, token.token_id, make_proof(token, nonce, request), request)


def refusal(enrolment: Enrolment, token: EnrolToken, request: bytes) -> str:
    with pytest.raises(UnauthenticatedError) as refused:
        ask(enrolment, token, request)
    assert "enrol-token" in str(refused.value)
    return refused.value.reason


def test_a_token_gives_a_certificate_for_the_key_that_asked(
    pki: Pki, enrolment: Enrolment, wall_clock: FakeClock
) -> None:
    device_key = key()
    given = ask(enrolment, token_for(pki), request_for(device_key))
    certificate = x509.load_pem_x509_certificate(given.certificate_pem.encode())
    assert certificate.public_key() == device_key.public_key()
    certificate.verify_directly_issued_by(read_certificate(pki.folder / "ca.pem"))
    assert (given.device_id, given.authority_pem) == ("camera", pki.authority.pem)
    door = CredentialStore(pki.access, wall_clock=wall_clock)
    door.check(Peer("camera", f"{certificate.serial_number:x}"))
    wall_clock.advance(101 * 86_400)
    with pytest.raises(UnauthenticatedError, match="expired"):
        door.check(Peer("camera", f"{certificate.serial_number:x}"))


def test_a_token_is_good_once_but_the_same_key_may_ask_again(pki: Pki, enrolment: Enrolment) -> None:
    token, request = token_for(pki), request_for(key())
    first = ask(enrolment, token, request)
    assert ask(enrolment, token, request) == first
    assert refusal(enrolment, token, request_for(key())) == "used_token"
    assert len(list_certificates(pki.access)) == 1


def test_wrong_proofs_are_counted_and_kill_the_token(pki: Pki, enrolment: Enrolment) -> None:
    token = token_for(pki)
    wrong = EnrolToken(token.token_id, bytes(32), token.authority_der)
    for _ in range(MAX_FAILURES):
        assert refusal(enrolment, wrong, request_for(key())) == "wrong_proof"
    assert refusal(enrolment, token, request_for(key())) == "dead_token"


def test_unknown_and_expired_tokens_are_refused_alike(
    pki: Pki, enrolment: Enrolment, clock: FakeClock
) -> None:
    unknown = EnrolToken("ab" * 8, bytes(32), b"")
    assert refusal(enrolment, unknown, request_for(key())) == "unknown_token"
    token = token_for(pki, valid_s=60.0)
    clock.advance(61.0)
    assert refusal(enrolment, token, request_for(key())) == "expired_token"


@pytest.mark.parametrize("jump_s", [-NOW_S, -86_400.0, 30 * 86_400.0])
def test_setting_the_clock_makes_no_token_longer_or_shorter(
    pki: Pki, enrolment: Enrolment, clock: FakeClock, wall_clock: FakeClock, jump_s: float
) -> None:
    early, late = (token_for(pki, name, 60.0, lasting(clock, wall_clock)) for name in ("early", "late"))
    wall_clock.advance(jump_s)
    clock.advance(59.0)
    # Making another token sweeps up those whose time is over: not these.
    token_for(pki, "another", clock=lasting(clock, wall_clock))
    assert ask(enrolment, early, request_for(key())).device_id == "early"
    clock.advance(2.0)
    assert refusal(enrolment, late, request_for(key())) == "expired_token"


@pytest.mark.parametrize(
    ("off_s", "up_s", "good"),
    [(10.0, 20.0, True), (40.0, 20.0, False), (None, 40.0, True), (None, 61.0, False)],
)
def test_a_token_outlives_a_boot_by_its_time_and_no_more(
    pki: Pki, wall_clock: FakeClock, off_s: float | None, up_s: float, good: bool
) -> None:
    """``off_s`` None: there is no clock battery, and the clock stands at 1970 after the boot."""
    token = token_for(pki, valid_s=60.0, clock=lasting(FakeClock(5000.0), wall_clock, "the boot before"))
    wall_clock.advance(-NOW_S if off_s is None else off_s + up_s)
    enrolment = Enrolment(
        pki.access,
        pki.authority,
        policy=Policy(1, 1),
        wall_clock=wall_clock,
        lasting_clock=lambda: lasting(FakeClock(up_s), wall_clock),
    )
    if good:
        assert ask(enrolment, token, request_for(key())).device_id == "camera"
    else:
        assert refusal(enrolment, token, request_for(key())) == "expired_token"


def test_a_file_of_an_earlier_release_is_completed_and_its_tokens_hold(
    pki: Pki, enrolment: Enrolment, clock: FakeClock, wall_clock: FakeClock
) -> None:
    token = token_for(pki, valid_s=60.0)
    with closing(sqlite3.connect(pki.access)) as database:
        database.execute("ALTER TABLE enrol_tokens DROP COLUMN anchor")
        database.commit()
    assert ask(enrolment, token, request := request_for(key())).device_id == "camera"
    wall_clock.advance(61.0)
    assert refusal(enrolment, token, request) == "expired_token"


def test_a_new_token_voids_the_one_before(pki: Pki, enrolment: Enrolment) -> None:
    first = token_for(pki)
    token_for(pki)
    assert refusal(enrolment, first, request_for(key())) == "unknown_token"


def test_enrolling_again_revokes_the_certificate_before(pki: Pki, enrolment: Enrolment) -> None:
    for _ in range(2):
        ask(enrolment, token_for(pki), request_for(key()))
    assert [each.state(NOW_S) for each in list_certificates(pki.access)].count("good") == 1


def test_a_nonce_is_this_servers_own_and_fresh(pki: Pki, enrolment: Enrolment, clock: FakeClock) -> None:
    token, request = token_for(pki), request_for(key())
    other = Enrolment(pki.access, pki.authority, policy=Policy(1, 1))
    for nonce in (other.challenge(), b"", b"x" * 56, enrolment.challenge()[:-1]):
        with pytest.raises(InvalidQuestionError, match="nonce"):
            ask(enrolment, token, request, nonce or b"y")
    nonce = enrolment.challenge()
    clock.advance(NONCE_VALID_S + 1.0)
    with pytest.raises(InvalidQuestionError, match="too old"):
        ask(enrolment, token, request, nonce)


def test_requests_that_are_none_are_refused_and_the_token_stays_good(pki: Pki, enrolment: Enrolment) -> None:
    token, good = token_for(pki), request_for(key())
    altered = good[:-4] + bytes([good[-4] ^ 1]) + good[-3:]
    rsa_key = rsa.generate_private_key(65_537, 2048)
    for request in (b"", b"hello", altered, bytes(10_000), request_for(rsa_key)):
        with pytest.raises(InvalidQuestionError, match="certificate_request"):
            ask(enrolment, token, request)
    assert ask(enrolment, token, good).device_id == "camera"


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-x", "x" * 65, "a\nb", "ü"])
def test_names_that_would_mislead_get_no_token(pki: Pki, name: str) -> None:
    with pytest.raises(ConfigurationError, match="device_id"):
        token_for(pki, name)


def test_no_secret_is_in_the_access_file_and_nobody_else_can_read_it(pki: Pki) -> None:
    token = token_for(pki)
    written = b"".join(path.read_bytes() for path in pki.folder.glob("access.sqlite*"))
    assert token.token_id.encode() in written
    assert token.secret not in written
    for path in pki.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_an_authority_is_not_overwritten_and_is_known_by_its_own_key(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_authority(tmp_path / name, name)
    with pytest.raises(ConfigurationError, match="not overwritten"):
        make_authority(tmp_path / "a", "a")
    with pytest.raises(ConfigurationError, match="is not the key of"):
        Authority.load(tmp_path / "a" / "ca.pem", tmp_path / "b" / "ca.key")


def test_the_servers_certificate_is_good_at_any_time(pki: Pki) -> None:
    for name in ("ca.pem", "server.pem"):
        certificate = read_certificate(pki.folder / name)
        assert certificate.not_valid_before_utc.timestamp() == 0.0
        assert certificate.not_valid_after_utc == NO_END
