"""Which windows are shared, and how many bytes of them."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.media.clip import Clip
from device_agent.sharing.budget import HOUR_S, Budget
from device_agent.sharing.gate import Gate, When
from tests.clock import FakeClock

RATE_HZ = 16_000


def picture(level: int, moving: bool = False) -> Clip:
    frames = np.full((8, 72, 120, 3), level, np.uint8)
    if moving:
        for number in range(8):
            frames[number, 20:40, 10 * number : 10 * number + 20] = 255 - level
    return Clip(frames)


def sound(amplitude: float) -> Clip:
    time_s = np.arange(RATE_HZ, dtype=np.float32) / RATE_HZ
    return Clip(None, (amplitude * np.sin(2 * np.pi * 440.0 * time_s)).astype(np.float32))


def noisy(clip: Clip, seed: int = 0) -> Clip:
    """As a sensor sees it: each pixel a little off."""
    assert clip.frames_THWC is not None
    off = np.random.default_rng(seed).normal(0.0, 4.0, clip.frames_THWC.shape)
    return Clip(np.clip(clip.frames_THWC + off, 0, 255).astype(np.uint8))


def passed(when: When, clips: list[Clip]) -> list[bool]:
    gate, found = Gate(when), []
    for clip in clips:
        found.append(gate.passes(clip))
        if found[-1]:
            gate.shared(clip)
    return found


def test_every_window_is_shared_unless_asked_otherwise() -> None:
    assert passed("always", [picture(10), picture(10), sound(0.0)]) == [True] * 3


def test_what_looks_as_before_is_left_out() -> None:
    still = [noisy(picture(100), seed) for seed in range(3)]
    assert passed("changed", [*still, picture(140), picture(140)]) == [True, False, False, True, False]


def test_slow_change_is_noticed_against_what_was_shared() -> None:
    assert passed("changed", [picture(level) for level in range(100, 116, 2)]) == [
        *(True, False, False, True, False, False, True, False),
    ]


def test_what_sounds_otherwise_is_shared() -> None:
    assert passed("changed", [sound(0.1), sound(0.11), sound(0.5), sound(0.0), sound(1e-4)]) == [
        *(True, False, True, True, False),
    ]


def test_motion_is_told_from_noise() -> None:
    clips = [noisy(picture(100)), picture(100, moving=True), picture(100), sound(0.5), sound(0.0)]
    assert passed("motion", clips) == [False, True, False, True, False]


def test_sound_is_told_from_silence() -> None:
    assert passed("sound", [sound(0.0), sound(1e-4), sound(0.1)]) == [False, False, True]
    # A camera without sound is judged by its picture.
    assert passed("sound", [picture(100), picture(100), picture(200)]) == [True, False, True]


@pytest.mark.parametrize("when", ["changed", "motion", "sound"])
def test_anything_that_can_be_decoded_can_be_judged(when: When) -> None:
    gate = Gate(when)
    for clip in (
        Clip(np.zeros((1, 1, 1, 3), np.uint8), is_image=True),
        Clip(np.zeros((3, 400, 20, 3), np.uint8)),
        Clip(None, np.zeros(0, np.float32)),
        Clip(None, np.zeros(7, np.float32)),
        Clip(np.zeros((2, 18, 32, 3), np.uint8), np.zeros(16_000, np.float32)),
    ):
        assert gate.passes(clip) in (True, False)
        gate.shared(clip)


def test_no_hour_takes_more_than_was_allowed() -> None:
    clock = FakeClock()
    budget, spent = Budget(1000, clock), []
    for _ in range(400):
        if budget.allows(90):
            budget.spend(90)
            spent.append(clock.now)
        clock.advance(60.0)
    assert len(spent) > 60
    for start_s in spent:
        assert 90 * sum(start_s <= at_s < start_s + HOUR_S for at_s in spent) <= 1000


def test_a_restart_does_not_begin_a_new_hour() -> None:
    clock = FakeClock()
    budget = Budget(1000, clock)
    budget.spend(900)
    again = Budget(1000, clock)
    again.resume(budget.note())
    assert not again.allows(200)
    clock.advance(HOUR_S + 10.0)
    assert again.allows(200)
    fresh = Budget(1000, clock)
    for note in (b"", b"{", b'{"a": 1}', b'[["x", 1]]'):
        fresh.resume(note)
        assert fresh.allows(1000)


def test_a_clock_that_went_back_keeps_nothing_for_ever() -> None:
    clock = FakeClock(1e9)
    budget = Budget(1000, clock)
    budget.spend(900)
    clock.now = 1000.0
    again = Budget(1000, clock)
    again.resume(budget.note())
    clock.advance(HOUR_S + 10.0)
    assert again.allows(1000)


def test_without_a_bound_everything_goes() -> None:
    budget = Budget(None, FakeClock())
    budget.spend(10**9)
    assert budget.allows(10**9)
