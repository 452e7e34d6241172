"""What the doctor finds on the device itself."""

from __future__ import annotations

import io
import os
import shutil
import threading
import wave
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from device_agent.bundle.bundle import Bundle, load_bundle
from device_agent.channel import read_trace
from device_agent.config import DeviceSettings
from device_agent.doctor.finding import Finding
from device_agent.errors import DeviceAgentError, MediaError
from device_agent.media.sandbox import MediaPool
from device_agent.outbox.store import Spool
from device_agent.places import is_file, is_folder
from device_agent.stopping import Stop
from device_agent.transmitter import Transmitter
from device_agent.version import agent_version

PACKAGES = ("numpy", "onnxruntime", "tokenizers", "av", "grpcio", "protobuf")
PROVIDER_PACKAGES = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
    "QNNExecutionProvider": "onnxruntime-qnn",
}
"""Builds of ONNX Runtime, each in place of the plain one, and what they bring."""

INSTALL = "in a clone of the repository: pip install '.[device]'"
"""How everything that the agent needs gets installed."""

_MIB = 2**20
TRANSMITTERS_WITHIN_S = 60.0
"""For all graphs together [s]."""


ENROL_AGAIN = "edge-server enrol-token NAME there; device-agent enrol --server HOST:ENROL_PORT --token TOKEN"
"""How a device gets a certificate that is good."""


def certificate_finding(settings: DeviceSettings) -> Finding | None:
    """Whether what this device shows and trusts can be read; None where the link is not encrypted."""
    try:
        credentials = settings.credentials()
    except DeviceAgentError as error:
        return Finding("certificate", "failure", str(error), ENROL_AGAIN)
    if credentials is None:
        return None
    shown = "none of its own" if credentials.device_id is None else f"that of {credentials.device_id}"
    return Finding("certificate", "ok", shown)


def versions_finding() -> Finding:
    """Whether everything that the agent needs is installed."""
    found, missing = [f"tokenlink {agent_version()}"], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding("versions", "failure", f"not installed: {', '.join(missing)}", INSTALL)
    return Finding("versions", "ok", ", ".join(found))


def bundle_finding(settings: DeviceSettings) -> tuple[Bundle | None, Finding]:
    """Whether there is a sound bundle; and it, if there is."""
    try:
        bundle = load_bundle(settings.bundle)
    except DeviceAgentError as error:
        return None, Finding("bundle", "failure", str(error), f"device-agent pull --server {settings.server}")
    found = f"{bundle.manifest.name} {bundle.hash[:12]} at {bundle.folder}"
    return bundle, Finding("bundle", "ok", found)


def provider_finding(provider: str) -> Finding:
    """Whether ONNX Runtime can compute where it is told to."""
    try:
        import onnxruntime
    except ImportError as error:
        return Finding("ONNX provider", "failure", str(error), INSTALL)
    here = onnxruntime.get_available_providers()
    if provider in here:
        return Finding("ONNX provider", "ok", provider)
    package = PROVIDER_PACKAGES.get(provider)
    advice = f"--provider {here[-1]}"
    if package is not None:
        advice = f"pip uninstall onnxruntime && pip install {package}; or {advice}"
    return Finding("ONNX provider", "failure", f"no {provider}; here are {', '.join(here)}", advice)


def transmitters_finding(bundle: Bundle, settings: DeviceSettings) -> Finding:
    """Send something through every graph: installed is not the same as working."""
    parts = bundle.manifest.transmitters
    rng = np.random.default_rng(0)
    length = bundle.manifest.token_lengths[0]
    transmitter = Transmitter(bundle, settings.threads, provider=settings.provider)
    working = []
    stop = Stop()
    timer = threading.Timer(TRANSMITTERS_WITHIN_S, stop)
    timer.start()
    try:
        if parts.visual is not None:
            frames = rng.integers(0, 256, (1, 48, 64, 3), dtype=np.uint8)
            transmitter.encode_visual(frames, length, is_image="image" in parts.visual.modalities, stop=stop)
            working.append("visual")
        if parts.audio is not None:
            noise = rng.uniform(-0.1, 0.1, parts.audio.sample_rate_hz).astype(np.float32)
            transmitter.encode_audio(noise, length, stop=stop)
            working.append("audio")
        ids = transmitter.tokenize("what is there?")
        if parts.text is not None and ids:
            transmitter.encode_text(ids[: parts.text.max_token_length], stop=stop)
            working.append("text")
    except DeviceAgentError as error:
        return Finding("transmitters", "failure", str(error), "fetch the bundle again: device-agent pull")
    finally:
        timer.cancel()
    return Finding("transmitters", "ok", ", ".join([*working, "tokenizer"]))


