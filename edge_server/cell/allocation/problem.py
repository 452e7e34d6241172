"""What is to be shared out, among whom, and what counts as good.

    n_k = L_k C_k / 2        T_k = n_k / B_k + t_enc(L_k)        gamma_k = P_k g_k / (N0 B_k)
    min over B, P, L:  sum_k w_k [ omega T_k / T0 + (1 - omega) loss(gamma_k, L_k) ] + mu P_k T_k
    s.t.  sum B_k <= B,  sum P_k <= P and/or P_k <= P_max,  L_k in user k's lengths,  T_k <= deadline_k if set

Shapes: K users, L token lengths that a user may have (the longest list; shorter ones are padded).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_server.cell.allocation.loss import LossSurface

Floats = NDArray[np.float64]
#: How far a bound may be exceeded, as a part of it: what is left of a solver's tolerance.
TOLERANCE = 1e-6


class InfeasibleError(ValueError):
    """No allocation meets every deadline. The message says what would be needed, and what there is."""


class SolverError(RuntimeError):
    """The solver is not installed, gave up, or ran out of time."""


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"{name}: a positive number is needed, not {value}")


@dataclass(frozen=True)
class User:
    """One device and its link.

    Attributes:
        gain: power gain g_k of the channel, received over sent.
        token_lengths: the lengths that the user's bundle can send, ascending.
        symbols_per_token: complex symbols per unit of token length, C/2 for each modality that is sent.
        encode_s: time t_enc to make the tokens of each length [s]; empty: none.
        deadline_s: bound on T_k [s]; none: no bound.
        weight: w_k.

    Raises:
        ValueError: names the attribute.
    """

    gain: float
    token_lengths: tuple[int, ...]
    symbols_per_token: float
    encode_s: tuple[float, ...] = ()
    deadline_s: float | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("gain", "symbols_per_token", "weight"):
            _check_positive(name, getattr(self, name))
        if self.deadline_s is not None:
            _check_positive("deadline_s", self.deadline_s)
        lengths = self.token_lengths
        if not lengths or lengths[0] < 1 or any(a >= b for a, b in pairwise(lengths)):
            raise ValueError(f"token_lengths: ascending numbers from 1 on are needed, not {lengths}")
        if self.encode_s and len(self.encode_s) != len(lengths):
            raise ValueError(
                f"encode_s: one time for each of {len(lengths)} token lengths, not {len(self.encode_s)}"
            )
        if any(not (math.isfinite(time_s) and time_s >= 0.0) for time_s in self.encode_s):
            raise ValueError(f"encode_s: times of 0 s or more are needed, not {self.encode_s}")


@dataclass(frozen=True)
class Budget:
    """What a cell has to give. Power is bounded in all, for each user, or both.

    Attributes:
        bandwidth_hz: B, shared by all [Hz].
        power_w: bound P on the sum of transmit powers [W]; none: no bound.
        user_power_w: bound P_max on each user's power [W]; none: no bound.
        noise_w_per_hz: N0 [W/Hz]; the default is -174 dBm/Hz, thermal noise at 290 K.

    Raises:
        ValueError: names the attribute.
    """

    bandwidth_hz: float
    power_w: float | None = None
    user_power_w: float | None = None
    noise_w_per_hz: float = 10.0**-20.4

    def __post_init__(self) -> None:
        for name in ("bandwidth_hz", "power_w", "user_power_w", "noise_w_per_hz"):
            if getattr(self, name) is not None:
                _check_positive(name, getattr(self, name))
        if self.power_w is None and self.user_power_w is None:
            raise ValueError(
                "power_w, user_power_w: at least one is needed; without a bound power is infinite"
            )

    def greatest_power_w(self, users: int) -> float:
        """The most that so many users may send together [W]."""
        bounds = [self.power_w, None if self.user_power_w is None else users * self.user_power_w]
        return min(bound for bound in bounds if bound is not None)


@dataclass(frozen=True)
class Objective:
    """What counts.

    Attributes:
        latency_weight: omega from 0 to 1, of latency against loss.
        reference_s: T0, the latency that weighs as much as one wrong answer [s].
        energy_price: mu [1/J].

    Raises:
        ValueError: names the attribute.
    """

    latency_weight: float = 0.5
    reference_s: float = 1.0
    energy_price: float = 0.0

    def __post_init__(self) -> None:
        _check_positive("reference_s", self.reference_s)
        if not 0.0 <= self.latency_weight <= 1.0:
            raise ValueError(f"latency_weight: from 0 to 1, not {self.latency_weight}")
        if not (math.isfinite(self.energy_price) and self.energy_price >= 0.0):
            raise ValueError(f"energy_price: 0 or more, not {self.energy_price}")


@dataclass(frozen=True, eq=False)
class Arrays:
    """The numbers of all users, for arithmetic.

    Attributes:
        gain_K: g_k.
        weight_K: w_k.
        deadline_K: [s]; infinite where there is none.
        symbols_K: complex symbols per unit of token length.
        length_KL: token lengths, ascending; not a number past the end of a user's list.
        encode_KL: t_enc of each [s]; not a number past the end too.
    """

    gain_K: Floats
    weight_K: Floats
    deadline_K: Floats
    symbols_K: Floats
    length_KL: Floats
    encode_KL: Floats


@dataclass(frozen=True)
class Problem:
    """One cell at one moment.

    Attributes:
        users: at least one.
        budget: what there is.
        loss: expected loss over SNR and token length.
        objective: what counts.

    Raises:
        ValueError: there are no users.
    """

    users: tuple[User, ...]
    budget: Budget
    loss: LossSurface
    objective: Objective = Objective()

    def __post_init__(self) -> None:
        if not self.users:
            raise ValueError("users: at least one is needed")

    @cached_property
    def arrays(self) -> Arrays:
        """The users' numbers."""
        most = max(len(user.token_lengths) for user in self.users)
        length_KL = np.full((len(self.users), most), math.nan)
        encode_KL = length_KL.copy()
        for k, user in enumerate(self.users):
            length_KL[k, : len(user.token_lengths)] = user.token_lengths
            encode_KL[k, : len(user.token_lengths)] = user.encode_s or 0.0
        return Arrays(
            gain_K=np.array([user.gain for user in self.users]),
            weight_K=np.array([user.weight for user in self.users]),
            deadline_K=np.array([user.deadline_s or math.inf for user in self.users]),
            symbols_K=np.array([user.symbols_per_token for user in self.users]),
            length_KL=length_KL,
            encode_KL=encode_KL,
        )


@dataclass(frozen=True, eq=False)
class Allocation:
    """What every user may send.

    Attributes:
        bandwidth_K: [Hz].
        power_K: [W].
        length_K: token lengths.
        policy: who decided.
        fallback: why another policy than the one that was asked decided; empty: it did not.
    """

    bandwidth_K: Floats
    power_K: Floats
    length_K: NDArray[np.int64]
    policy: str
    fallback: str = ""
