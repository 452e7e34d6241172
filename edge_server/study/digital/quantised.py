"""Quantised tokens over a channel code: the same tokens, sent as bits.

    x_TC ─▶ uniform quantiser, b bits a real ─▶ LDPC, QAM ─▶ channel ─▶ decoded: x_TC as quantised; or lost

Both ends agree on the quantiser beforehand; its clipping range comes from what the transmitter sends.

Shapes: N clips, T token_length, C channel_dim.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from device_agent.channel import ChannelConfig
from edge_server.errors import ConfigurationError
from edge_server.model.config import TOKEN_LENGTHS
from edge_server.model.modality import SLOTS
from edge_server.study.digital.codes import Code, Codeword, mean_loss
from edge_server.study.digital.delivery import Choice, Plan, arrivals, divisions
from protos.names import clamp_snr_db

BITS_PER_REAL = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Form:
    """How tokens are put into bits."""

    token_length: int
    """Tokens per modality."""
    bits_per_real: int
    """Of the quantiser."""

    def bits(self, channel_dim: int) -> int:
        """Size of a modality's token block."""
        return self.token_length * channel_dim * self.bits_per_real


FORMS: tuple[Form, ...] = tuple(Form(length, bits) for length in TOKEN_LENGTHS for bits in BITS_PER_REAL)

FormAccuracy: TypeAlias = Callable[[Form, bool, bool], float]
"""Accuracy with tokens of a form, when those of the visual and of the audio slot arrive or do not."""


