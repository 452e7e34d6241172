"""Commands of who may come in: ``edge-server certs``, ``enrol-token``, ``keys``."""

from __future__ import annotations

import ipaddress
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.lasting import LastingClock
from edge_server.access import authority, bundle_signing, cluster_files, devices, enrolment, keys, store

DEFAULT_FOLDER = Path("certs")
ACCESS_FILE = "access.sqlite"

Folder = Annotated[
    Path, typer.Option("--dir", help="Folder of the authority: its certificate, its key, the server's.")
]
AccessFile = Annotated[
    Path | None, typer.Option("--access", help=f"The access file.  [default: {ACCESS_FILE} in --dir]")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]

app = typer.Typer(
    help="A small authority: certificates of the server and of devices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(
    help="API keys for REST.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
token_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def init(
    name: Annotated[
        list[str] | None,
        typer.Option(help="Host name or address under which devices reach the server; may be repeated."),
    ] = None,
    folder: Folder = DEFAULT_FOLDER,
    access: AccessFile = None,
    authority_name: Annotated[str, typer.Option(help="What the authority calls itself.")] = "TokenLink",
    days: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="The server's certificate ends; devices with a wrong clock may then refuse it."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an authority, a certificate for the server, and an empty access file."""
    signer = authority.make_authority(folder, authority_name)
    signer.make_server(folder, _names(name), days)
    access = access or folder / ACCESS_FILE
    store.create(access)
    settings = {
        "tls_cert": str(folder / authority.SERVER_CERTIFICATE),
        "tls_key": str(folder / authority.SERVER_KEY),
        "tls_ca": str(folder / authority.CA_CERTIFICATE),
        "ca_key": str(folder / authority.CA_KEY),
        "access": str(access),
    }
    if as_json:
        typer.echo(json.dumps(settings))
        return
    typer.echo("Made. Settings for the server:\n")
    for setting, value in settings.items():
        typer.echo(f'{setting} = "{value}"')
    typer.echo("enrol_port = 50052")


@app.command()
def server(
    name: Annotated[
        list[str] | None,
        typer.Option(help="Host name or address under which devices reach the server; may be repeated."),
    ] = None,
    folder: Folder = DEFAULT_FOLDER,
    days: Annotated[float | None, typer.Option(min=0.01, help="Until it ends; else it does not.")] = None,
) -> None:
    """Make a new certificate for the server; one that runs takes it up by itself."""
    _authority(folder).make_server(folder, _names(name), days)
    typer.echo(f"{folder / authority.SERVER_CERTIFICATE} and its key are new")


@app.command()
def cluster(
    server_name: Annotated[
        list[str],
        typer.Option("--server", help="Host name or address of a server of the broker; may be repeated."),
    ],
    cell: Annotated[
        list[str],
        typer.Option(help="A cell, whose doors and engines see its own questions; may be repeated."),
    ],
    station: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CELL[=HOST]",
            help="A cell whose base station has a broker of its own, and where; may be repeated.",
        ),
    ] = None,
    folder: Folder = DEFAULT_FOLDER,
    data: Annotated[Path, typer.Option(help="Folder of the broker's data, on each of its machines.")] = Path(
        "/var/lib/nats"
    ),
    days: Annotated[
        float | None, typer.Option(min=0.01, help="Until certificates of nodes end; else they do not.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make what the broker of a cluster needs: authority, certificates, accounts, its servers' settings."""
    made = folder / cluster_files.FOLDER
    stations = {
        each.partition("=")[0]: each.partition("=")[2] or each.partition("=")[0] for each in station or ()
    }
    files = cluster_files.make_cluster(made, server_name, cell, stations=stations, store=data, days=days)
    servers = ",".join(f"tls://{each}:{cluster_files.BrokerPorts().clients}" for each in server_name)
    settings = {
        each: {
            "cluster": servers,
            "nats_ca": str(made / each / authority.CA_CERTIFICATE),
            "nats_cert": str(made / each / "ROLE.pem"),
            "nats_key": str(made / each / "ROLE.key"),
        }
        for each in cell
    }
    if as_json:
        typer.echo(json.dumps({"files": [str(each) for each in files], "settings": settings}))
        return
    typer.echo(f"Made in {made}. On each of the broker's machines, there: nats-server -c nats-NAME.conf")
    for each, told in settings.items():
        typer.echo(f"\nSettings for nodes of {each}; ROLE is door, engine or both:\n")
        for setting, value in told.items():
            typer.echo(f'{setting} = "{value}"')


@app.command()
def issue(
    device: Annotated[str, typer.Argument(help="Name of the device.")],
    out: Annotated[Path, typer.Option(help="Folder for its key and certificates.")],
    folder: Folder = DEFAULT_FOLDER,
    access: AccessFile = None,
    days: Annotated[float, typer.Option(min=0.0001, help="Until it ends, by the server's clock.")] = 3650.0,
    as_json: Json = False,
) -> None:
    """Make key and certificate for a device here; with `enrol-token` the key never leaves the device."""
    authority.check_device_id(device)
    signer = _authority(folder)
    key, now_s = ec.generate_private_key(ec.SECP256R1()), time.time()
    signed = signer.sign_key(key.public_key(), device, datetime.fromtimestamp(now_s, UTC), days)
    with store.transaction(access or folder / ACCESS_FILE) as database:
        devices.record(database, device, signed, now_s)
    # Named as `device-agent enrol` names them.
    authority.write_private(out / "device.key", authority.key_pem(key))
    authority.write_private(out / "device.pem", signed.pem.encode())
    authority.write_private(out / "ca.pem", signer.pem.encode())
    if as_json:
        typer.echo(json.dumps({"device_id": device, "serial": signed.serial, "folder": str(out)}))
    else:
        typer.echo(f"{device} {signed.serial} in {out}")


@app.command()
def revoke(
    device: Annotated[str, typer.Argument(metavar="DEVICE|SERIAL")],
    folder: Folder = DEFAULT_FOLDER,
    access: AccessFile = None,
) -> None:
    """Refuse a device, or one certificate, from its next frame on."""
    count = devices.revoke(access or folder / ACCESS_FILE, device, time.time())
    typer.echo(f"{count} certificate{'' if count == 1 else 's'} revoked")


@app.command("bundle-key")
def bundle_key(
    out: Annotated[
        Path, typer.Option(help="File for the private key; the public one goes beside it.")
    ] = Path("bundle.key"),
    as_json: Json = False,
) -> None:
    """Make a key that signs bundles; keep it away from the server. Devices pin its public half."""
    public = bundle_signing.make_key(out)
    if as_json:
        typer.echo(json.dumps({"key": str(out), "public": public.text}))
        return
    typer.echo(
        f"{out} is the private key: keep it offline. Public, also in {out}{bundle_signing.PUBLIC_SUFFIX}:"
    )
    typer.echo(public.text)


@app.command("sign-bundle")
def sign_bundle(
    bundle: Annotated[Path, typer.Argument(help="Folder of a device bundle.", exists=True, file_okay=False)],
    key: Annotated[Path, typer.Option(help="Private key, of `bundle-key`.")],
) -> None:
    """Sign a device bundle; signatures by other keys stay, so that a key can be replaced."""
    bundle_hash, public = bundle_signing.sign(bundle, key)
    typer.echo(f"{bundle}: bundle {bundle_hash} is signed by {public.text}")


@app.command("list")
def list_(folder: Folder = DEFAULT_FOLDER, access: AccessFile = None, as_json: Json = False) -> None:
    """List the certificates of devices."""
    now_s = time.time()
    records = devices.list_certificates(access or folder / ACCESS_FILE)
    if as_json:
        typer.echo(json.dumps([{**asdict(each), "state": each.state(now_s)} for each in records]))
        return
    for each in records:
        end = datetime.fromtimestamp(each.expires_s, UTC).date()
        typer.echo(f"{each.state(now_s):8} {each.device_id:24} until {end}  {each.serial}")


@token_app.command()
def enrol_token(
    device: Annotated[str, typer.Argument(help="Name of the device; becomes its device_id.")],
    folder: Folder = DEFAULT_FOLDER,
    access: AccessFile = None,
    hours: Annotated[float, typer.Option(min=0.01, help="How long it can be used.")] = 24.0,
    as_json: Json = False,
) -> None:
    """Make a one-time token with which a device gets its certificate; it is shown once."""
    token = enrolment.make_token(
        access or folder / ACCESS_FILE,
        device,
        authority.read_certificate(folder / authority.CA_CERTIFICATE),
        LastingClock(),
        hours * 3600.0,
    )
    typer.echo(json.dumps({"device_id": device, "token": token.text()}) if as_json else token.text())


@keys_app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whom it is for.")],
    folder: Folder = DEFAULT_FOLDER,
    access: AccessFile = None,
    as_json: Json = False,
) -> None:
    """Make an API key; it is shown once."""
    path = access or folder / ACCESS_FILE
    store.create(path)
    key = keys.add_key(path, name, time.time())
    typer.echo(json.dumps({"name": name, "key": key}) if as_json else key)


@keys_app.command("list")
def list_keys(folder: Folder = DEFAULT_FOLDER, access: AccessFile = None, as_json: Json = False) -> None:
    """List the API keys, without their secrets."""
    records = keys.list_keys(access or folder / ACCESS_FILE)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in records]))
        return
    for each in records:
        state = "good" if each.revoked_s is None else "revoked"
        made = datetime.fromtimestamp(each.created_s, UTC).date()
        typer.echo(f"{state:8} {each.name:24} made {made}  {each.key_id}")


@keys_app.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(metavar="NAME|ID")],
    folder: Folder = DEFAULT_FOLDER,
    access: AccessFile = None,
) -> None:
    """Refuse an API key from now on."""
    keys.revoke_key(access or folder / ACCESS_FILE, name, time.time())
    typer.echo(f"{name} revoked")


def _authority(folder: Path) -> authority.Authority:
    return authority.Authority.load(folder / authority.CA_CERTIFICATE, folder / authority.CA_KEY)


def _names(names: list[str] | None) -> list[str]:
    # This machine itself always: what checks a server's health usually runs beside it.
    own = ["localhost", str(ipaddress.IPv4Address("127.0.0.1")), str(ipaddress.IPv6Address("::1"))]
    return list(dict.fromkeys([*(names or []), *own]))
