"""Cells to share out: random ones with users near and far, and those that hypothesis thinks of."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from edge_server.cell.allocation import Budget, LossFit, Objective, Problem, User

#: Near to what the study measures.
LOSS = LossFit(a=0.17, b=0.2, p=1.2, c=0.02, d=0.9)
OBJECTIVE = Objective()
LENGTHS = (1, 2, 4, 8, 16, 32)
NOISE_W_PER_HZ = 1e-20


def gain_of(snr_db: float, budget: Budget, users: int) -> float:
    """The gain by which an equal split gives this SNR."""
    return 10.0 ** (snr_db / 10.0) * NOISE_W_PER_HZ * budget.bandwidth_hz / budget.greatest_power_w(users)


def problem(
    snrs_db: list[float],
    *,
    bandwidth_hz: float = 1e4,
    lengths: tuple[int, ...] = LENGTHS,
    power_w: float | None = 1.0,
    user_power_w: float | None = None,
    deadlines_s: list[float | None] | None = None,
    weights: list[float] | None = None,
    objective: Objective = OBJECTIVE,
    loss: LossFit = LOSS,
) -> Problem:
    """A cell whose users have these SNRs under an equal split."""
    budget = Budget(bandwidth_hz, power_w, user_power_w, NOISE_W_PER_HZ)
    users = len(snrs_db)
    return Problem(
        tuple(
            User(
                gain=gain_of(snr_db, budget, users),
                token_lengths=lengths,
                symbols_per_token=32.0,
                deadline_s=None if deadlines_s is None else deadlines_s[k],
                weight=1.0 if weights is None else weights[k],
            )
            for k, snr_db in enumerate(snrs_db)
        ),
        budget,
        loss,
        objective,
    )


def random_drop(seed: int, users: int, *, lengths: tuple[int, ...] = LENGTHS) -> Problem:
    """Users from -10 to 25 dB; every third drop pays for energy, every second bounds each user's power."""
    random = np.random.default_rng(seed)
    return problem(
        list(random.uniform(-10.0, 25.0, users)),
        bandwidth_hz=float(random.choice([200.0, 2e3, 2e4])) * users,
        lengths=lengths,
        user_power_w=2.0 / users if seed % 2 else None,
        weights=list(random.uniform(0.5, 2.0, users)),
        objective=Objective(float(random.uniform(0.1, 0.9)), 1.0, 0.0 if seed % 3 else 0.5),
    )


@st.composite
def problems(draw: st.DrawFn, most_users: int = 6) -> Problem:
    """Any cell whose deadlines can be met, tight ones among them."""
    count = draw(st.integers(1, most_users))
    some = st.none() | st.floats(0.01, 10.0)
    power_w, user_power_w = draw(some), draw(some)
    budget = Budget(
        bandwidth_hz=draw(st.floats(1e2, 1e6)),
        power_w=1.0 if power_w is None and user_power_w is None else power_w,
        user_power_w=user_power_w,
        noise_w_per_hz=NOISE_W_PER_HZ,
    )
    # The shortest lengths fit if each deadline leaves a part of the band that is at most an equal one.
    shares = draw(st.lists(st.floats(0.01, 1.0), min_size=count, max_size=count))
    users = []
    for share in shares:
        lengths = tuple(sorted(draw(st.sets(st.sampled_from(LENGTHS), min_size=1))))
        encode_s = tuple(0.001 * length for length in lengths) if draw(st.booleans()) else ()
        symbols = draw(st.sampled_from([4.0, 32.0]))
        airtime_s = symbols * lengths[0] / (budget.bandwidth_hz * share / count)
        users.append(
            User(
                gain=gain_of(draw(st.floats(-20.0, 30.0)), budget, count),
                token_lengths=lengths,
                symbols_per_token=symbols,
                encode_s=encode_s,
                deadline_s=(airtime_s + sum(encode_s[:1])) * 1.001 if draw(st.booleans()) else None,
                weight=draw(st.floats(0.1, 10.0)),
            )
        )
    objective = Objective(
        draw(st.floats(0.0, 1.0)), draw(st.floats(0.01, 10.0)), draw(st.sampled_from([0.0, 0.3]))
    )
    return Problem(tuple(users), budget, LOSS, objective)
