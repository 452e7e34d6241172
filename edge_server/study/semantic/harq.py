"""Hybrid ARQ of one 5G LDPC codeword: further parity with each round, then the same bits again.

    payload, CRC ─▶ LDPC of rate 1/5 ─▶ circular buffer ─▶ next 2L bits ─▶ QPSK ─▶ LLRs added in the buffer
                                            ▲                                        │ CRC fails
                                            └────────────────────────────────────────┘

The buffer is read on from where the last round ended (TS 38.212, 5.4.2.1, with starts of rounds that follow
each other): rounds bring incremental redundancy until all of the mother code was sent, and from there on
repetition, whose LLRs add up (Chase 1985). So any rate below 1/5 is there too. Code and CRC are Sionna's.

Shapes: N blocks, K bits of payload and CRC, B = 5 K bits of the buffer, R rounds, H halves of a burst.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge_server.study.digital.coding import sionna
from edge_server.study.semantic.outage import Delivered, Reals

_MOTHER_RATE = 5
#: Iterations between two looks at the CRC.
_ITERATIONS_AT_ONCE = 5
_AMPLITUDE = 0.5**0.5
"""Of each axis of a QPSK symbol of unit energy."""


@dataclass(frozen=True)
class Received(Delivered):
    """What a decoder made of codewords.

    Attributes:
        llr_NK: ln p(1)/p(0) of the payload, as the decoder had it last.
    """

    llr_NK: Tensor


class HarqCode:
    """One code with its CRC.

    Args:
        bits: of the payload.
        crc: bits of the check: 6, 11, 16 or 24.
        iterations: of belief propagation after each round, at most.

    Raises:
        ConfigurationError: Sionna is not installed.
    """

    def __init__(self, bits: int, crc: int = 16, iterations: int = 20) -> None:
        parts = sionna()
        self.bits = bits
        self.iterations = iterations
        self.length = _MOTHER_RATE * (bits + crc)
        name = {6: "CRC6", 11: "CRC11", 16: "CRC16", 24: "CRC24A"}[crc]
        self._check = parts.crc.CRCEncoder(name, k=bits, device="cpu", precision="single")
        self._checker = parts.crc.CRCDecoder(self._check, device="cpu", precision="single")
        self._encoder = parts.ldpc.LDPC5GEncoder(bits + crc, self.length, device="cpu", precision="single")
        self._decoder = parts.ldpc.LDPC5GDecoder(
            self._encoder,
            num_iter=_ITERATIONS_AT_ONCE,
            hard_out=False,
            return_state=True,
            device="cpu",
            precision="single",
        )

    def encode(self, payload: Tensor) -> Tensor:
        """The whole circular buffer, float32 of zeros and ones, [N, B]."""
        coded: Tensor = self._encoder(self._check(payload))
        return coded

    def passes(self, bits_NK: Tensor) -> npt.NDArray[np.bool_]:
        """Whether the CRC of bits that were decided fits, [N]."""
        _, fits = self._checker(bits_NK)
        return np.asarray(fits.numpy()[:, 0], np.bool_)

    def sent(self, round_: int, uses: int) -> npt.NDArray[np.int64]:
        """Which bits of the buffer a round sends, [2 L]; rounds count from 0."""
        return np.arange(2 * uses * round_, 2 * uses * (round_ + 1)) % self.length

    def decode(self, llr_NB: Tensor) -> tuple[Tensor, npt.NDArray[np.bool_]]:
        """LLRs of payload and CRC, [N, K], and whether the CRC fits, [N]."""
        soft_NK = torch.zeros(len(llr_NB), self._encoder.k)
        done = np.zeros(len(llr_NB), np.bool_)
        active, state = np.arange(len(llr_NB)), None
        for _ in range(math.ceil(self.iterations / _ITERATIONS_AT_ONCE)):
            out, state = self._decoder(llr_NB[active], msg_v2c=state)
            soft_NK[active] = out
            fits = self.passes((out > 0).float())
            done[active[fits]] = True
            active, state = active[~fits], state[torch.from_numpy(~fits)]
            if not len(active):
                break
        return soft_NK, done


def soft_bits(
    coded_NM: npt.NDArray[np.float32], snr_NM: Reals, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """LLRs ln p(1)/p(0) of bits over one axis of QPSK each, equalised by zero-forcing.

    An axis holds ±1/sqrt(2), 0 being positive, in noise of variance 1 / (2 SNR): LLRs have the mean -2 SNR
    for a 0 and the variance 4 SNR.

    Args:
        coded_NM: zeros and ones.
        snr_NM: Es/N0 of each bit's symbol, linear.
        rng: of the noise.
    """
    noise = rng.standard_normal(coded_NM.shape) / np.sqrt(2.0 * snr_NM)
    axis = _AMPLITUDE * (1.0 - 2.0 * coded_NM) + noise
    return np.asarray(-4.0 * _AMPLITUDE * snr_NM * axis, np.float32)


def send(code: HarqCode, payload: Tensor, snr_NRH: Reals, uses: int, rng: np.random.Generator) -> Received:
    """Send blocks, each until its CRC fits or there are no more rounds.

    Args:
        code: of the payload's size.
        payload: zeros and ones, float32 [N, bits].
        snr_NRH: of each half burst, linear. Symbols take turns with the halves.
        uses: channel uses L of a burst.
        rng: of the noise.
    """
    count, rounds, halves = snr_NRH.shape
    coded_NB = code.encode(payload).numpy()
    buffer_NB = torch.zeros(count, code.length)
    soft_NK = torch.zeros(count, code.bits)
    rounds_N, through_N = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    half_of_bit = np.arange(2 * uses) // 2 % halves
    active = np.arange(count)
    for round_ in range(rounds):
        where = code.sent(round_, uses)
        snr_NM = snr_NRH[active, round_][:, half_of_bit]
        llr = torch.from_numpy(soft_bits(coded_NB[active][:, where], snr_NM, rng))
        # A bit may come twice in one round: its LLRs are added all the same.
        buffer_NB[active] = buffer_NB[active].index_add(1, torch.from_numpy(where), llr)
        rounds_N[active] += 1
        out_NK, fits = code.decode(buffer_NB[active])
        soft_NK[active] = out_NK[:, : code.bits]
        through_N[active[fits]] = True
        active = active[~fits]
        if not len(active):
            break
    return Received(rounds_N, through_N, soft_NK)
