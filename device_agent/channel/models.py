"""Models of the radio channel: how gains fall. One class each, in one registry.

Device, trainer, study and the page read :data:`MODELS`; requests, reports and flags spell the same names,
which the contract has (:data:`protos.names.CHANNEL_MODELS`). A model says in formulas what its gains are
made of; who draws, a numpy generator on the device or torch's in training, is passed in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from device_agent.channel.application import Signal
from device_agent.errors import ConfigurationError
from protos.names import CHANNEL_MODELS, ChannelName


class Draws(Protocol):
    """Where samples come from; arrays of whichever backend."""

    def normal(self, shape: tuple[int, ...]) -> Signal:
        """Circular complex Gaussian CN(0, 1): variance 1/2 in each of the two dimensions."""

    def phasor(self, shape: tuple[int, ...]) -> Signal:
        """e^(j phi) with phi uniform over the circle."""

    def ones(self, shape: tuple[int, ...]) -> Signal:
        """1, complex; takes no randomness."""

    def constant(self, values: npt.NDArray[np.float64]) -> Signal:
        """Real numbers as they are; takes no randomness."""

    def turned(self, angles: Signal) -> Signal:
        """e^(j angle) of real angles; takes no randomness."""


@dataclass(frozen=True)
class ChannelModel(ABC):
    """A kind of channel and its parameters, which are its fields; each has a default.

    A parameter that :class:`device_agent.channel.ChannelConfig` has too is taken from there.
    """

    name: ClassVar[str]
    """On the wire, in settings and in JSON."""
    label: ClassVar[str]
    """For people."""
    fades: ClassVar[bool] = True
    """Whether gains differ: whether ``block`` and ``fast`` do."""
    selective: ClassVar[bool] = False
    """Whether every symbol has a gain of its own, by time and frequency, whatever the fading is called; such
    a model is a :class:`device_agent.channel.tdl.Tdl`."""
    perfect: ClassVar[bool] = False
    """Whether it is no channel at all: what is sent arrives, without noise."""

    @abstractmethod
    def sample(self, draws: Draws, codewords: tuple[int, ...], gains: tuple[int, ...]) -> Signal:
        """Complex gains with E|h|^2 = 1.

        Args:
            draws: what they are made of.
            codewords: shape with one value per codeword, [..., 1, 1].
            gains: shape with one value per gain: ``codewords`` under block fading, [..., T, C/2] under fast.

        Returns:
            Of the shape ``gains``, or ``codewords`` where it is constant within a codeword.
        """

    @abstractmethod
    def paths(self) -> tuple[float, float]:
        """What a gain is made of: h = a e^(j phi) + sqrt(v) CN(0, 1) with a^2 + v = 1.

        Returns:
            Amplitude a of the path that does not fade, and power v of the scattered ones. Of another kind of
            gain, the pair that comes closest: what pilots tell of |h|^2 is reckoned with it.
        """


MODELS: dict[str, type[ChannelModel]] = {}
"""Every channel model by its name, in the contract's order."""

_Kind = TypeVar("_Kind", bound=type[ChannelModel])


def register(kind: _Kind) -> _Kind:
    """Make a channel model known (a class decorator).

    Raises:
        ValueError: its name is taken, or the contract does not have it (:meth:`protos.names.WireNames.add`
            takes one in that comes from outside).
    """
    if kind.name in MODELS:
        raise ValueError(f"channel model {kind.name!r} is registered already")
    if kind.name not in CHANNEL_MODELS:
        raise ValueError(f"channel model {kind.name!r} is not in the contract: {', '.join(CHANNEL_MODELS)}")
    MODELS[kind.name] = kind
    return kind


def channel_model(name: ChannelName, settings: object = None) -> ChannelModel:
    """A channel model with its parameters.

    Args:
        name: a key of :data:`MODELS`.
        settings: its attributes are the parameters of the same names; the others have their defaults.

    Raises:
        ConfigurationError: there is no such model; says which there are.
    """
    kind = MODELS.get(name)
    if kind is None:
        raise ConfigurationError(f"channel model is {name!r}; allowed: {', '.join(MODELS)}")
    own = [parameter.name for parameter in fields(kind)]
    given: dict[str, Any] = {one: getattr(settings, one) for one in own if hasattr(settings, one)}
    return kind(**given)


@dataclass(frozen=True)
class _Constant(ChannelModel):
    fades: ClassVar[bool] = False

    def sample(self, draws: Draws, codewords: tuple[int, ...], gains: tuple[int, ...]) -> Signal:
        """1 for each codeword."""
        return draws.ones(codewords)

    def paths(self) -> tuple[float, float]:
        """One path."""
        return 1.0, 0.0


@register
@dataclass(frozen=True)
class Wire(_Constant):
    """No channel: what is sent arrives."""

    name: ClassVar[str] = "none"
    label: ClassVar[str] = "Perfect"
    perfect: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class Awgn(_Constant):
    """Noise only."""

    name: ClassVar[str] = "awgn"
    label: ClassVar[str] = "AWGN"


@register
@dataclass(frozen=True)
class Rayleigh(ChannelModel):
    """Many scattered paths and none that is stronger: h is CN(0, 1)."""

    name: ClassVar[str] = "rayleigh"
    label: ClassVar[str] = "Rayleigh"

    def sample(self, draws: Draws, codewords: tuple[int, ...], gains: tuple[int, ...]) -> Signal:
        """CN(0, 1)."""
        return draws.normal(gains)

    def paths(self) -> tuple[float, float]:
        """All scattered."""
        return 0.0, 1.0


@register
@dataclass(frozen=True)
class Rician(ChannelModel):
    """A line-of-sight path of fixed power and uniformly random phase beside the scattered ones.

    h = sqrt(K / (K + 1)) e^(j phi) + sqrt(1 / (K + 1)) CN(0, 1); the phase is one per codeword, also under
    fast fading, because the geometry does not change from symbol to symbol.
    """

    name: ClassVar[str] = "rician"
    label: ClassVar[str] = "Rician"
    k_factor_db: float = 6.0
    """Power of the line-of-sight path over that of the scattered ones [dB]."""

    def sample(self, draws: Draws, codewords: tuple[int, ...], gains: tuple[int, ...]) -> Signal:
        """Scattered paths first, then the phase of the one in sight."""
        amplitude, variance = self.paths()
        scattered = draws.normal(gains)
        return amplitude * draws.phasor(codewords) + variance**0.5 * scattered

    def paths(self) -> tuple[float, float]:
        """As K says."""
        k = 10.0 ** (self.k_factor_db / 10.0)
        return (k / (k + 1.0)) ** 0.5, 1.0 / (k + 1.0)
