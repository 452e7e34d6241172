from __future__ import annotations

import base64
import io
import math
import re

import numpy as np
import pytest
from PIL import Image

from edge_server.cell import DeviceStatus
from edge_server.cell.grant import CellConfig, make_grant
from edge_server.frontdoor.ports import BlockCost, LinkSettings
from edge_server.ui import markup
from edge_server.ui.pictures import constellation, heatmap, over_subcarriers, sparkline
from edge_server.ui.trial import Codeword, bill_of_clip, bill_of_tokens
from edge_server.ui.watch import RecentAnswer

COST = BlockCost("video", 2, 9.0, 4, 4e-6, 16)


def pixels(url: str) -> np.ndarray:  # type: ignore[type-arg]
    assert url.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_a_heatmap_has_a_pixel_per_value_and_its_sign_as_colour() -> None:
    shown = pixels(heatmap(np.array([[-5.0, 0.0, 5.0], [1.0, -1.0, 0.0]], np.float32)))
    assert shown.shape == (2, 3, 4)
    red, _, blue, opacity = (shown[..., part].astype(int) for part in range(4))
    sign = np.sign(red - blue) * (opacity > 0)
    assert (sign == [[-1, 0, 1], [1, -1, 0]]).all(), "zero is what lies behind, light or dark"
    assert opacity[0].tolist() == [255, 0, 255]
    assert 0 < opacity[1, 0] == opacity[1, 1] < 255


def test_symbols_are_where_they_are_in_the_plane() -> None:
    sent = np.array([[1.0, -0.5, 0.25, 2.0]], np.float32)
    drawn = constellation(sent, sent * 9, "a label")
    assert 'class="sent" d="M1.00 -0.25h0M-0.50 -2.00h0"' in drawn
    received = re.search(r'class="received" d="([^"]*)"', drawn)
    assert received is not None
    assert received[1] == "M2.50 -2.25h0M-2.50 -2.50h0", "what lies outside is drawn at the edge"
    assert 'aria-label="a label"' in drawn


def test_symbols_of_each_part_of_the_band_have_a_colour() -> None:
    """Ten subcarriers in five parts; every symbol is in one of them."""
    sent = np.arange(40, dtype=np.float32).reshape(2, 20) / 40
    subcarrier_TS = np.arange(20).reshape(2, 10) % 10
    drawn = constellation(sent, sent, "a label", subcarrier_TS)
    parts = re.findall(r'class="received (band\d)" d="([^"]*)"', drawn)
    assert [name for name, _ in parts] == [f"band{part}" for part in range(5)]
    assert [dots.count("h0") for _, dots in parts] == [4] * 5
    assert parts[1][1].startswith(f"M{2 / 40:.2f} {-12 / 40:.2f}h0"), "subcarriers 2 and 3"
    shown = markup.pictures(Codeword(sent, sent, COST, subcarrier_TS))
    assert '<span class="tl-key band4">8 to 9</span>' in shown
    assert 'class="tl-key received"' not in shown
    one = constellation(sent, sent, "a label", np.zeros((2, 10), np.int64))
    assert one.count('class="received band') == 1, "a band of one subcarrier has no parts"


def test_a_sparkline_of_nothing_is_flat() -> None:
    assert "<rect" not in sparkline([0, 0], "x")
    assert sparkline([0, 2, 1], "x").count("<rect") == 2


def test_what_the_channel_added_is_measured() -> None:
    sent = np.full((2, 4), 1.0, np.float32)
    assert Codeword(sent, sent + 0.1, COST).error_db == pytest.approx(-20.0, abs=1e-4)
    assert Codeword(sent, sent, COST).error_db == -math.inf
    shown = markup.pictures(Codeword(sent, sent * 1.1, COST))
    assert shown.count("<img") == 3
    assert all(alt for alt in re.findall(r'alt="([^"]*)"', shown))
    assert "what was added is 20.0\u00a0dB weaker than the tokens" in shown


def test_the_clip_is_billed_at_capacity() -> None:
    assert bill_of_tokens((COST, COST)).size_bytes == 32
    # At 0 dB a use carries log2(1 + 1) = 1 bit.
    bill = bill_of_clip(1000, LinkSettings(channel="awgn", snr_db=0.0, bandwidth_hz=1e6))
    assert (bill.size_bytes, bill.channel_uses, bill.airtime_s) == (1000, 8000, 8e-3)
    assert bill_of_clip(1000, LinkSettings(channel="none")).channel_uses is None
    assert "31×" in markup.comparison(bill_of_tokens((COST, COST)), bill, "clip")


def test_names_of_strangers_are_shown_not_run() -> None:
    evil = "<img src=x onerror=alert(1)>"
    grant = make_grant(CellConfig(), 10.0, (8, 16, 32))
    devices = [DeviceStatus(evil, "asking", 3.0, grant, 1, 500, 0.0)]
    answer = RecentAnswer(evil, (1,), ((evil, 4),), evil, 0.5, 0.0, 0.1, 0.0)
    for shown in (markup.devices_table(devices), markup.recent_answers([answer], lambda ids: evil, 5.0)):
        assert "<img" not in shown
        assert "&lt;img" in shown


def test_many_devices_are_counted_not_all_shown() -> None:
    grant = make_grant(CellConfig(), 10.0, (8, 16, 32))
    devices = [DeviceStatus(f"d{n}", "idle", 3.0, grant, 0, 0, float(n)) for n in range(130)]
    shown = markup.devices_table(devices)
    assert shown.count("<tr>") == 101
    assert "and 30 more" in shown
    assert "16 of 32" in shown
    assert "2×" in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "–"),
        (1e-5, "10\u00a0µs"),
        (0.0123, "12.3\u00a0ms"),
        (2.5, "2.5\u00a0s"),
        (600, "10\u00a0min"),
    ],
)
def test_times_have_units_that_suit_them(value: float, shown: str) -> None:
    assert markup.seconds(value) == shown


def test_a_subcarrier_that_was_lost_has_the_tallest_bar() -> None:
    """Three subcarriers in turn: one arrives as sent, one with an error at -15 dB, one not at all."""
    sent = np.ones((2, 6), np.float32)
    subcarrier = np.array([[0, 1, 2], [0, 1, 2]])
    received = sent.copy()
    for first, error in ((1, 10.0 ** (-15.0 / 20.0)), (2, 1.0)):
        received[:, [first, first + 3]] -= np.float32(error)
    drawn = over_subcarriers(sent, received, subcarrier, "error")
    heights = [float(each) for each in re.findall(r'height="([\d.]+)"', drawn)]
    assert heights == pytest.approx([10.0, 20.0], abs=0.01)
    assert 'viewBox="0 0 3 20"' in drawn
