"""What the doctor finds on the way to the server, and in what the server says."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

from device_agent.channel import read_trace
from device_agent.config import DeviceSettings
from device_agent.doctor.finding import Finding, State
from device_agent.errors import DeviceAgentError
from device_agent.uplink.address import host_and_port
from device_agent.uplink.proxy import proxy_of
from device_agent.version import agent_version
from protos.tokenlink.v1 import tokenlink_pb2 as pb

SKEW_WARNING_S = 1.0
SKEW_FAILURE_S = 60.0
CONNECT_WITHIN_S = 5.0


def proxy_finding(server: str, use_proxy: bool | None, *, reached: bool) -> Finding | None:
    """Whether a proxy stands between, or is passed by; None where the environment names none.

    Args:
        server: as in the settings.
        use_proxy: likewise.
        reached: whether the server answered.
    """
    named = proxy_of(server, True)
    if named is None:
        return None
    variable, url = named
    if proxy_of(server, use_proxy) is None:
        return Finding("proxy", "ok", f"{variable}={url} is not used: {server} is reached directly")
    found = f"{variable}={url} stands between this device and {server}"
    if reached:
        return Finding("proxy", "ok", found)
    return Finding(
        "proxy", "failure", found, f"go directly: --no-use-proxy, or no_proxy={server.rpartition(':')[0]}"
    )


async def unreachable_findings(server: str, use_proxy: bool | None, reason: str) -> list[Finding]:
    """Why no connection came about: what stands first in the way.

    Args:
        server: as in the settings.
        use_proxy: likewise.
        reason: what gRPC says.
    """
    address = host_and_port(server)
    if address is None:
        return [Finding("server", "failure", f"{server!r} is no host:port", "--server HOST:PORT")]
    findings = []
    proxy = proxy_finding(server, use_proxy, reached=False)
    if proxy is not None:
        findings.append(proxy)
        if proxy.state == "failure":
            # Whether name and port are right is the proxy's to find out.
            return [*findings, Finding("server", "failure", reason, "see proxy")]
    for diagnose in DIAGNOSES:
        finding = await diagnose(*address)
        findings.append(finding)
        if finding.state == "failure":
            return findings
    advice = f"is it an edge server that listens at {server}? Its log tells: docker compose logs server"
    return [*findings, Finding("server", "failure", reason, advice)]


async def name_finding(host: str, port: int) -> Finding:
    """Whether the server's name has an address."""
    with contextlib.suppress(ValueError):
        return Finding("name", "ok", f"{ipaddress.ip_address(host)} is an address")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        advice = f"correct --server, or the resolver: getent hosts {host}; cat /etc/resolv.conf"
        return Finding("name", "failure", f"{host} cannot be resolved ({reason})", advice)
    addresses = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
    return Finding("name", "ok", f"{host} is {', '.join(addresses)}")


async def port_finding(host: str, port: int) -> Finding:
    """Whether something listens there."""
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        advice = f"open TCP port {port} in the firewalls between here and {host}: nc -vz {host} {port}"
        return Finding("port", "failure", f"{host}:{port} says nothing for {CONNECT_WITHIN_S:g} s", advice)
    except OSError as error:
        advice = f"start it there: edge-server serve --host 0.0.0.0 --grpc-port {port}; or correct --server"
        return Finding("port", "failure", f"{host}:{port} is closed ({error.strerror or error})", advice)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Finding("port", "ok", f"{host}:{port} is open")


DIAGNOSES: Sequence[Callable[[str, int], Awaitable[Finding]]] = (name_finding, port_finding)
"""What can stand in the way to a server, the nearest first."""


def version_finding(server_version: str) -> Finding:
    """Whether agent and server are of one release."""
    ours = agent_version()
    if ours != server_version:
        advice = (
            "questions are answered as long as the bundle matches; to be sure, install the server's: "
            f"in a clone at its release {server_version}, pip install '.[device]'"
        )
        return Finding("server version", "warning", f"agent {ours}, server {server_version}", advice)
    return Finding("server version", "ok", server_version)


def clock_finding(server_time_s: float, before_s: float, after_s: float) -> Finding:
    """Judge the local clock by the server's.

    Args:
        server_time_s: the server's, read between the two local ones.
        before_s: local, before asking.
        after_s: local, after the answer. All in seconds since the Unix epoch.
    """
    early, late = before_s - server_time_s, server_time_s - after_s
    skew_s = max(early, late, 0.0)
    direction = "ahead of" if early > late else "behind"
    found = f"within {max(after_s - before_s, 0.0):.1f} s of the server's"
    if skew_s > SKEW_WARNING_S:
        advice = "set this device's clock (for instance: timedatectl set-ntp true), or the server's"
        state: State = "failure" if skew_s > SKEW_FAILURE_S else "warning"
        return Finding("clock", state, f"{skew_s:.1f} s {direction} the server's", advice)
    return Finding("clock", "ok", found)


def snr_finding(settings: DeviceSettings, grant: pb.Grant) -> Finding:
    """Whether the model can read what arrives over the radio link."""
    if not grant.HasField("outage_snr_db"):
        return Finding("SNR", "ok", f"{settings.snr_db:g} dB; the server names no least SNR")
    least_db = grant.outage_snr_db
    snrs_db: tuple[float, ...] = (settings.snr_db,)
    if settings.channel == "none":
        return Finding("SNR", "ok", "the channel is a perfect wire")
    if settings.trace is not None:
        try:
            snrs_db = read_trace(settings.trace).snrs_db
        except DeviceAgentError:
            return Finding("SNR", "warning", "unknown: the trace cannot be read", "see trace")
    lost = sum(snr_db < least_db for snr_db in snrs_db)
    found = f"{min(snrs_db):g} dB" if len(snrs_db) == 1 else f"{min(snrs_db):g} to {max(snrs_db):g} dB"
    if not lost:
        return Finding("SNR", "ok", f"{found}; at least {least_db:g} dB are needed")
    advice = (
        f"a better antenna, more power or less distance; then --snr-db {least_db:g} or above, or a new trace"
    )
    state: State = "failure" if lost == len(snrs_db) else "warning"
    return Finding("SNR", state, f"{found}; below {least_db:g} dB an answer is a guess", advice)
