"""What a question costs the server, from one user to 256: CPU time of its process per answer.

A batch shares what every step costs, so that the cost falls with the users, and it must not rise again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy.loadtest.generator import closed_loop
from deploy.loadtest.running import held
from tests.benchmarks.serving.row import Claim, Context, Row, Values, spread
from tests.benchmarks.serving.served import serving

USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STAYS_FLAT = 1.15
"""What the most users may cost over the cheapest number of them."""


async def measure(context: Context) -> dict[str, Any]:
    counts = context.pick(USERS, (1, 4))
    seconds = context.pick(6.0, 0.5)
    repeats = context.pick(5, 1)
    cpu_s: dict[int, list[float]] = {count: [] for count in counts}
    answered_hz: dict[int, list[float]] = {count: [] for count in counts}
    p50_s: dict[int, list[float]] = {count: [] for count in counts}
    async with serving(context.model) as served:
        users = served.users(max(counts), context.seed)
        target = served.target()
        async with held(target, users.numbers) as (door, _):
            await closed_loop(door, users.numbers, users.draw, seconds)
            for _ in range(repeats):
                for count in counts:
                    began_cpu_s = served.cpu_s()
                    run = await closed_loop(door, users.numbers[:count], users.draw, seconds)
                    cpu_s[count].append((served.cpu_s() - began_cpu_s) / run.outcomes["answered"])
                    answered_hz[count].append(run.answered_hz)
                    p50_s[count].append(run.latencies.at(50))
        await target.close()
    return {
        "by_users": [
            {
                "users": count,
                "cpu_s_per_question": spread(cpu_s[count]),
                "answered_hz": spread(answered_hz[count]),
                "p50_s": spread(p50_s[count]),
            }
            for count in counts
        ]
    }


def claims(found: Values) -> list[Claim]:
    rows = found["by_users"]
    costs = [row["cpu_s_per_question"]["median"] for row in rows]
    return [
        Claim(
            f"CPU time of a question with {rows[-1]['users']} users, over that with {rows[0]['users']}",
            "at most",
            1.0,
            costs[-1] / costs[0],
            sides={"most users [s]": costs[-1], "one user [s]": costs[0]},
        ),
        Claim(
            "... over that with the cheapest number of users",
            "at most",
            STAYS_FLAT,
            costs[-1] / min(costs),
            sides={"most users [s]": costs[-1], "cheapest [s]": min(costs)},
        ),
    ]


def plot(found: Values, picture: Path) -> None:
    """CPU time and throughput over users."""
    from matplotlib.figure import Figure

    rows = found["by_users"]
    users = [row["users"] for row in rows]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    cost = [row["cpu_s_per_question"] for row in rows]
    medians = [1e3 * each["median"] for each in cost]
    below = [m - 1e3 * each["lower"] for m, each in zip(medians, cost, strict=True)]
    above = [1e3 * each["upper"] - m for m, each in zip(medians, cost, strict=True)]
    axes.errorbar(users, medians, (below, above), marker="o", capsize=3, label="CPU time per question")
    axes.set_xscale("log", base=2)
    axes.set_xticks(users, [str(count) for count in users])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("users, each with one question on the way")
    axes.set_ylabel("CPU time of the server per question [ms]")
    axes.grid(visible=True, alpha=0.3)
    rate = axes.twinx()
    rate.plot(users, [row["answered_hz"]["median"] for row in rows], "s--", color="tab:orange")
    rate.set_ylim(bottom=0)
    rate.set_ylabel("answers per second (dashed)")
    figure.savefig(picture, dpi=150)


ROW = Row("cost", "What a question costs", measure, claims, plot)
