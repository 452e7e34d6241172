"""One gradient of many, and who is left out of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edge_server.cotrain.aggregate import Watch, WatchSettings, aggregate

SIZE = 400


def gradients(generator: torch.Generator, truth: Tensor, devices: int) -> dict[str, Tensor]:
    return {f"device {i}": truth + 3.0 * torch.randn(SIZE, generator=generator) for i in range(devices)}


def test_the_mean_is_weighted() -> None:
    found = aggregate({"a": torch.zeros(3), "b": torch.ones(3)}, {"a": 1.0, "b": 3.0}, "mean")
    torch.testing.assert_close(found, torch.full((3,), 0.75))


def test_a_trimmed_mean_does_not_look_at_the_ends() -> None:
    several = {str(i): torch.full((3,), float(i)) for i in range(5)} | {"4": torch.full((3,), 1e9)}
    found = aggregate(several, dict.fromkeys(several, 1.0), "trimmed")
    torch.testing.assert_close(found, torch.full((3,), 2.0))


@pytest.mark.parametrize("how", ["scaled", "flipped"])
def test_a_poisoner_is_named_and_nobody_else(how: str) -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(SIZE, generator=generator)
    watch = Watch()
    for _ in range(60):
        found = gradients(generator, truth, 6)
        found["device 0"] = found["device 0"] * 50.0 if how == "scaled" else found["device 0"] - 2.0 * truth
        kept = watch.look(found)
        longest = max(float(g.norm()) for name, g in found.items() if name != "device 0")
        assert all(float(g.norm()) <= 4.5 * longest for g in kept.values())
    assert list(watch.named) == ["device 0"]
    assert ("longer" if how == "scaled" else "against") in watch.named["device 0"]
    assert "device 0" not in watch.look(found)


def test_honest_devices_of_other_worlds_are_not_named() -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(SIZE, generator=generator)
    own = {f"device {i}": torch.randn(SIZE, generator=generator) for i in range(6)}
    watch = Watch()
    for _ in range(80):
        found = gradients(generator, truth, 6)
        watch.look({name: g + own[name] for name, g in found.items()})
    assert not watch.named


def test_a_device_that_still_learns_where_the_others_are_done_is_not_named() -> None:
    """Mean gradients add up to nothing there: its own is the opposite of what the others' are together."""
    generator = torch.Generator().manual_seed(2)
    learning = 0.5 * torch.randn(SIZE, generator=generator)
    watch = Watch()
    for _ in range(120):
        found = gradients(generator, -learning / 5, 6)
        found["device 0"] += learning / 5 + learning
        watch.look(found)
    assert not watch.named


def test_where_the_others_are_done_an_honest_gradient_is_not_too_long() -> None:
    generator = torch.Generator().manual_seed(3)
    watch = Watch()
    for step in range(120):
        found = {name: g * 0.95**step for name, g in gradients(generator, torch.ones(SIZE), 6).items()}
        found["device 0"] = found["device 0"] / 0.95**step * 0.5
        watch.look(found)
    assert not watch.named


def test_two_devices_cannot_be_told_apart() -> None:
    watch = Watch(WatchSettings(least_steps=2))
    for _ in range(10):
        kept = watch.look({"a": torch.ones(4), "b": -torch.ones(4)})
    assert set(kept) == {"a", "b"}
    assert not watch.named
