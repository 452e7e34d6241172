"""Applying a channel and undoing it: operators only, so numpy arrays and torch tensors both work.

    x ─to_symbols─▶ s ─apply(h, w, n0)─▶ y = h s + sqrt(n0) w ─equalize─▶ s_hat ─▶ x_hat

Sampling h and w is the caller's (:mod:`device_agent.channel.sampling` for numpy; the trainer draws its own
with a ``torch.Generator``). Everything broadcasts: h of [B, 1, 1] is block fading over [B, T, C/2], h of
[B, T, C/2] is fast fading; n0 is a float or an array that broadcasts likewise. In torch everything is
differentiable.

Shapes: B codewords, T token_length, C channel_dim.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Signal: TypeAlias = Any
"""A numpy array or a torch tensor; a module that imports neither cannot name them."""


def n0_from_snr_db(snr_db: Signal) -> Signal:
    """Noise power per complex symbol at unit symbol energy: N0 = 10^(-snr_db / 10).

    Args:
        snr_db: Es/N0 [dB], float, array or tensor.
    """
    return 10.0 ** (snr_db * -0.1)


def to_symbols(x: Signal) -> Signal:
    """Complex symbols of a token block: the first half of channel_dim real parts, the second imaginary.

    Args:
        x: [..., T, C] reals, C even.

    Returns:
        [..., T, C/2] complex.
    """
    half = x.shape[-1] // 2
    return x[..., :half] + 1j * x[..., half:]


def power(h: Signal) -> Signal:
    """|h|^2 of each element, real, same shape."""
    return (h * h.conj()).real


def apply(s: Signal, h: Signal, w: Signal, n0: Signal) -> Signal:
    """What arrives: y = h s + sqrt(n0) w.

    The noise is scaled by ``n0`` alone, never by the measured power of ``s``: a transmitter that sends too
    little power is punished, as on the air.

    Args:
        s: [..., T, C/2] complex, Es = 1 by the transmitter.
        h: complex gain, broadcasts against ``s``.
        w: CN(0, 1), shape of ``s``.
        n0: noise power per complex symbol, broadcasts against ``s``.
    """
    return h * s + n0**0.5 * w


def equalize_mmse(y: Signal, h: Signal, n0: Signal) -> Signal:
    """Minimum mean square error estimate of unit-energy symbols: conj(h) y / (|h|^2 + n0).

    Biased towards zero when the channel is bad, which is what makes its error smallest: for Gaussian
    symbols the error is n0 / (|h|^2 + n0) of the variance.
    """
    return h.conj() * y / (power(h) + n0)


def token_snr(gamma: Signal, *, zero_forcing: bool = False) -> Signal:
    """Es/N0 of each token after equalisation, linear: of one gain for all that would leave as much error.

    MMSE leaves of a unit-energy symbol an error of variance 1 / (1 + gamma), zero-forcing one of 1 / gamma.
    Errors of a token's symbols are averaged, and the mean is told as the SNR that it belongs to; gamma itself
    where all are alike. MMSE's mean shrinking, gamma / (1 + gamma), is that of this SNR too.

    Args:
        gamma: |h|^2 / n0 of each symbol, above 0, [..., T, C/2].
        zero_forcing: how they are equalised; else by MMSE.

    Returns:
        [..., T].
    """
    error = 1.0 / (gamma + (0.0 if zero_forcing else 1.0))
    return (gamma * error).mean(-1) / error.mean(-1)


def equalize_zf(y: Signal, h: Signal) -> Signal:
    """Zero-forcing: y / h. Unbiased, but in a deep fade the noise explodes."""
    return y / h
