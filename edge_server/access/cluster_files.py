"""What the broker of a cluster needs to know its nodes: certificates, accounts, and its servers' settings.

    cluster/ca.pem, ca.key            an authority of its own: a device's certificate opens no broker
    cluster/nats-NAME.conf            of each server, with its certificate; nats-server -c
    cluster/accounts.conf             an account a cell, users of it by certificate, what each may
    cluster/CELL/ROLE.pem, ROLE.key   of the nodes of a cell: doors, engines, both in one process
    cluster/CELL/station/             of a cell with a broker at its base station: that broker's files

A cell is an account of the broker's: its subjects, queues and buckets are there for nobody else, whatever a
node of another cell subscribes to. Within a cell a role may no more than it needs
(:mod:`edge_server.cluster.permissions`).

A base station with a broker of its own is a leaf of the cluster's: its nodes go to it, and go on where the
backhaul is cut. Questions never cross; what does are copies of buckets, which the brokers make up for later
(:mod:`edge_server.cluster.buckets`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from edge_server.access.authority import (
    CA_CERTIFICATE,
    CA_KEY,
    NO_END,
    Authority,
    key_pem,
    make_authority,
    write_private,
)
from edge_server.cluster.permissions import ROLES
from edge_server.cluster.subjects import HUB
from edge_server.errors import ConfigurationError

FOLDER = "cluster"
STATION = "station"
_APART = 'publish: { deny: ["tokenlink.>", "$KV.>"] }, subscribe: { deny: ["tokenlink.>", "$KV.>"] }'
"""What is said in one broker is not heard in the other: a question would be put into the queues of both."""
_SYSTEM = "SYS"
"""Account in which brokers talk among themselves."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


@dataclass(frozen=True)
class BrokerPorts:
    """Of every server.

    Attributes:
        clients: that nodes connect to.
        routes: that servers reach one another by.
        monitor: that tells their health, on loopback.
        leaves: that brokers of base stations come to.
    """

    clients: int = 4222
    routes: int = 6222
    monitor: int = 8222
    leaves: int = 7422


def make_cluster(
    folder: Path,
    servers: Sequence[str],
    cells: Sequence[str],
    *,
    store: Path,
    stations: Mapping[str, str] | None = None,
    ports: BrokerPorts | None = None,
    days: float | None = None,
) -> list[Path]:
    """Write all of it; the authority that is there already signs what comes new.

    Args:
        folder: of the cluster's files.
        servers: host names or addresses of the broker's servers; of several, any one may die.
        cells: names of cells.
        store: folder of the broker's data, on each of its machines.
        stations: cells whose base station has a broker of its own, and host names or addresses of that.
        ports: of each server.
        days: until certificates of nodes end; None: they do not.

    Returns:
        The files.

    Raises:
        ConfigurationError: a name is not usable, none is given, or a file cannot be written.
    """
    if not servers or not cells:
        raise ConfigurationError("server, cell: at least one of each is needed")
    for what, names in (("cell", cells), ("server", servers)):
        if len(set(names)) != len(names):
            raise ConfigurationError(f"{what}: {', '.join(names)}: each may be named once")
    for cell in cells:
        if not _NAME.fullmatch(cell):
            raise ConfigurationError(
                f"cell: is {cell[:80]!r}; letters, digits, '_' and '-' are allowed, 1 to 32 of them"
            )
        if cell in (_SYSTEM, HUB):
            raise ConfigurationError(f"cell: is {cell!r}, which the broker's own account or domain is named")
    named: dict[str, str] = {}
    for server in servers:
        if (other := named.setdefault(_stem(server), server)) != server:
            raise ConfigurationError(
                f"server: {other} and {server} would have the same files, {_stem(server)}.conf and others"
            )
    stations, ports = stations or {}, ports or BrokerPorts()
    if unknown := sorted(set(stations) - set(cells)):
        raise ConfigurationError(f"station: {unknown[0]!r} is none of the cells, {', '.join(cells)}")
    signer = _authority(folder)
    made = [_accounts(folder, cells, stations)]
    for server in servers:
        made += _server(folder, signer, server, servers, store, ports, leaves=bool(stations))
    for cell, host in stations.items():
        made += _station(folder, signer, cell, host, servers, store, ports)
    for cell in cells:
        for role in ROLES:
            made += _node(folder / cell, signer, cell, role, days)
        shutil.copyfile(folder / CA_CERTIFICATE, folder / cell / CA_CERTIFICATE)
    return made


def user_of(cell: str, role: str) -> str:
    """Common name of a node's certificate, by which the broker knows it."""
    return f"{cell}.{role}"


def _authority(folder: Path) -> Authority:
    if (folder / CA_CERTIFICATE).exists():
        return Authority.load(folder / CA_CERTIFICATE, folder / CA_KEY)
    return make_authority(folder, "TokenLink cluster")


