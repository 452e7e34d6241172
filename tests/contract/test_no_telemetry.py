"""Nothing that is built in tells its maker what a device does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What ONNX Runtime itself looks for: it is silent in continuous integration, too.
SILENCING = ("ORT_DISABLE_TELEMETRY", "CI", "CONTINUOUS_INTEGRATION", "ORT_RUNNING_UNIT_TESTS")
RUN_A_GRAPH = """
import numpy as np
from pathlib import Path
from device_agent.bundle.bundle import load_bundle
from device_agent.transmitter import Transmitter
transmitter = Transmitter(load_bundle(Path("deploy/models/soundstage-small/bundle")))
transmitter.encode_audio(np.zeros(16000, np.float32), 1)
"""


def test_onnx_runtime_keeps_no_identity_of_this_machine(tmp_path: Path) -> None:
    """What it would report under is the first thing that it writes down, below the home folder."""
    inherited = {name: value for name, value in os.environ.items() if name not in SILENCING}
    environment = inherited | {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment.pop("XDG_CACHE_HOME", None)
    subprocess.run([sys.executable, "-c", RUN_A_GRAPH], cwd=ROOT, env=environment, check=True, timeout=120)
    assert list(tmp_path.rglob("*onnxruntime*")) == []
