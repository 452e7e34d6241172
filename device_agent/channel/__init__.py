"""The radio channel: emulated by the device, differentiated through by the trainer. One convention.

- A *codeword* is the token block of one modality of one question, x_TC: [token_length, channel_dim] reals.
- Two reals make one complex symbol: the first half of channel_dim holds real parts, the second half
  imaginary parts, s = x[..., :C/2] + 1j x[..., C/2:]. ``channel_uses`` counts symbols.
- Symbols have Es = 1 on average over the codeword, mean(x**2) == 0.5. **The transmitter** sees to it,
  before the channel. Noise is never scaled by the measured power of what was sent.
- ``snr_db`` is Es/N0, N0 = 10^(-snr_db / 10); y = h s + sqrt(N0) w, w ~ CN(0, 1): N0/2 per dimension.
- A granted power is a gain on the symbols, after that and before the channel: h takes it in.
- Fading has E|h|^2 = 1: ``block`` has one gain per codeword, ``fast`` one per symbol.
- CSI is ``perfect`` or ``estimated`` from pilots that cost channel uses.
- Equalisation is MMSE, conj(h) y / (|h|^2 + N0), unless zero-forcing is chosen.
- The receiver is told ``effective_snr_db`` = snr_db + 10 log10(mean |h|^2 over the codeword), within
  [-30, 40]. Of a gain that is estimated, |h|^2 is its mean given the estimate, which follows the link and
  never the estimate's own noise (:func:`device_agent.channel.csi.expected_power`). Without a channel, 40.
  Where gains differ within the codeword it can be told of each token besides, by the mean error of its
  symbols (:func:`device_agent.channel.application.token_snr`).
- Tapped delay lines (TDL) are sent over OFDM: every symbol has the gain of its subcarrier and time. Their
  channel uses hold comb pilots, where gains are estimated, and the cyclic prefix.
- airtime_s = channel_uses / bandwidth_hz; over OFDM, of the subcarriers that fit into it.

How gains fall is a channel *model*'s, one class each (:mod:`device_agent.channel.models`). *Sampling* is per
backend, *application* uses operators only and serves numpy and torch alike.
"""

from __future__ import annotations

from device_agent.channel.application import (
    apply,
    equalize_mmse,
    equalize_zf,
    n0_from_snr_db,
    power,
    to_symbols,
    token_snr,
)
from device_agent.channel.csi import estimate_gain, pilot_uses
from device_agent.channel.link import (
    Channel,
    ChannelConfig,
    EqualizerName,
    Reception,
    SnrPer,
    from_symbols,
)
from device_agent.channel.models import MODELS, ChannelModel, channel_model, register
from device_agent.channel.pacing import Pacer, airtime_s
from device_agent.channel.sampling import gain_shapes, sample_gain, sample_noise
from device_agent.channel.tdl import Tdl
from device_agent.channel.trace import SnrTrace, read_trace

__all__ = [
    "MODELS",
    "Channel",
    "ChannelConfig",
    "ChannelModel",
    "EqualizerName",
    "Pacer",
    "Reception",
    "SnrPer",
    "SnrTrace",
    "Tdl",
    "airtime_s",
    "apply",
    "channel_model",
    "equalize_mmse",
    "equalize_zf",
    "estimate_gain",
    "from_symbols",
    "gain_shapes",
    "n0_from_snr_db",
    "pilot_uses",
    "power",
    "read_trace",
    "register",
    "sample_gain",
    "sample_noise",
    "to_symbols",
    "token_snr",
]
