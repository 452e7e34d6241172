"""Looks at everything an answer depends on, and says what to do about what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, TypeAlias

import numpy as np

from device_agent.bundle import Bundle, load_bundle
from device_agent.channel import read_trace
from device_agent.config import DeviceSettings
from device_agent.errors import BundleMismatchError, DeviceAgentError
from device_agent.session import Session
from device_agent.transmitter import Transmitter
from device_agent.uplink import Uplink
from device_agent.version import agent_version

State: TypeAlias = Literal["ok", "warning", "failure"]

PACKAGES = ("numpy", "onnxruntime", "tokenizers", "av", "grpcio", "protobuf")
SKEW_WARNING_S = 1.0
SKEW_FAILURE_S = 60.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        state: ``failure`` keeps questions from being answered, ``warning`` does not.
        found: what is.
        advice: what to do about it; empty when there is nothing to do.
    """

    name: str
    state: State
    found: str
    advice: str = ""


async def examine(
    settings: DeviceSettings,
    uplink_of: Callable[[str], Uplink],
    *,
    wall_clock: Callable[[], float] = time.time,
) -> list[Finding]:
    """Examine versions, bundle, transmitters, trace, server, bundle match and clock.

    Args:
        settings: as for a question.
        uplink_of: makes an uplink for a bundle hash.
        wall_clock: seconds since the Unix epoch.
    """
    findings = [_versions()]
    bundle, finding = _bundle(settings)
    findings.append(finding)
    if bundle is not None:
        findings.append(_transmitters(bundle, settings.threads))
    if settings.trace is not None:
        findings.append(_trace(settings))
    findings += await _server(settings, bundle, uplink_of, wall_clock)
    return findings


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


def _versions() -> Finding:
    found, missing = [f"tokenlink {agent_version()}"], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding(
            "versions", "failure", f"not installed: {', '.join(missing)}", "pip install 'tokenlink[device]'"
        )
    return Finding("versions", "ok", ", ".join(found))


def _bundle(settings: DeviceSettings) -> tuple[Bundle | None, Finding]:
    try:
        bundle = load_bundle(settings.bundle)
    except DeviceAgentError as error:
        return None, Finding("bundle", "failure", str(error), f"device-agent pull --server {settings.server}")
    found = f"{bundle.manifest.name} {bundle.hash[:12]} at {bundle.folder}"
    return bundle, Finding("bundle", "ok", found)


def _transmitters(bundle: Bundle, threads: int) -> Finding:
    """Send something through every graph: installed is not the same as working."""
    parts = bundle.manifest.transmitters
    rng = np.random.default_rng(0)
    length = bundle.manifest.token_lengths[0]
    transmitter = Transmitter(bundle, threads)
    working = []
    try:
        if parts.visual is not None:
            frames = rng.integers(0, 256, (1, 48, 64, 3), dtype=np.uint8)
            transmitter.encode_visual(frames, length, is_image="image" in parts.visual.modalities)
            working.append("visual")
        if parts.audio is not None:
            noise = rng.uniform(-0.1, 0.1, parts.audio.sample_rate_hz).astype(np.float32)
            transmitter.encode_audio(noise, length)
            working.append("audio")
        ids = transmitter.tokenize("what is there?")
        if parts.text is not None and ids:
            transmitter.encode_text(ids[: parts.text.max_token_length])
            working.append("text")
    except DeviceAgentError as error:
        return Finding("transmitters", "failure", str(error), "fetch the bundle again: device-agent pull")
    return Finding("transmitters", "ok", ", ".join([*working, "tokenizer"]))


def _trace(settings: DeviceSettings) -> Finding:
    if settings.trace is None:
        return Finding("trace", "ok", "none")
    try:
        trace = read_trace(settings.trace)
    except DeviceAgentError as error:
        return Finding("trace", "failure", str(error), "correct the file, or leave --trace out")
    return Finding("trace", "ok", f"{len(trace.times_s)} entries over {trace.times_s[-1]:g} s")


async def _server(
    settings: DeviceSettings,
    bundle: Bundle | None,
    uplink_of: Callable[[str], Uplink],
    wall_clock: Callable[[], float],
) -> list[Finding]:
    async with uplink_of(bundle.hash if bundle is not None else "") as uplink:
        before_s = wall_clock()
        try:
            session = await uplink.open()
        except BundleMismatchError as error:
            reached = Finding("server", "ok", f"{settings.server} answers")
            if bundle is None:
                return [reached]  # without a bundle there is nothing that could match
            first_line = str(error).splitlines()[0]
            advice = f"device-agent pull --server {settings.server}"
            return [reached, Finding("bundle match", "failure", first_line, advice)]
        except DeviceAgentError as error:
            advice = f"is an edge server running at {settings.server}? Name another with --server"
            return [Finding("server", "failure", str(error), advice)]
        after_s = wall_clock()
    return [
        Finding("server", "ok", f"{settings.server} answers with {session.model_name}"),
        Finding("bundle match", "ok", "the server answers for the installed bundle"),
        _server_version(session),
        clock_finding(session.server_time_s, before_s, after_s),
    ]


def _server_version(session: Session) -> Finding:
    ours, theirs = agent_version(), session.server_version
    if ours != theirs:
        advice = "questions are answered as long as the bundle matches; install the same version to be sure"
        return Finding("server version", "warning", f"agent {ours}, server {theirs}", advice)
    return Finding("server version", "ok", theirs)
