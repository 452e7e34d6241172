"""What a step costs a device: the product's own, with ONNX Runtime and numpy, beside the same in torch.

Each runs in a process of its own, which imports what it needs and nothing else: its memory is the peak of all
that it ever held, libraries included. Run as ``python -m edge_server.study.cotrain.step_cost KIND MODEL
REPEATS CLIPS SHAPES``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_LENGTH = 16
_WARM = 3


def measure_step(kind: str, model: Path, repeats: int, clips: int) -> dict[str, float]:
    """Median time of a step [s] and peak memory [bytes], of a process of its own.

    Args:
        kind: "onnx" or "torch".
        model: folder of the shipped model.
        repeats: steps.
        clips: in a batch.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    from device_agent.bundle.bundle import load_bundle
    from device_agent.cotrain.head import learning_heads

    shapes = {
        slot: head.features_shape for slot, head in learning_heads(load_bundle(model / "bundle")).items()
    }
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(  # noqa: S603 - this interpreter, this module
        [sys.executable, "-m", __name__, kind, str(model), str(repeats), str(clips), json.dumps(shapes)],
        capture_output=True,
        check=True,
        text=True,
        env=environment,
        timeout=600,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure one kind, and say it as JSON."""
    kind, model, repeats, clips = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    step = {"onnx": _onnx, "torch": _torch}[kind](model, clips)
    times = []
    for index in range(_WARM + repeats):
        began = time.perf_counter()
        step()
        if index >= _WARM:
            times.append(time.perf_counter() - began)
    sys.stdout.write(json.dumps({"step_s": float(np.median(times)), "peak_bytes": _peak_bytes()}) + "\n")


def _peak_bytes() -> int:
    """Most memory that was resident; what rusage says begins with that of the process which started this."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) * 1024


def _media(heads: Any, clips: int, patches: Callable[[str], tuple[int, int]]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {slot: rng.standard_normal((clips, *patches(slot))).astype(np.float32) for slot in heads}


def _onnx(model: Path, clips: int) -> Callable[[], None]:
    from device_agent.bundle.bundle import load_bundle
    from device_agent.cotrain.head import learning_heads
    from device_agent.cotrain.optimiser import AdamW, clip

    bundle = load_bundle(model / "bundle")
    heads = learning_heads(bundle)
    optimiser = AdamW({f"{s}.{n}": w for s, h in heads.items() for n, w in h.weights.items()}, 0.01)
    media = _media(heads, clips, lambda slot: heads[slot].features_shape)
    rng = np.random.default_rng(1)

    def step() -> None:
        gradients = {}
        for slot, head in heads.items():
            x_BTC = head.forward(media[slot], _LENGTH)
            g_BTC = rng.standard_normal(x_BTC.shape).astype(np.float32)
            for name, each in head.gradient(media[slot], _LENGTH, g_BTC).items():
                gradients[f"{slot}.{name}"] = each
        clip(gradients, 1.0)
        optimiser.step(gradients, 1e-4)

    return step


def _torch(model: Path, clips: int) -> Callable[[], None]:
    import torch

    from edge_server.model.config import HeadConfig
    from edge_server.model.head import TransmitterHead

    torch.set_num_threads(1)
    told = json.loads((model / "model.json").read_text(encoding="utf-8"))
    shapes: dict[str, tuple[int, int]] = json.loads(sys.argv[5])
    # Nothing but heads: a device has no encoder to train, and no half of the edge's.
    lengths = tuple(told["token_lengths"])
    heads = {
        slot: TransmitterHead(HeadConfig(**told["head"]), *shape, told["channel_dim"], lengths)
        for slot, shape in shapes.items()
    }
    parameters = [each for head in heads.values() for each in head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4)
    media = {slot: torch.from_numpy(x) for slot, x in _media(heads, clips, shapes.__getitem__).items()}
    generator = torch.Generator().manual_seed(1)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        for slot, head in heads.items():
            x_BTC = head(media[slot], _LENGTH)
            x_BTC.backward(torch.randn(x_BTC.shape, generator=generator))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    return step


if __name__ == "__main__":
    main()
