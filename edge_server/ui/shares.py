"""Who has what of the cell: bandwidth, power and tokens of every device, side by side in three bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from edge_server.cell import DeviceStatus

#: Bars hold as many parts as can be told apart; the others are one part.
_SHOWN = 24
#: Hues next to each other differ as much as they can: the golden angle [degrees].
_TURN = 137.508


def hertz(value: float) -> str:
    """A bandwidth in a unit that suits it."""
    if value < 1e6:
        return f"{value / 1e3:.3g}\u00a0kHz"
    return f"{value / 1e6:.3g}\u00a0MHz"


def power_of(device: DeviceStatus) -> float:
    """Transmit power up to a factor that is the same for all: energy of a symbol times symbols per second."""
    grant = device.grant
    return float(10.0 ** (grant.tx_power_db / 10.0) * grant.bandwidth_hz)


def is_shared_out(devices: Sequence[DeviceStatus]) -> bool:
    """Whether there is an allocation: only then a grant bounds channel uses."""
    return any(device.grant.channel_uses for device in devices)


def stacked(devices: Sequence[DeviceStatus]) -> str:
    """Three bars, a part in each for every device that was heard of lately; under them who is who."""
    present = sorted(
        (device for device in devices if device.state != "silent"), key=lambda device: device.device_id
    )
    if not present:
        return '<p class="tl-note">No device takes part.</p>'
    bars = (
        (
            "Bandwidth",
            lambda device: device.grant.bandwidth_hz,
            lambda device: hertz(device.grant.bandwidth_hz),
        ),
        ("Power", power_of, lambda device: f"{device.grant.tx_power_db:+.1f}\u00a0dB per symbol"),
        (
            "Tokens",
            lambda device: float(device.grant.token_length),
            lambda device: f"{device.grant.token_length} tokens per modality",
        ),
    )
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{_bar(present, amount, told)}</td></tr>'
        for name, amount, told in bars
    )
    names = "".join(
        f'<li><i style="background:{_colour(index)}"></i>{escape(device.device_id)}'
        f'<span class="tl-dim">{device.snr_db:.0f}\u00a0dB, {hertz(device.grant.bandwidth_hz)}, '
        f"{device.grant.token_length}</span></li>"
        for index, device in enumerate(present[:_SHOWN])
    )
    more = len(present) - _SHOWN
    note = f'<p class="tl-note">and {more} more</p>' if more > 0 else ""
    return f'<table class="tl-shares"><tbody>{rows}</tbody></table><ul class="tl-keys">{names}</ul>{note}'


def _bar(
    devices: Sequence[DeviceStatus],
    amount: Callable[[DeviceStatus], float],
    told: Callable[[DeviceStatus], str],
) -> str:
    total = sum(map(amount, devices)) or 1.0
    parts = [
        f'<span style="width:{100.0 * amount(device) / total:.2f}%;background:{_colour(index)}" '
        f'title="{escape(device.device_id)}: {told(device)}"></span>'
        for index, device in enumerate(devices[:_SHOWN])
    ]
    rest = sum(map(amount, devices[_SHOWN:]))
    if rest:
        parts.append(f'<span style="width:{100.0 * rest / total:.2f}%" title="all others"></span>')
    return f'<span class="tl-stack">{"".join(parts)}</span>'


def _colour(index: int) -> str:
    return f"hsl({index * _TURN % 360.0:.0f} 58% 52%)"