@dataclass(frozen=True)
class Quantiser:
    """Uniform, midrise: 2^bits cells between -clip and clip, each restored to its middle."""

    bits: int
    """Per real."""
    clip: float
    """Reals beyond are cut off there."""
    distortion: float = 0.0
    """Mean square error over mean square, of what it was fitted to."""

    @classmethod
    def fit(cls, x: npt.NDArray[np.float32], bits: int) -> Quantiser:
        """The clipping range of least mean square error for given reals, within 1% or so.

        Raises:
            ConfigurationError: bits is not within 1 to 8, or there is nothing to fit to.
        """
        if not 1 <= bits <= 8:
            raise ConfigurationError(f"bits is {bits}; 1 to 8 are allowed")
        power = float(np.square(x, dtype=np.float64).mean()) if x.size else 0.0
        if not power > 0.0:
            raise ConfigurationError("x holds no tokens of any power; a quantiser is fitted to some")
        candidates = [cls(bits, float(clip)) for clip in math.sqrt(power) * np.geomspace(0.5, 8.0, 140)]
        errors = [float(np.square(q.restore(q.quantise(x)) - x, dtype=np.float64).mean()) for q in candidates]
        best = int(np.argmin(errors))
        return cls(bits, candidates[best].clip, errors[best] / power)

    @property
    def step(self) -> float:
        """Width of a cell."""
        return float(2 * self.clip / 2**self.bits)

    @property
    def snr_db(self) -> float:
        """What a receiver is told of restored tokens [dB], within [-30, 40].

        The SNR at which an MMSE equaliser leaves Gaussian symbols with as much error, 1 / (1 + SNR): that is
        what receivers were trained to make of the number.
        """
        return clamp_snr_db(10 * math.log10(max(1 / max(self.distortion, 1e-12) - 1, 1e-12)))

    def quantise(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Number of the cell of each real, 0 to 2^bits - 1, same shape."""
        cells = np.clip(np.floor((x + self.clip) / self.step), 0, 2**self.bits - 1)
        return np.asarray(cells, np.uint8)

    def restore(self, cells: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Middle of each cell, same shape."""
        return ((cells.astype(np.float32) + 0.5) * self.step - self.clip).astype(np.float32)


@dataclass(frozen=True)
class QuantisedPlan(Plan):
    """Tokens' form beside the codewords."""

    form: Form | None = None
    """None: nothing is worth sending."""

    def to_json(self) -> dict[str, object]:
        """For a report."""
        form = self.form and {
            "token_length": self.form.token_length,
            "bits_per_real": self.form.bits_per_real,
        }
        return {**super().to_json(), "form": form}


@dataclass(frozen=True)
class ReceivedTokens:
    """Tokens at the server, of one slot.

    Attributes:
        x_NTC: float32; zeros where the codeword was lost.
        arrived_N: whether it was not.
        snr_db: what the receiver is told [dB].
    """

    x_NTC: npt.NDArray[np.float32]
    arrived_N: npt.NDArray[np.bool_]
    snr_db: float


def adapt(
    code: Code, channel: ChannelConfig, channel_uses: int, channel_dim: int, accuracy: FormAccuracy
) -> QuantisedPlan:
    """Choose token length, bits per real, division, modulation and rate for a channel.

    Every codeword is the least likely to be lost of those that hold the tokens. Both modalities take the
    same form where both are sent.

    Args:
        code: which codewords there are.
        channel: its model, fading and mean SNR.
        channel_uses: of a question, all modalities together.
        channel_dim: reals per token C.
        accuracy: an estimate, best from other clips than those that are sent; asked at most once for a form
            and what arrives of it.

    Raises:
        ConfigurationError: the code has no codewords of a length that a division needs.
    """
    known = functools.cache(accuracy)
    best = QuantisedPlan(dict.fromkeys(SLOTS), known(FORMS[0], False, False))
    for uses in divisions(channel_uses):
        offers = {slot: code.codewords(uses[slot], channel) if uses[slot] else () for slot in SLOTS}
        for form in worthwhile_forms(max(_most_bits(words) for words in offers.values()), channel_dim):
            words: Choice = {
                slot: _safest(code, channel, offers[slot], form.bits(channel_dim)) for slot in SLOTS
            }
            expected = _expected(code, words, channel, form, known)
            if expected > best.expected:
                best = QuantisedPlan(words, expected, form)
    return best


def worthwhile_forms(bits: int, channel_dim: int) -> list[Form]:
    """Forms that fit into so many bits."""
    return [form for form in FORMS if form.bits(channel_dim) <= bits]


def receive(
    code: Code,
    plan: QuantisedPlan,
    channel: ChannelConfig,
    channel_uses: int,
    sent: Mapping[str, npt.NDArray[np.float32]],
    quantisers: Mapping[str, Quantiser],
    seed: int,
) -> dict[str, ReceivedTokens]:
    """Send every clip's tokens as planned.

    Args:
        code: how codewords are lost.
        plan: what is sent.
        channel: its model, fading and mean SNR.
        channel_uses: of a question, all modalities together.
        sent: tokens as the heads give them at the plan's token length, per slot, [N, T, C].
        quantisers: per slot, of the plan's bits per real.
        seed: of the channel realisations.

    Raises:
        ConfigurationError: tokens or quantisers are of another form than the plan's.
    """
    clips = len(sent[next(iter(SLOTS))])
    decoded = arrivals(code, plan.words, channel, channel_uses, clips, seed)
    received = {}
    for slot in SLOTS:
        x_NTC, quantiser = sent[slot], quantisers[slot]
        if plan.form and (plan.form.token_length, plan.form.bits_per_real) != (
            x_NTC.shape[1],
            quantiser.bits,
        ):
            raise ConfigurationError(
                f"{slot}: {x_NTC.shape[1]} tokens at {quantiser.bits} bits; the plan has {plan.form}"
            )
        restored = quantiser.restore(quantiser.quantise(x_NTC))
        restored[~decoded[slot]] = 0.0
        received[slot] = ReceivedTokens(restored, decoded[slot], quantiser.snr_db)
    return received


def _most_bits(words: tuple[Codeword, ...]) -> int:
    return max((word.bits for word in words), default=0)


def _safest(code: Code, channel: ChannelConfig, words: tuple[Codeword, ...], bits: int) -> Codeword | None:
    fitting = [word for word in words if word.bits >= bits]
    return min(fitting, key=lambda word: mean_loss(code, word, channel), default=None)


def _expected(code: Code, words: Choice, channel: ChannelConfig, form: Form, accuracy: FormAccuracy) -> float:
    cases: list[list[tuple[bool, float]]] = []
    for slot in SLOTS:
        word = words[slot]
        arrives = 1.0 - mean_loss(code, word, channel) if word else 0.0
        cases.append([(there, p) for there, p in ((True, arrives), (False, 1.0 - arrives)) if p > 0.0])
    return sum(p_v * p_a * accuracy(form, v, a) for v, p_v in cases[0] for a, p_a in cases[1])
