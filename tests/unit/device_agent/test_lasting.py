"""A clock that no setting moves: within a boot, across boots, with and without a clock battery."""

from __future__ import annotations

import json

import pytest

from device_agent.lasting import LastingClock, boot_clock, this_boot

SET = 1_790_000_000.0
"""A wall clock that was set."""


class Device:
    """The clocks of a machine that boots now and then."""

    def __init__(self, wall_s: float) -> None:
        self.wall_s = wall_s
        self.boot_s = 5.0
        self.boots = 0

    def clock(self) -> LastingClock:
        return LastingClock(
            boot_clock=lambda: self.boot_s, wall_clock=lambda: self.wall_s, boot_id=f"boot {self.boots}"
        )

    def wait(self, seconds: float) -> None:
        self.boot_s += seconds
        self.wall_s += seconds

    def boot(self, off_s: float, *, wall_s: float | None = None) -> None:
        self.boots += 1
        self.boot_s = 3.0
        self.wall_s = self.wall_s + off_s if wall_s is None else wall_s


@pytest.mark.parametrize("jump_s", [SET, -SET / 2, 3600.0])
def test_setting_the_wall_clock_changes_nothing_in_this_process_or_the_next(jump_s: float) -> None:
    device = Device(SET / 2)
    clock = device.clock()
    before_s, anchor = clock(), clock.anchor()
    device.wait(10.0)
    device.wall_s += jump_s
    assert clock() - before_s == pytest.approx(10.0)
    next_process = device.clock()
    assert next_process.resume(anchor)
    assert next_process() - before_s == pytest.approx(10.0)
    assert next_process.wall_s(before_s) == pytest.approx(device.wall_s - 10.0)


def test_time_between_boots_counts_where_the_wall_clock_knows_it() -> None:
    device = Device(SET)
    clock = device.clock()
    before_s = clock()
    device.wait(60.0)
    anchor = clock.anchor()
    device.boot(off_s=600.0)
    after = device.clock()
    assert after.resume(anchor)
    assert after() - before_s == pytest.approx(660.0)


@pytest.mark.parametrize(
    ("then_s", "now_s"), [(100.0, SET), (SET, 100.0), (100.0, 50.0), (SET, SET - 5000.0)]
)
def test_time_between_boots_counts_as_none_where_it_is_not_known(then_s: float, now_s: float) -> None:
    device = Device(then_s)
    clock = device.clock()
    before_s, anchor = clock(), clock.anchor()
    device.boot(0.0, wall_s=now_s)
    after = device.clock()
    assert after.resume(anchor)
    assert after() == pytest.approx(before_s)
    device.wait(7.0)
    assert after() - before_s == pytest.approx(7.0)


def test_a_system_that_does_not_name_its_boots_goes_by_the_wall_clock_between_processes() -> None:
    def clock(wall_s: float) -> LastingClock:
        return LastingClock(boot_clock=lambda: 9.0, wall_clock=lambda: wall_s, boot_id="")

    first, second = clock(SET), clock(SET + 30.0)
    assert second.resume(first.anchor())
    assert second() - first() == pytest.approx(30.0)


@pytest.mark.parametrize(
    "anchor",
    [
        *(b"", b"\xff", b"{}", b"[]", b"null"),
        json.dumps({"boot": "x", "boot_s": "soon", "wall_s": 1, "at_s": 1}).encode(),
        json.dumps({"boot": "x", "boot_s": float("nan"), "wall_s": 1, "at_s": 1}).encode(),
    ],
)
def test_an_anchor_that_says_nothing_leaves_the_clock_as_it_is(anchor: bytes) -> None:
    device = Device(SET)
    clock = device.clock()
    assert not clock.resume(anchor)
    assert clock() == pytest.approx(SET)


def test_the_systems_clocks_are_there() -> None:
    first = boot_clock()
    assert boot_clock() >= first > 0.0
    assert this_boot() == this_boot()
