"""Block error rates of 5G LDPC codes with QAM, by Monte Carlo.

    bits ─▶ LDPC (TS 38.212) ─▶ rate matching ─▶ Gray QAM ─▶ h s + sqrt(n0) w ─▶ soft demapping ─▶ decoding

Code, mapping and demapping are Sionna's (``sionna-no-rt`` 2.x); the channel is the project's own
(:mod:`device_agent.channel`), with perfect CSI. A block is lost when any of its bits is wrong: the receiver
is taken to notice without spending bits on a CRC, which favours the digital baselines.

Shapes: B blocks, S symbols (channel uses), K information bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from device_agent.channel import (
    apply,
    channel_model,
    equalize_zf,
    n0_from_snr_db,
    power,
    sample_gain,
    sample_noise,
)
from edge_server.errors import ConfigurationError
from edge_server.study.digital.codes import snr_db_of_capacity
from edge_server.study.digital.error_table import ErrorTable, Waterfall
from edge_server.study.digital.mcs import MCS_TABLE, Mcs

Kind: TypeAlias = Literal["awgn", "rayleigh"]
"""``awgn``, or ``rayleigh`` with a gain per symbol. Block fading is ``awgn`` at the instantaneous SNR."""

_MIN_MOTHER_RATE = 5
#: Iterations between two looks at which blocks are through.
_ITERATIONS_AT_ONCE = 4
_SNR_BOUNDS_DB = (-30.0, 60.0)
_STRIDE = 4
_SEED_OFFSET = 1000
"""Seeds are not negative, SNRs may be."""


@dataclass(frozen=True)
class Effort:
    """How long to simulate."""

    blocks: int = 300
    """Most blocks per point; the smallest rate that can be seen is one in so many."""
    errors: int = 30
    """A point is done at so many lost blocks: their share is then known to about 1 / sqrt(errors)."""
    batch: int = 50
    """Blocks decoded together."""
    iterations: int = 20
    """Of belief propagation, at most."""
    step_db: float = 0.5
    """Between two points [dB]."""


def table_settings(seed: int, effort: Effort) -> dict[str, Any]:
    """The settings of a table, kept in its file: the same settings give the same table."""
    return {"seed": seed, **asdict(effort)}


class Codec:
    """One code with its modulation.

    Rates below 1/5, the lowest of base graph 2, are repetition: rate matching reads on from the start of its
    circular buffer (TS 38.212, 5.4.2.1), and the receiver adds up what belongs to the same bit.

    Args:
        mcs: modulation and rate.
        channel_uses: symbols of a codeword.
        iterations: of belief propagation, at most.

    Raises:
        ConfigurationError: Sionna is not installed, or there is no such code.
    """

    def __init__(self, mcs: Mcs, channel_uses: int, iterations: int = 20) -> None:
        self.bits = mcs.bits(channel_uses)
        self.channel_uses = channel_uses
        self.iterations = iterations
        if not self.bits:
            raise ConfigurationError(
                f"channel_uses is {channel_uses}; {mcs.name} has no 5G code of that length"
            )
        parts = sionna()
        ldpc, mapping = parts.ldpc, parts.mapping
        q = mcs.bits_per_symbol
        coded = q * channel_uses
        distinct = min(coded, _MIN_MOTHER_RATE * self.bits)
        self._encoder = ldpc.LDPC5GEncoder(self.bits, distinct, device="cpu", precision="single")
        self._decoder = ldpc.LDPC5GDecoder(
            self._encoder, num_iter=_ITERATIONS_AT_ONCE, return_state=True, device="cpu", precision="single"
        )
        interleaver, _ = self._encoder.generate_out_int(coded, q)
        #: Which bit of the code each sent bit is.
        self._sent = torch.arange(coded)[torch.from_numpy(np.asarray(interleaver, np.int64))] % distinct
        self._mapper = mapping.Mapper("qam", q, device="cpu", precision="single")
        # Gray QAM is two Gray PAMs, one on each axis: 2 x 16 distances instead of 256.
        self._demapper = mapping.Demapper("app", "pam", q // 2, device="cpu", precision="single")

    def encode(self, bits_BK: Tensor) -> Tensor:
        """Information bits to unit-energy symbols, complex64 [B, S]."""
        symbols: Tensor = self._mapper(self._encoder(bits_BK)[:, self._sent])
        return symbols

    def demap(self, s_BS: Tensor, n0_BS: Tensor) -> Tensor:
        """Log-likelihood ratios ln p(1)/p(0) of the sent bits, [B, S * bits_per_symbol].

        Args:
            s_BS: zero-forced symbols.
            n0_BS: noise power of each, broadcasts against ``s_BS``.
        """
        axes = torch.stack([s_BS.real, s_BS.imag], dim=-1) * 2**0.5  # a PAM of its own has unit energy
        n0 = (2 * n0_BS)[..., None].expand_as(axes)
        llr: Tensor = self._demapper(torch.complex(axes, torch.zeros_like(axes)), n0)
        # The first, third ... bit of a symbol are the real axis's, the others the imaginary one's.
        return llr.reshape(*s_BS.shape, 2, -1).transpose(-1, -2).flatten(1)

    def decode_errors(self, llr: Tensor, bits_BK: Tensor) -> int:
        """How many blocks the decoder does not get right."""
        collected = torch.zeros(len(llr), self._encoder.n).index_add_(1, self._sent, llr)
        state = None
        for _ in range(math.ceil(self.iterations / _ITERATIONS_AT_ONCE)):
            decoded, state = self._decoder(collected, msg_v2c=state)
            wrong = (decoded != bits_BK).any(dim=1)
            if not wrong.any():
                return 0
            # Blocks that are through stay so; the receiver's CRC would stop them here as well.
            collected, bits_BK = collected[wrong], bits_BK[wrong]
            state = state[wrong]
        return len(bits_BK)


def simulate(
    codec: Codec, kind: Kind, snr_db: float, rng: np.random.Generator, effort: Effort
) -> tuple[int, int]:
    """Send blocks at one SNR.

    Args:
        codec: code and modulation.
        kind: ``awgn``, or ``rayleigh`` with a gain per symbol.
        snr_db: mean Es/N0 [dB].
        rng: where bits, gains and noise come from.
        effort: when to stop.

    Returns:
        Lost blocks, sent blocks.
    """
    n0 = float(n0_from_snr_db(snr_db))
    shape = (effort.batch, 1, codec.channel_uses)
    lost = sent = 0
    while sent < effort.blocks and lost < effort.errors:
        bits = torch.from_numpy(rng.integers(0, 2, (effort.batch, codec.bits)).astype(np.float32))
        s = codec.encode(bits).numpy()[:, None, :]
        h = np.broadcast_to(sample_gain(channel_model(kind), "fast", shape, rng), shape)
        y = apply(s, h, sample_noise(shape, rng), n0)
        equalised = torch.from_numpy(equalize_zf(y, h)[:, 0].astype(np.complex64))
        llr = codec.demap(equalised, torch.from_numpy((n0 / power(h))[:, 0].astype(np.float32)))
        lost += codec.decode_errors(llr, bits)
        sent += effort.batch
    return lost, sent


def waterfall(mcs: Mcs, channel_uses: int, kind: Kind, seed: int, effort: Effort) -> Waterfall:
    """Block error rate over SNR, from where everything is lost to where nothing was.

    Points are multiples of ``effort.step_db``, found by walking up and down from where an ideal code would
    begin to get through. Each has its own random numbers, so it does not depend on the others.
    """
    codec = Codec(mcs, channel_uses, effort.iterations)
    ideal_db = snr_db_of_capacity(mcs.efficiency, "fast" if kind == "rayleigh" else "block")
    start = round((ideal_db + 1.0) / effort.step_db)
    points: dict[int, tuple[int, int]] = {}

    def lost_share(index: int) -> float:
        code = (mcs.bits_per_symbol, mcs.rate_1024, channel_uses, get_args(Kind).index(kind))
        rng = np.random.default_rng([seed, *code, index + _SEED_OFFSET])
        points[index] = simulate(codec, kind, index * effort.step_db, rng, effort)
        return points[index][0] / points[index][1]

    # In strides to where something gets through, in steps to where nothing is lost, then back down.
    low, high = (round(bound / effort.step_db) for bound in _SNR_BOUNDS_DB)
    first = start
    while lost_share(first) >= 1.0 and first < high:
        first += _STRIDE
    index = first
    while index < high and points[index][0]:
        index += 1
        lost_share(index)
    index = first
    while index > low and points[index][0] < points[index][1]:
        index -= 1
        if index not in points:
            lost_share(index)
    points = {i: point for i, point in points.items() if i >= index}
    ordered = sorted(points)
    return Waterfall(
        snr_db=tuple(i * effort.step_db for i in ordered),
        lost=tuple(points[i][0] for i in ordered),
        blocks=tuple(points[i][1] for i in ordered),
    )


def build_table(
    table: ErrorTable,
    channel_uses: Iterable[int] = (64, 128, 256, 512),
    seed: int = 0,
    effort: Effort | None = None,
    schemes: Iterable[Mcs] = MCS_TABLE,
) -> None:
    """Simulate what a table lacks, under a progress bar, and save it after each entry.

    Args:
        table: filled in place.
        channel_uses: lengths of the codewords [symbols].
        seed: of bits, gains and noise.
        effort: how long to simulate.
        schemes: modulations and rates; those that have no code of a length are left out.
    """
    effort = effort or Effort()
    kinds: tuple[Kind, ...] = get_args(Kind)
    wanted = [
        (mcs, uses, kind) for kind in kinds for uses in channel_uses for mcs in schemes if mcs.bits(uses)
    ]
    for mcs, uses, kind in track(wanted, description="channel codes"):
        if table.get(kind, uses, mcs) is None:
            table.put(kind, uses, mcs, waterfall(mcs, uses, kind, seed, effort))
            table.save()


@dataclass(frozen=True)
class Sionna:
    """Its modules that are used here."""

    ldpc: Any
    mapping: Any
    crc: Any


def sionna() -> Sionna:
    """Sionna, imported where it is first needed.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        # On import Sionna seeds torch's own generator anew, which would change whatever else draws from it.
        with torch.random.fork_rng(devices=[]):
            from sionna.phy import mapping
            from sionna.phy.fec import crc, ldpc
    except ImportError as error:
        raise ConfigurationError(
            "sionna is not installed; simulating channel codes needs the extra: pip install "
            "'tokenlink[evaluation]'"
        ) from error
    return Sionna(ldpc, mapping, crc)
