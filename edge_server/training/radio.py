"""The channel as the trainer sees it: the device's own convention, differentiable, a draw per row.

Sampling is torch's here; what is done with the samples is :mod:`device_agent.channel.application`, the same
functions that run on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from device_agent.channel import (
    SnrPer,
    apply,
    channel_model,
    equalize_mmse,
    gain_shapes,
    n0_from_snr_db,
    power,
    to_symbols,
    token_snr,
)
from device_agent.channel.csi import expected_power
from protos.names import MAX_SNR_DB, MIN_SNR_DB, ChannelName, FadingName


@dataclass(frozen=True)
class RadioTraining:
    """Which channels training goes through."""

    snr_db: tuple[float, float] = (-12.0, 22.0)
    """Bounds of the SNR, drawn uniformly for each row [dB]."""
    odds: tuple[tuple[ChannelName, FadingName, float], ...] = (
        ("awgn", "block", 0.5),
        ("rayleigh", "block", 0.25),
        ("rayleigh", "fast", 0.15),
        ("none", "block", 0.1),
    )
    """Channel model, fading, and how often a step uses it."""
    pilots: int | None = field(default=None, metadata={"identity_if_set": True})
    """Pilots from which gains that fade are estimated; None: all gains are known."""
    snr_per: SnrPer | None = field(default=None, metadata={"identity_if_set": True})
    """``token``: receivers are told the SNR of each token; else that of each codeword."""

    def draw(self, batch: int, generator: torch.Generator) -> tuple[ChannelName, FadingName, Tensor]:
        """A channel for a step, and an SNR for each row, [B] [dB]."""
        odds = torch.tensor([odds for _, _, odds in self.odds])
        model, fading, _ = self.odds[int(torch.multinomial(odds, 1, generator=generator))]
        low, high = self.snr_db
        return model, fading, low + (high - low) * torch.rand(batch, generator=generator)


def transmit(
    x_BTC: Tensor,
    model: ChannelName,
    fading: FadingName,
    snr_db_B: Tensor,
    generator: torch.Generator,
    used_BT: Tensor | None = None,
    pilots: int | None = None,
    snr_per: SnrPer | None = None,
) -> tuple[Tensor, Tensor]:
    """Send a batch of codewords and equalise what arrives (MMSE).

    Args:
        x_BTC: unit-energy codewords, [B, T, C].
        model: a name in :data:`device_agent.channel.MODELS`; its parameters have their defaults.
        fading: one gain per codeword or per symbol.
        snr_db_B: Es/N0 of each row [dB].
        generator: where gains and noise come from.
        used_BT: 1 where a codeword has a token, 0 where it is padded; None where none is.
        pilots: from which each gain that fades is estimated, as on the device; None: gains are known.
        snr_per: whether the SNR of each token is told, as the device's setting; None: that of each row.

    Returns:
        Equalised reals [B, T, C], and the effective SNR of each row [B], or of each token [B, T] [dB].

    Raises:
        ConfigurationError: there is no such channel model.
    """
    snr_db_B = snr_db_B.to(x_BTC.device)
    kind = channel_model(model)
    if kind.perfect:
        return x_BTC, torch.full_like(snr_db_B, MAX_SNR_DB)
    s = to_symbols(x_BTC)
    n0 = n0_from_snr_db(snr_db_B)[:, None, None]
    draws = _TorchDraws(generator, s.device)
    h = kind.sample(draws, *gain_shapes(tuple(s.shape), fading, selective=kind.selective))
    y = apply(s, h, draws.normal(tuple(s.shape)), n0)
    gain = power(h)
    if pilots is not None and kind.fades:
        # Least squares from symbols of unit energy: each estimate has noise of n0 / pilots of its own.
        h = h + (n0 / pilots) ** 0.5 * draws.normal(tuple(h.shape))
        told = expected_power(h.cpu().numpy(), n0.double().cpu().numpy(), pilots, *kind.paths())
        gain = torch.as_tensor(told, dtype=torch.float32, device=s.device)
    s_hat = equalize_mmse(y, h, n0)
    gain_BTS = gain.expand(s.shape)
    x_hat_BTC = torch.cat([s_hat.real, s_hat.imag], dim=-1)
    if snr_per == "token" and gain.shape == s.shape:
        told_BT = 10 * torch.log10(token_snr(gain_BTS.clamp(min=1e-12) / n0))
        return x_hat_BTC, told_BT.clamp(MIN_SNR_DB, MAX_SNR_DB)
    gain_B = gain_BTS.mean(dim=(1, 2))
    if used_BT is not None:
        gain_B = (gain_BTS.mean(dim=2) * used_BT).sum(dim=1) / used_BT.sum(dim=1)
    gain_db = 10 * torch.log10(gain_B.clamp(min=1e-12))
    return x_hat_BTC, (snr_db_B + gain_db).clamp(MIN_SNR_DB, MAX_SNR_DB)


class _TorchDraws:
    """Implements :class:`device_agent.channel.models.Draws`.

    Everything is drawn where the generator is, so that a run draws the same on any device.
    """

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self._generator, self._device = generator, device

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """CN(0, 1)."""
        parts = torch.randn((2, *shape), generator=self._generator) * 0.5**0.5
        return torch.complex(parts[0], parts[1]).to(self._device)

    def phasor(self, shape: tuple[int, ...]) -> Tensor:
        """e^(j phi)."""
        angle = 2.0 * torch.pi * torch.rand(shape, generator=self._generator)
        return torch.polar(torch.ones(shape), angle).to(self._device)

    def ones(self, shape: tuple[int, ...]) -> Tensor:
        """1, complex."""
        return torch.ones(shape, dtype=torch.complex64, device=self._device)

    def constant(self, values: npt.NDArray[np.float64]) -> Tensor:
        """In single precision."""
        return torch.as_tensor(values, dtype=torch.float32, device=self._device)

    def turned(self, angles: Tensor) -> Tensor:
        """e^(j angle)."""
        return torch.polar(torch.ones_like(angles), angles)
