"""``edge-server check``: whether the server would come up with these settings, without starting it.

Every finding says where the setting stands and what to do. Exit code 1 where something would keep the server
from starting.
"""

from __future__ import annotations

import json
import re
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from device_agent.doctor.finding import Finding
from device_agent.errors import BundleError, DeviceAgentError
from device_agent.settings.flags import with_flags
from edge_server.access.authority import NO_END, Authority, read_certificate
from edge_server.access.devices import list_certificates
from edge_server.access.keys import list_keys
from edge_server.errors import ConfigurationError, ModelError
from edge_server.model.weight_files import check_weights_of
from edge_server.server.beside import each_model
from edge_server.server.config import FLAGGED, SETTINGS, ServerConfig, rest_token_length
from edge_server.server.exposure import check_exposure, is_loopback
from edge_server.server.front_doors import check_front_doors
from edge_server.server.loading import load_bundles
from edge_server.server.security import tls_of
from edge_server.server.settings import SettingsError, load_config, where

EXPIRES_SOON_DAYS = 30
_REACH_S = 3.0

_WORD = re.compile(r"[a-z_]+")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@with_flags(FLAGGED, "flags", dict)
def check(
    flags: Mapping[str, Any],
    config: Annotated[Path | None, typer.Option(help="Settings file, TOML.")] = None,
    ports: Annotated[
        bool, typer.Option(help="Whether the ports are free; not while the server runs.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Check settings, certificates, access file, model, ports; fails if the server would not start."""
    try:
        settings = load_config(flags, config)
    except SettingsError as error:
        findings = [
            Finding(each.setting or "settings", "failure", each.message, "correct it", each.where)
            for each in error.problems
        ]
    else:
        findings = list(examine(settings, flags, ports=ports, now=datetime.now(UTC)))
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in findings]))
    else:
        for each in findings:
            typer.echo(f"{each.state:8} {each.name:14} {': '.join(filter(None, (each.where, each.found)))}")
            if each.advice:
                typer.echo(f"{'':24}{each.advice}")
    if any(each.state == "failure" for each in findings):
        raise typer.Exit(1)


def examine(
    config: ServerConfig, flags: Mapping[str, Any], *, ports: bool, now: datetime
) -> Iterator[Finding]:
    """Examine settings that are each possible: do they fit together, and is there what they name?

    Args:
        config: the settings.
        flags: those that were given on the command line.
        ports: whether to try the ports.
        now: this machine's clock.
    """
    yield Finding("settings", "ok", "they fit together")
    yield _exposure(config, flags)
    yield from _certificates(config, flags, now)
    yield from _access(config, flags, now)
    try:
        for each in each_model(config):
            yield _model(each, flags, "model" if each.runtime.model == config.runtime.model else "beside")
    except ConfigurationError as error:
        yield _failure(error, "beside", flags, "serve it elsewhere")
    if config.server.front_doors > 1:
        yield _front_doors(config, flags)
    if config.cluster.on:
        yield _cluster(config, flags)
    if ports:
        yield from _ports(config, flags)


def _failure(error: ConfigurationError, setting: str, flags: Mapping[str, Any], advice: str) -> Finding:
    # Messages begin with the setting where they are about one.
    named = [word for word in _WORD.findall(str(error))[:2] if SETTINGS.find(word)]
    setting = named[0] if named else setting
    return Finding(setting, "failure", str(error), advice, where(setting, flags))


def _front_doors(config: ServerConfig, flags: Mapping[str, Any]) -> Finding:
    try:
        check_front_doors(config)
    except ConfigurationError as error:
        return _failure(error, "front_doors", flags, "see docs/scale.md")
    return Finding("front_doors", "ok", f"{config.server.front_doors} open the same ports")


def _exposure(config: ServerConfig, flags: Mapping[str, Any]) -> Finding:
    try:
        check_exposure(config)
    except ConfigurationError as error:
        return _failure(error, "host", flags, "see docs/security.md")
    if is_loopback(config.server.host):
        return Finding("exposure", "ok", f"{config.server.host}: only this machine can reach it")
    if config.security.trusted_network:
        return Finding(
            "exposure",
            "warning",
            f"{config.server.host}: whoever reaches it is let in",
            "only for networks on which everybody may ask",
            where("trusted_network", flags),
        )
    return Finding("exposure", "ok", f"{config.server.host}: certificates and keys are asked for")


def _certificates(config: ServerConfig, flags: Mapping[str, Any], now: datetime) -> Iterator[Finding]:
    try:
        tls = tls_of(config)
        security = config.security
        if security.tls_ca is not None and security.ca_key is not None:
            Authority.load(security.tls_ca, security.ca_key)
    except ConfigurationError as error:
        yield _failure(error, "tls_cert", flags, "make new ones: edge-server certs init, or certs server")
        return
    if tls is None:
        yield Finding("certificates", "ok", "none: both doors speak plainly")
        return
    for setting, path in (("tls_cert", tls.certificate), ("tls_ca", tls.client_ca)):
        if path is not None:
            yield _end(setting, path, flags, now)
    for setting, path in (("tls_key", tls.key), ("ca_key", security.ca_key)):
        if path is not None:
            yield from _mode(setting, path, flags)


