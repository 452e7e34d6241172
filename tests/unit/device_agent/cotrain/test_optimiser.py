"""AdamW in numpy beside torch's own."""

from __future__ import annotations

import numpy as np
import torch

from device_agent.cotrain.optimiser import BETAS, AdamW, clip


def test_it_moves_as_torchs_does() -> None:
    rng = np.random.default_rng(0)
    shapes = {"matrix": (5, 3), "vector": (4,)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    copies = {name: torch.nn.Parameter(torch.tensor(each)) for name, each in weights.items()}
    theirs = torch.optim.AdamW(
        [
            {"params": [copies["matrix"]], "weight_decay": 0.1},
            {"params": [copies["vector"]], "weight_decay": 0.0},
        ],
        lr=1.0,
        betas=BETAS,
    )
    ours = AdamW(weights, 0.1)
    for step in range(50):
        rate = 1e-2 * (1 + step % 3)
        gradients = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        for group in theirs.param_groups:
            group["lr"] = rate
        for name, copy in copies.items():
            copy.grad = torch.tensor(gradients[name])
        theirs.step()
        ours.step(gradients, rate)
    for name, copy in copies.items():
        np.testing.assert_allclose(weights[name], copy.detach().numpy(), rtol=2e-5, atol=2e-6)


def test_it_goes_on_from_what_was_kept() -> None:
    rng = np.random.default_rng(0)
    first = AdamW({"w": np.ones(3, np.float32)}, 0.0)
    gradients = [{"w": rng.standard_normal(3).astype(np.float32)} for _ in range(6)]
    for each in gradients[:3]:
        first.step(each, 0.1)
    second = AdamW({"w": first.weights["w"].copy()}, 0.0)
    second.restore(dict(first.state()), first.steps)
    for each in gradients[3:]:
        first.step(each, 0.1)
        second.step(each, 0.1)
    np.testing.assert_array_equal(first.weights["w"], second.weights["w"])


def test_clipping_bounds_all_together() -> None:
    gradients = {"a": np.full(4, 3.0, np.float32), "b": np.full(4, 4.0, np.float32)}
    assert abs(clip(gradients, 1.0) - 10.0) < 1e-5
    norm = sum(float(np.vdot(each, each)) for each in gradients.values()) ** 0.5
    assert 0.999 < norm <= 1.0
    assert clip(gradients, 5.0) <= 1.0
