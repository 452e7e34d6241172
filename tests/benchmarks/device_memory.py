"""What encoders take of a device's memory, measured in a process that does nothing else.

    python -m tests.benchmarks.device_memory graphs deploy/models/soundstage-small/bundle
    python -m tests.benchmarks.device_memory torch deploy/models/soundstage-small

Prints one JSON object. Media is noise of a real clip's size: what a graph takes depends on no more than that.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import psutil

from device_agent.bundle.bundle import load_bundle
from device_agent.media.clip import Clip
from device_agent.transmitter import Transmitter

Runtime: TypeAlias = Literal["graphs", "torch"]

TOKEN_LENGTH = 16
CLIPS = 5


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process.

    Attributes:
        imported_bytes: with the runtime imported, before anything is opened.
        encoding_bytes: once clips have been encoded.
    """

    imported_bytes: int
    encoding_bytes: int

    @property
    def encoders_bytes(self) -> int:
        """What the encoders themselves take."""
        return self.encoding_bytes - self.imported_bytes


def measure_elsewhere(runtime: Runtime, folder: Path) -> Memory:
    """Measure in a fresh process.

    Args:
        runtime: ONNX Runtime on a bundle's graphs, or torch.
        folder: the bundle's, or the model's.
    """
    command = [sys.executable, "-m", "tests.benchmarks.device_memory", runtime, str(folder)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return Memory(**json.loads(done.stdout))


def noise(seed: int) -> Clip:
    """Four seconds of noise at the demo clips' size and rates."""
    rng = np.random.default_rng(seed)
    return Clip(
        frames_THWC=rng.integers(0, 256, (32, 144, 256, 3), dtype=np.uint8),
        pcm_S=rng.normal(0.0, 0.1, 64_000).astype(np.float32),
    )


def of_graphs(folder: Path) -> Memory:
    """Of a bundle's graphs in this process."""
    import onnxruntime  # noqa: F401 - what importing takes is not the graphs'

    clips = [noise(seed) for seed in range(CLIPS)]
    imported_bytes = _resident_bytes()
    transmitter = Transmitter(load_bundle(folder))
    for clip in clips:
        transmitter.encode(clip, TOKEN_LENGTH)
    return Memory(imported_bytes, _resident_bytes())


def of_torch(folder: Path) -> Memory:
    """Of a model's encoders and heads in this process; the rest of the model is loaded, and let go."""
    import torch

    from edge_server.model.link import Link
    from tests.benchmarks.device_encoders import TorchEncoders

    torch.set_num_threads(1)
    clips = [noise(seed) for seed in range(CLIPS)]
    imported_bytes = _resident_bytes()
    encoders = TorchEncoders(Link.load(folder))
    gc.collect()
    for clip in clips:
        encoders.encode(clip, TOKEN_LENGTH)
    return Memory(imported_bytes, _resident_bytes())


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def main(arguments: list[str]) -> None:
    """Entry point."""
    runtime, folder = arguments
    memory = of_torch(Path(folder)) if runtime == "torch" else of_graphs(Path(folder))
    print(json.dumps(asdict(memory)))


if __name__ == "__main__":
    main(sys.argv[1:])
