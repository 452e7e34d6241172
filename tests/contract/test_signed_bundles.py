"""Bundles that are signed offline: made, served, pinned at enrolment, pulled; and everything that is not."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from device_agent.bundle.archive import pack
from device_agent.bundle.bundle import MANIFEST, Bundle, load_bundle, write_manifest
from device_agent.bundle.signature import SIGNATURES, read_keys
from device_agent.config import load_settings
from device_agent.enrol import enrol
from device_agent.errors import BundleError, ConfigurationError
from device_agent.lasting import LastingClock
from device_agent.updating import fetch
from device_agent.uplink.uplink import Uplink
from edge_server.access import cli
from edge_server.access.authority import read_certificate
from edge_server.access.enrolment import make_token
from tests.authority import Pki, make_pki
from tests.contract.conftest import Running
from tests.weightless import BUNDLE_HASH

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "models" / "soundstage-small" / "bundle"

Key = Callable[[str], Path]


def certs(*arguments: str | Path) -> str:
    """Call ``edge-server certs``; what it says."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def key(tmp_path: Path) -> Key:
    """Makes a key that signs."""

    def make(name: str) -> Path:
        path = tmp_path / "offline" / f"{name}.key"
        certs("bundle-key", "--out", path)
        return path

    return make


def public_of(key: Path) -> str:
    return key.with_name(f"{key.name}.pub").read_text(encoding="utf-8").strip()


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "certs")


@pytest.fixture
def pins(tmp_path: Path, key: Key) -> tuple[Path, Path]:
    """The key that signs now, and the one that will: both are pinned by devices that enrol."""
    now, then = key("now"), key("then")
    lines = f"# of the model's maker\n{public_of(now)}\n\n{public_of(then)}\n"
    (tmp_path / "bundle.keys").write_text(lines, encoding="utf-8")
    return now, then


@pytest.fixture
def settings(pki: Pki, pins: tuple[Path, Path], tmp_path: Path) -> dict[str, object]:
    return pki.settings(enrol=True) | {"bundle_keys": tmp_path / "bundle.keys"}


@pytest.fixture
def made(tmp_path: Path) -> Bundle:
    """A bundle that is quick to try."""
    folder = tmp_path / "made"
    shutil.copytree(SHIPPED, folder)
    fields = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    fields["transmitters"]["visual"] |= {"max_side": 32, "max_frames": 2}
    del fields["files"], fields["bundle_hash"]
    return write_manifest(folder, fields)


@pytest.fixture
async def identity(running: Running, pki: Pki, tmp_path: Path) -> Path:
    """The folder of a device that has just enrolled."""
    token = make_token(pki.access, "camera", read_certificate(pki.folder / "ca.pem"), LastingClock(), 600.0)
    folder = tmp_path / "identity"
    await enrol(running.addresses.enrol or "", token.text(), folder)
    return folder


async def pull(running: Running, identity: Path, folder: Path, served: Bundle) -> Bundle:
    """Serve a bundle and pull it, as a device with that identity."""
    pack(served.folder, running.server.backends.current.served.bundles[0].path)
    device = load_settings({"identity": identity, "bundle": folder})
    uplink = Uplink(running.addresses.grpc, BUNDLE_HASH, device_id="camera", credentials=device.credentials())
    async with uplink:
        return await fetch(uplink, folder, acceptance=device.acceptance())


async def test_a_device_pins_at_enrolment_and_takes_what_is_signed(
    running: Running, identity: Path, pins: tuple[Path, Path], made: Bundle, tmp_path: Path
) -> None:
    assert [each.text for each in read_keys(identity / "bundle.keys")] == [public_of(each) for each in pins]
    certs("sign-bundle", made.folder, "--key", pins[0])
    installed = await pull(running, identity, tmp_path / "installed", made)
    assert installed.hash == made.hash == load_bundle(tmp_path / "installed").hash


async def test_what_is_not_signed_or_not_by_the_right_key_or_altered_is_refused_each_in_its_words(
    running: Running, identity: Path, pins: tuple[Path, Path], made: Bundle, key: Key, tmp_path: Path
) -> None:
    place = tmp_path / "installed"
    with pytest.raises(BundleError, match=r"is not signed; .* one of its 2 pinned keys .*bundle_keys"):
        await pull(running, identity, place, made)
    strange = key("strange")
    certs("sign-bundle", made.folder, "--key", strange)
    with pytest.raises(BundleError, match=r"is signed by ed25519:.*, which this device does not trust"):
        await pull(running, identity, place, made)
    certs("sign-bundle", made.folder, "--key", pins[0])
    kept = (made.folder / SIGNATURES).read_bytes()
    fields = json.loads((made.folder / MANIFEST).read_text(encoding="utf-8"))
    del fields["files"], fields["bundle_hash"]
    altered = write_manifest(made.folder, fields | {"name": "altered"})
    (made.folder / SIGNATURES).write_bytes(kept)
    with pytest.raises(BundleError, match=r"is not one of bundle .*: it was altered"):
        await pull(running, identity, place, altered)
    (made.folder / SIGNATURES).write_text("[]", encoding="utf-8")
    with pytest.raises(BundleError, match=r"signatures.json cannot be read"):
        await pull(running, identity, place, altered)
    assert not place.exists()


async def test_a_key_is_replaced_by_signing_with_both(
    running: Running, identity: Path, pins: tuple[Path, Path], made: Bundle, tmp_path: Path
) -> None:
    for each in pins:
        certs("sign-bundle", made.folder, "--key", each)
    (identity / "bundle.keys").write_text(public_of(pins[0]), encoding="utf-8")  # a device of before
    await pull(running, identity, tmp_path / "a", made)
    (identity / "bundle.keys").write_text(public_of(pins[1]), encoding="utf-8")  # one of after
    await pull(running, identity, tmp_path / "b", made)


async def test_where_nothing_is_pinned_any_bundle_is_taken(
    running: Running, identity: Path, made: Bundle, tmp_path: Path
) -> None:
    (identity / "bundle.keys").unlink()
    assert (await pull(running, identity, tmp_path / "installed", made)).hash == made.hash


def test_a_pin_by_a_setting_has_to_be_readable(tmp_path: Path, key: Key) -> None:
    pinned = tmp_path / "pins"
    settings = load_settings({"identity": tmp_path, "bundle_keys": pinned})
    with pytest.raises(ConfigurationError, match=r"bundle_keys: .*pins cannot be read"):
        settings.acceptance()
    pinned.write_text("# none yet\n")
    with pytest.raises(ConfigurationError, match="holds no key"):
        settings.acceptance()
    pinned.write_text(f"{public_of(key('a'))}\nrubbish\n")
    with pytest.raises(ConfigurationError, match=r"pins:2: 'rubbish' is no public key"):
        settings.acceptance()


def test_a_private_key_is_its_owners_alone_and_is_not_overwritten(key: Key) -> None:
    path = key("a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    result = CliRunner().invoke(cli.app, ["bundle-key", "--out", str(path)])
    assert "is there already" in str(result.exception)


def test_what_is_exported_anew_does_not_keep_an_old_signature(made: Bundle, key: Key) -> None:
    certs("sign-bundle", made.folder, "--key", key("a"))
    fields = json.loads((made.folder / MANIFEST).read_text(encoding="utf-8"))
    del fields["files"], fields["bundle_hash"]
    again = write_manifest(made.folder, fields)
    assert again.hash == made.hash
    assert not (made.folder / SIGNATURES).exists()
