"""Power for the channel and back: feature tokens are sent at unit power, their scale goes along as a phase.

A codeword has Es = 1 per complex symbol; a language model needs its feature tokens at the scale that its
connector gave them. Each token gets one more complex symbol, of unit energy, whose phase in (0, pi) says the
logarithm of the block's root mean square within a known range. All tokens of a block repeat it: what a
receiver averages over T tokens is off by a phase of about ``sqrt(N0 / (2 T))``. On a perfect channel it is
exact to float32, and so are the tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Reals that a sent token has beside its own.
SCALE_REALS = 2
#: The phase stays this share of pi away from both ends: noise must not turn the largest into the smallest.
_MARGIN = 0.1


def add_scale(x_TE: Tensor, log_rms: tuple[float, float]) -> Tensor:
    """Feature tokens [T, E] to a codeword [T, E + 2], mean square 0.5.

    Args:
        x_TE: as a connector gave them.
        log_rms: range of the natural logarithm of a block's root mean square; beyond it counts as its end.
    """
    low, high = log_rms
    rms = x_TE.square().mean().clamp(min=1e-24).sqrt()
    share = ((rms.log() - low) / (high - low)).clamp(0.0, 1.0)
    phase = math.pi * (_MARGIN + (1 - 2 * _MARGIN) * share)
    pilot_2 = torch.stack([phase.cos(), phase.sin()])
    pilot_T2 = pilot_2[None].expand(x_TE.shape[0], SCALE_REALS)
    return torch.cat([x_TE / rms * math.sqrt(0.5), pilot_T2], dim=1)


def take_scale(x_TC: Tensor, log_rms: tuple[float, float], *, exact: bool = True) -> Tensor:
    """A received codeword [T, E + 2] to feature tokens [T, E] at their scale.

    Args:
        x_TC: as it arrived.
        log_rms: range of the scale, as it was sent.
        exact: for a codeword that nothing happened to, False will do: the phase then is its real part's, in
            float32, with operators that devices have.
    """
    low, high = log_rms
    if exact:
        real, imaginary = x_TC[:, -SCALE_REALS:].double().mean(dim=0)
        phase = torch.atan2(imaginary, real)
    else:
        phase = torch.acos(x_TC[0, -SCALE_REALS].clamp(-1.0, 1.0))
    share = (phase / math.pi - _MARGIN) / (1 - 2 * _MARGIN)
    rms = (low + share.clamp(0.0, 1.0) * (high - low)).exp()
    return x_TC[:, :-SCALE_REALS] * (rms * math.sqrt(2.0)).to(x_TC.dtype)
