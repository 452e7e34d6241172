"""Looks at everything an answer depends on, and says what to do about what it finds.

this device   versions, bundle, transmitters, ONNX provider, trace, disk, outbox, camera, microphone,
              certificate
the way       server, proxy; where it is not reached: name, port
the server    admission, bundle match, server version, clock, SNR
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from device_agent.bundle.bundle import Bundle
from device_agent.config import DeviceSettings
from device_agent.doctor.device import (
    ENROL_AGAIN,
    bundle_finding,
    capture_findings,
    certificate_finding,
    decoding_finding,
    disk_finding,
    outbox_finding,
    provider_finding,
    trace_finding,
    transmitters_finding,
    versions_finding,
)
from device_agent.doctor.finding import Finding
from device_agent.doctor.link import (
    clock_finding,
    proxy_finding,
    snr_finding,
    unreachable_findings,
    version_finding,
)
from device_agent.errors import (
    BundleMismatchError,
    DeviceAgentError,
    NotAdmittedError,
    ServerUnreachableError,
)
from device_agent.uplink.uplink import Uplink

SERVER_WITHIN_S = 25.0
"""For a session, all tries together [s]."""


@dataclass(frozen=True)
class Equipment:
    """What the doctor is to look at beside the settings.

    Attributes:
        camera: such as ``/dev/video0``; None: none is needed.
        microphone: such as ``default``; None: none is needed.
        least_free_bytes: that the outbox's disk must have.
    """

    camera: str | None = None
    microphone: str | None = None
    least_free_bytes: int = 64 * 2**20


async def examine(
    settings: DeviceSettings,
    uplink_of: Callable[[str], Uplink],
    equipment: Equipment | None = None,
    *,
    wall_clock: Callable[[], float] = time.time,
) -> list[Finding]:
    """Examine this device, the way to the server, and what the server says.

    Args:
        settings: as for a question.
        uplink_of: makes an uplink for a bundle hash.
        equipment: what else there has to be.
        wall_clock: seconds since the Unix epoch.
    """
    equipment = equipment or Equipment()
    findings = [versions_finding()]
    bundle, finding = bundle_finding(settings)
    findings.append(finding)
    provider = provider_finding(settings.provider)
    findings.append(provider)
    if bundle is not None and provider.state == "ok":
        findings.append(await asyncio.to_thread(transmitters_finding, bundle, settings))
    findings.append(await asyncio.to_thread(decoding_finding, settings))
    if settings.trace is not None:
        findings.append(trace_finding(settings.trace))
    findings.append(disk_finding(settings.outbox_path(), equipment.least_free_bytes))
    findings.append(outbox_finding(settings))
    findings += capture_findings(equipment.camera, equipment.microphone)
    certificate = certificate_finding(settings)
    if certificate is not None:
        findings.append(certificate)
    if certificate is None or certificate.state == "ok":
        findings += await _server(settings, bundle, uplink_of, wall_clock)
    return findings


async def _server(
    settings: DeviceSettings,
    bundle: Bundle | None,
    uplink_of: Callable[[str], Uplink],
    wall_clock: Callable[[], float],
) -> list[Finding]:
    async with uplink_of(bundle.hash if bundle is not None else "") as uplink:
        before_s = wall_clock()
        try:
            async with asyncio.timeout(SERVER_WITHIN_S):
                session = await uplink.open()
        except BundleMismatchError as error:
            reached = Finding("server", "ok", f"{settings.server} answers")
            if bundle is None:
                return [reached]  # without a bundle there is nothing that could match
            first_line = str(error).splitlines()[0]
            advice = f"device-agent pull --server {settings.server}"
            return [reached, Finding("bundle match", "failure", first_line, advice)]
        except NotAdmittedError as error:
            reached = Finding("server", "ok", f"{settings.server} answers")
            return [reached, Finding("admission", "failure", str(error), ENROL_AGAIN)]
        except TimeoutError:
            reason = f"{settings.server} does not let this device in within {SERVER_WITHIN_S:g} s"
            advice = "ask its operator whether it is full: its log and metrics tell"
            return [Finding("server", "failure", reason, advice)]
        except ServerUnreachableError as error:
            return await unreachable_findings(settings.server, settings.use_proxy, str(error))
        except DeviceAgentError as error:
            advice = f"is an edge server running at {settings.server}? Name another with --server"
            return [Finding("server", "failure", str(error), advice)]
        after_s = wall_clock()
    proxy = proxy_finding(settings.server, settings.use_proxy, reached=True)
    return [
        *([] if proxy is None else [proxy]),
        Finding("server", "ok", f"{settings.server} answers with {session.model_name}"),
        Finding("bundle match", "ok", "the server answers for the installed bundle"),
        version_finding(session.server_version),
        clock_finding(session.server_time_s, before_s, after_s),
        snr_finding(settings, session.grant),
    ]
