"""The bars of who has what of the cell."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from edge_server.cell import CellConfig, DeviceStatus
from edge_server.cell.grant import make_grant
from edge_server.ui.shares import hertz, is_shared_out, power_of, stacked

USUAL = make_grant(CellConfig(), 10.0, (8, 16))


def device(name: str, bandwidth_hz: float, tx_power_db: float, token_length: int) -> DeviceStatus:
    grant = replace(
        USUAL,
        bandwidth_hz=bandwidth_hz,
        tx_power_db=tx_power_db,
        token_length=token_length,
        channel_uses=token_length * 32,
    )
    return DeviceStatus(name, "asking", 10.0, grant, 1, 100, 0.0)


def widths(shown: str) -> list[list[float]]:
    bars = re.findall(r'class="tl-stack">(.*?)</span></td>', shown)
    return [[float(part) for part in re.findall(r"width:([\d.]+)%", bar)] for bar in bars]


def test_bars_are_as_long_as_the_shares() -> None:
    near, far = device("near", 3e5, 0.0, 4), device("far", 1e5, 10.0, 12)
    assert power_of(far) == pytest.approx(10.0 / 3.0 * power_of(near))
    bandwidth, power, tokens = widths(stacked([near, far]))
    assert bandwidth == [25.0, 75.0]
    assert power == pytest.approx([76.92, 23.08], abs=0.01)
    assert tokens == [75.0, 25.0]


def test_more_devices_than_colours_are_one_part() -> None:
    shown = stacked([device(f"device-{n:02}", 1e5, 0.0, 8) for n in range(30)])
    assert "and 6 more" in shown
    for bar in widths(shown):
        assert len(bar) == 25
        assert sum(bar) == pytest.approx(100.0, abs=0.2)


def test_a_silent_device_has_no_part_and_a_name_is_no_markup() -> None:
    silent = replace(device("silent", 1e5, 0.0, 8), state="silent")
    shown = stacked([silent, device("<b>evil", 1e5, 0.0, 8)])
    assert "silent" not in shown
    assert "<b>" not in shown
    assert "No device takes part" in stacked([silent])


def test_without_an_allocation_there_is_nothing_to_show() -> None:
    one = device("near", 3e5, 0.0, 4)
    assert is_shared_out([one])
    assert not is_shared_out([replace(one, grant=USUAL)])
    assert not is_shared_out([])


@pytest.mark.parametrize(("value", "shown"), [(41_700.0, "41.7\u00a0kHz"), (4e6, "4\u00a0MHz")])
def test_bandwidths_have_a_unit_that_suits_them(value: float, shown: str) -> None:
    assert hertz(value) == shown
