"""A process that runs a bundle once, within limits that it cannot pass, and says what came of it.

Started by :mod:`device_agent.bundle.proving`, as ``python -m device_agent.prover FOLDER LIMITS``. One
line of JSON on standard output: ``{}``, or ``{"error": why}``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401 (loaded before memory is counted)
import tokenizers  # noqa: F401

from device_agent.bundle.bundle import Bundle, read_manifest
from device_agent.errors import DeviceAgentError
from device_agent.transmitter import Transmitter

_BASE_BYTES = 128 * 2**20
_PER_GRAPH_BYTE = 6
"""Weights, as read, as kept, and as laid out for the processor."""
_PER_MEDIA_BYTE = 32
"""Pixels become float32, and an operator has an input and an output."""


def memory_allowed(bundle: Bundle, most: int) -> int:
    """What running a bundle may take [bytes]: by the size of its graphs and of the media that it reads."""
    parts, manifest = bundle.manifest.transmitters, bundle.manifest
    graphs = sum(manifest.files[name].bytes for name in [*manifest.graphs, manifest.tokenizer])
    media = 0
    if parts.visual is not None:
        media += parts.visual.max_frames * parts.visual.max_side**2 * 3
    if parts.audio is not None:
        media += 4 * round(parts.audio.window_s * parts.audio.sample_rate_hz)
    return min(most, _BASE_BYTES + _PER_GRAPH_BYTE * graphs + _PER_MEDIA_BYTE * media)


def confine(memory_bytes: int, cpu_s: float) -> None:
    """From here on, this process takes so much more memory and time of the processor, and writes nothing."""
    import resource  # there is none on Windows

    if sys.platform == "linux":  # elsewhere nothing tells what there is already
        with open("/proc/self/statm") as file:
            present_bytes = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (present_bytes + memory_bytes,) * 2)
    for name in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(name, (0, 0))
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime + cpu_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def run_once(bundle: Bundle) -> None:
    """The largest media and a question through every graph, at the least and the most tokens.

    Raises:
        TransmitterError: one fails, or returns what its manifest rules out.
    """
    parts = bundle.manifest.transmitters
    transmitter = Transmitter(bundle)
    ids = transmitter.tokenize("what is there?")
    rng = np.random.default_rng(0)
    lengths = sorted({min(bundle.manifest.token_lengths), max(bundle.manifest.token_lengths)})
    if parts.visual is not None:
        shape = (parts.visual.max_frames, parts.visual.max_side, parts.visual.max_side, 3)
        frames = rng.integers(0, 256, shape, dtype=np.uint8)
        for length in lengths:
            transmitter.encode_visual(frames, length, is_image="video" not in parts.visual.modalities)
        del frames
    if parts.audio is not None:
        samples = round(parts.audio.window_s * parts.audio.sample_rate_hz)
        pcm = rng.uniform(-0.1, 0.1, samples).astype(np.float32)
        for length in lengths:
            transmitter.encode_audio(pcm, length)
    if parts.text is not None and ids:
        transmitter.encode_text(ids[: parts.text.max_token_length])


def main() -> None:
    """Run the bundle in the folder that is named."""
    folder, limits = Path(sys.argv[1]), json.loads(sys.argv[2])
    found = {}
    try:
        bundle = Bundle(folder, read_manifest(folder))  # its files were verified just now
        confine(memory_allowed(bundle, limits["memory_bytes"]), limits["cpu_s"])
        run_once(bundle)
    except DeviceAgentError as error:
        found = {"error": str(error)}
    except MemoryError:
        found = {"error": "it takes more memory than is allowed"}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