def _end(setting: str, path: Path, flags: Mapping[str, Any], now: datetime) -> Finding:
    certificate = read_certificate(path)
    end = certificate.not_valid_after_utc
    if certificate.not_valid_before_utc > now:
        found = f"{path} is valid only from {certificate.not_valid_before_utc.date()} on"
        return Finding(setting, "failure", found, "is this machine's clock right?", where(setting, flags))
    if end == NO_END:
        return Finding(setting, "ok", f"{path} does not expire")
    days = (end - now).days
    if end <= now:
        found = f"{path} expired on {end.date()}"
        return Finding(setting, "failure", found, "edge-server certs server", where(setting, flags))
    if days < EXPIRES_SOON_DAYS:
        found = f"{path} expires on {end.date()}, in {days} days"
        return Finding(setting, "warning", found, "edge-server certs server", where(setting, flags))
    return Finding(setting, "ok", f"{path} expires on {end.date()}")


def _mode(setting: str, path: Path, flags: Mapping[str, Any]) -> Iterator[Finding]:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Finding(
            setting, "warning", f"{path} can be read by others", f"chmod 600 {path}", where(setting, flags)
        )


def _access(config: ServerConfig, flags: Mapping[str, Any], now: datetime) -> Iterator[Finding]:
    access = config.security.access
    if access is None:
        return
    try:
        states = [each.state(now.timestamp()) for each in list_certificates(access)]
        good_keys = sum(each.revoked_s is None for each in list_keys(access))
    except ConfigurationError as error:
        yield _failure(error, "access", flags, "edge-server certs init, or edge-server keys add")
        return
    found = f"{states.count('good')} devices and {good_keys} API keys are let in"
    if states.count("expired"):
        found += f"; {states.count('expired')} certificates have expired"
    yield Finding("access", "ok", found)
    yield from _mode("access", access, flags)


def _model(config: ServerConfig, flags: Mapping[str, Any], named: str) -> Finding:
    """A model, by the setting that names it."""
    folder = config.runtime.model
    if not folder.is_dir():
        found = f"there is no folder {folder}"
        return Finding(named, "failure", found, "edge-server train, or name another", where(named, flags))
    try:
        bundles = load_bundles(folder)
    except (DeviceAgentError, ConfigurationError) as error:
        found = error.found if isinstance(error, BundleError) else str(error)
        return Finding(named, "failure", found, "edge-server export", where(named, flags))
    lengths = bundles[0].manifest.token_lengths
    token_length = rest_token_length(config, bundles[0].manifest.token_length)
    if token_length not in lengths:
        found = f"is {token_length}; the bundle allows {', '.join(map(str, lengths))}"
        setting = "rest_token_length"
        return Finding(setting, "failure", found, "choose one of these", where(setting, flags))
    missing = [name for name in ("model.json", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        found = f"{folder} lacks {' and '.join(missing)}"
        return Finding(named, "failure", found, "copy the whole folder", where(named, flags))
    try:
        check_weights_of(folder)
    except ModelError as error:
        return Finding(named, "failure", str(error), "copy the whole folder", where(named, flags))
    hashes = ", ".join(f"{bundle.hash[:12]} ({bundle.manifest.precision})" for bundle in bundles)
    return Finding(named, "ok", f"{folder} with bundle {hashes}")


def _cluster(config: ServerConfig, flags: Mapping[str, Any]) -> Finding:
    """Whether the client is installed, and any of the broker's servers listens."""
    at = where("cluster", flags)
    if find_spec("nats") is None:
        found = "needs nats-py, which is not installed"
        return Finding("cluster", "failure", found, "in a clone: pip install '.[cluster]'", at)
    refused = []
    for address in config.cluster.addresses:
        parts = urlsplit(address)
        try:
            with socket.create_connection((parts.hostname or "", parts.port or 4222), _REACH_S):
                return Finding("cluster", "ok", f"{config.cluster.role}: {config.cluster.shown} answers")
        except (OSError, ValueError) as error:
            refused.append(str(error))
    found = f"{config.cluster.shown} cannot be reached: {refused[0]}"
    return Finding("cluster", "failure", found, "start nats-server --jetstream, or correct it", at)


def _ports(config: ServerConfig, flags: Mapping[str, Any]) -> Iterator[Finding]:
    host = config.server.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken: dict[int, str] = {}
    for setting, port in (
        ("grpc_port", config.grpc.port),
        ("rest_port", config.rest.port),
        ("enrol_port", config.security.enrol_port),
    ):
        if not port:
            continue
        if port in taken:
            found = f"is {port}, which {taken[port]} is too"
            yield Finding(setting, "failure", found, "choose another", where(setting, flags))
            continue
        taken[port] = setting
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port))
            except OSError as error:
                found = f"cannot listen on {host}:{port}: {error.strerror}"
                advice = "choose another, or --no-ports where it is this server that runs"
                yield Finding(setting, "failure", found, advice, where(setting, flags))
                continue
        yield Finding(setting, "ok", f"{host}:{port} is free")