def decoding_finding(settings: DeviceSettings) -> Finding:
    """Whether files can be decoded, as they are for a question: in a process of their own."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(bytes(2 * 1_600))
    try:
        with MediaPool(1, settings.media) as files:
            files.clip_from_bytes(file.getvalue(), kind="audio", field="a tenth of a second of silence")
    except MediaError as error:
        advice = (
            "a process of its own decodes: it needs some 300 MiB of address space (ulimit -v), and what "
            "--media-max-memory-bytes and --media-max-decode-s allow"
        )
        return Finding("decoding", "failure", str(error), advice)
    return Finding("decoding", "ok", "files are decoded in a process of their own")


def trace_finding(path: Path) -> Finding:
    """Whether the SNR trace can be read."""
    try:
        trace = read_trace(path)
    except DeviceAgentError as error:
        return Finding("trace", "failure", str(error), "correct the file, or leave --trace out")
    return Finding("trace", "ok", f"{len(trace.times_s)} entries over {trace.times_s[-1]:g} s")


def disk_finding(folder: Path, least_free_bytes: int) -> Finding:
    """Whether what is kept for later still has room.

    Args:
        folder: where it is kept; it need not exist yet.
        least_free_bytes: what there must be.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if is_folder(parent))
    usage = shutil.disk_usage(there)
    found = f"{usage.free // _MIB} of {usage.total // _MIB} MiB free at {there}"
    if usage.free < least_free_bytes:
        advice = f"make room on its disk: du -xh {there} | sort -h | tail; journalctl --vacuum-size=50M"
        return Finding("disk", "failure", f"{found}; {least_free_bytes // _MIB} are needed", advice)
    return Finding("disk", "ok", found)


def outbox_finding(settings: DeviceSettings) -> Finding:
    """Whether questions can be kept for later: where there is an outbox it is opened and written to."""
    path = settings.outbox_path()
    advice = "let this user write there, or name another place: --outbox"
    if not is_file(path):
        there = next(parent for parent in path.absolute().parents if is_folder(parent) or is_file(parent))
        if not is_folder(there) or not os.access(there, os.W_OK | os.X_OK):
            return Finding("outbox", "failure", f"{there} cannot be written", advice)
        return Finding("outbox", "ok", f"none yet; {path} can be made")
    try:
        spool = Spool(path, settings.bounds())
    except DeviceAgentError as error:
        return Finding("outbox", "failure", str(error), advice)
    try:
        waiting = spool.counts()["waiting"]
    except DeviceAgentError as error:
        return Finding("outbox", "failure", str(error), advice)
    finally:
        spool.close()
    return Finding("outbox", "ok", f"{waiting} questions wait in {path}")


def capture_findings(camera: str | None, microphone: str | None) -> list[Finding]:
    """Whether something comes from the camera and the microphone that are named."""
    found = []
    for name, device, listing, group in (
        ("camera", camera, "ls /dev/video*", "video"),
        ("microphone", microphone, "arecord -L", "audio"),
    ):
        if device is not None:
            advice = (
                f"plug it in, and name what `{listing}` shows; or let this user use it: usermod -aG {group}"
            )
            found.append(_capture_finding(name, device, advice))
    return found


def _capture_finding(name: str, device: str, advice: str) -> Finding:
    from device_agent.sources.capture import record  # loads FFmpeg's devices

    try:
        clip = record(device, None) if name == "camera" else record(None, device)
    except MediaError as error:
        return Finding(name, "failure", str(error), advice)
    return Finding(name, "ok", f"{device} gives {' and '.join(clip.modalities)}")