def _node(folder: Path, signer: Authority, cell: str, role: str, days: float | None) -> list[Path]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    whole = float((NO_END - now).days) if days is None else days
    signed = signer.sign_key(key.public_key(), user_of(cell, role), now, whole)
    files = folder / f"{role}.pem", folder / f"{role}.key"
    write_private(files[1], key_pem(key))
    write_private(files[0], signed.pem.encode())
    return list(files)


def _accounts(folder: Path, cells: Sequence[str], stations: Collection[str] = ()) -> Path:
    lines = ["# Made by `edge-server certs cluster`; every server includes it.", "accounts {"]
    for cell in cells:
        lines += [f"  {cell} {{", "    jetstream: enabled", "    users: ["]
        for role, permissions in ROLES.items():
            lines += [
                "      {",
                f'        user: "CN={user_of(cell, role)}"',
                permissions.conf(" " * 8),
                "      }",
            ]
        if cell in stations:
            lines += [f'      {{ user: "CN={user_of(cell, STATION)}", permissions {{ {_APART} }} }}']
        lines += ["    ]", "  }"]
    lines += [f"  {_SYSTEM} {{}}", "}", f"system_account: {_SYSTEM}", ""]
    write_private(path := folder / "accounts.conf", "\n".join(lines).encode())
    return path


def _stem(server: str) -> str:
    """Of the names of a server's files."""
    return (server if server.startswith("nats") else f"nats-{server}").replace(":", "-")


def _server(
    folder: Path,
    signer: Authority,
    name: str,
    all_of_them: Sequence[str],
    store: Path,
    ports: BrokerPorts,
    *,
    leaves: bool,
) -> list[Path]:
    stem = _stem(name)
    certificate, key = signer.make_broker(folder, stem, [name])
    tls = f'cert_file: "{certificate.name}", key_file: "{key.name}", ca_file: "{CA_CERTIFICATE}"'
    lines = _settings(name, HUB, tls, store, ports)
    if leaves:
        lines.append(f"leafnodes {{ listen: 0.0.0.0:{ports.leaves}, tls {{ {tls}, verify_and_map: true }} }}")
    if len(all_of_them) > 1:
        routes = ", ".join(f'"tls://{each}:{ports.routes}"' for each in all_of_them)
        lines.append(
            f"cluster {{ name: tokenlink, listen: 0.0.0.0:{ports.routes}, tls {{ {tls}, verify: true }}, "
            f"routes: [{routes}] }}"
        )
    write_private(path := folder / f"{stem}.conf", ("\n".join(lines) + "\n").encode())
    return [path, certificate, key]


def _station(
    folder: Path,
    signer: Authority,
    cell: str,
    host: str,
    servers: Sequence[str],
    store: Path,
    ports: BrokerPorts,
) -> list[Path]:
    """The broker of a base station: a leaf of the cluster's, with the cell's account alone."""
    own = folder / cell / STATION
    names = list(dict.fromkeys((host, "localhost", "127.0.0.1")))
    certificate, key = signer.make_broker(own, "nats", names)
    leaf = _node(own, signer, cell, STATION, None)
    shutil.copyfile(folder / CA_CERTIFICATE, own / CA_CERTIFICATE)
    urls = ", ".join(f'"tls://{each}:{ports.leaves}"' for each in servers)
    tls = f'cert_file: "{certificate.name}", key_file: "{key.name}", ca_file: "{CA_CERTIFICATE}"'
    as_leaf = f'cert_file: "{leaf[0].name}", key_file: "{leaf[1].name}", ca_file: "{CA_CERTIFICATE}"'
    apart = '["tokenlink.>", "$KV.>"]'
    lines = [
        *_settings(cell, cell, tls, store, ports),
        "leafnodes { remotes: [ {",
        f"  urls: [{urls}]",
        f"  account: {cell}",
        f"  tls {{ {as_leaf} }}",
        f"  deny_imports: {apart}",
        f"  deny_exports: {apart}",
        "} ] }",
    ]
    write_private(path := own / "nats.conf", ("\n".join(lines) + "\n").encode())
    return [path, certificate, key, *leaf, _accounts(own, [cell])]


def _settings(name: str, domain: str, tls: str, store: Path, ports: BrokerPorts) -> list[str]:
    return [
        f"# Of the broker's server {name}; made by `edge-server certs cluster`.",
        f'server_name: "{name}"',
        f"listen: 0.0.0.0:{ports.clients}",
        f"http: 127.0.0.1:{ports.monitor}",
        "# A question takes up to 2 MiB.",
        "max_payload: 8MB",
        f'jetstream {{ store_dir: "{store}", domain: {domain} }}',
        f"tls {{ {tls}, verify_and_map: true }}",
        'include "accounts.conf"',
    ]
