"""What the turns say: medians with what lies around them, ratios within a round, and the promises' rows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

OURS, LIMIT = "ours", "limit"
LEAST_OVER_PEER, MOST_OF_P99 = 1.5, 1.0
"""What is asked: our throughput over the best peer's; our p99 over the lowest of a peer."""
MOST_WRONG = 0.01
"""Share of answers that may be other texts than ours: batches round differently, and near ties tip over."""
_CLOSED = ("answered_hz", "cpu_s_per_question", "generator_cpu_s_per_question", "p50_s", "p99_s")
_OPEN = ("answered_hz", "p50_s", "p99_s", "generator_lag_p99_s")
_COUNTS = ("answered", "not_answered", "dropped", "wrong")


def summarise(found: dict[str, Any]) -> dict[str, Any]:
    """The result with ``closed``, ``library``, ``open`` and ``ratios`` added, each by workload."""
    workloads = found["workloads"]
    closed, library = (
        {workload: _by_name(found["turns"], phase, workload, _CLOSED) for workload in workloads}
        for phase in ("closed", "library")
    )
    opened = {workload: _by_name(found["turns"], "open", workload, _OPEN) for workload in workloads}
    peers = [each["name"] for each in found["contestants"] if each["name"] not in (OURS, LIMIT)]
    ratios = {
        workload: _ratios(
            found["turns"], workload, closed[workload], library[workload], opened[workload], peers
        )
        for workload in workloads
    }
    return found | {"closed": closed, "library": library, "open": opened, "ratios": ratios}


def rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of promises; a number for each workload, all of which have to hold.

    Args:
        result: of :func:`tests.benchmarks.peers.measure`.

    Returns:
        Per row ``row``, ``asked``, ``unit``, ``measured`` (by workload) and ``met``; where something was not
        measured, ``met`` is None and ``missing`` says what.
    """
    ratios = result["ratios"]
    return [
        *(
            _row(
                f"Throughput against the best peer, {words}",
                f"at least {LEAST_OVER_PEER:g}",
                {workload: each[f"ours_over_{best}"] for workload, each in ratios.items()},
                lambda ratio: ratio >= LEAST_OVER_PEER,
                best={workload: each[best] for workload, each in ratios.items()},
            )
            for best, words in (
                ("best_peer", "to which our forward pass is lent"),
                ("best_library", "which computes with Hugging Face's class"),
            )
        ),
        _row(
            "p99 at 50% of the best peer's capacity, over the lowest of a peer",
            f"below {MOST_OF_P99:g}",
            {workload: each["p99_over_best_p99"] for workload, each in ratios.items()},
            lambda ratio: ratio < MOST_OF_P99,
            best={workload: each["best_p99"] for workload, each in ratios.items()},
        ),
    ]


def _row(
    name: str,
    asked: str,
    measured: Mapping[str, Any],
    holds: Callable[[float], bool],
    **more: Mapping[str, Any],
) -> dict[str, Any]:
    row = {"row": name, "asked": asked, "unit": "ratio"}
    missing = [workload for workload, ratio in measured.items() if ratio is None]
    if missing:
        return row | {"met": None, "missing": f"not measured: {', '.join(missing)}"}
    medians = {workload: ratio["median"] for workload, ratio in measured.items()}
    return row | {
        "measured": medians,
        "met": all(holds(median) for median in medians.values()),
        "spread": dict(measured),
        **more,
    }


def _turns_of(
    turns: Iterable[Mapping[str, Any]], phase: str, workload: str, name: str
) -> list[Mapping[str, Any]]:
    return [
        turn[workload]
        for turn in turns
        if (turn["phase"], turn["name"]) == (phase, name) and workload in turn
    ]


def _by_name(
    turns: Sequence[Mapping[str, Any]], phase: str, workload: str, figures: Sequence[str]
) -> dict[str, Any]:
    names = dict.fromkeys(turn["name"] for turn in turns if turn["phase"] == phase and workload in turn)
    summary = {}
    for name in names:
        each = _turns_of(turns, phase, workload, name)
        summary[name] = {
            **{key: _spread([turn[key] for turn in each]) for key in figures if key in each[0]},
            **{key: sum(turn[key] for turn in each) for key in _COUNTS if key in each[0]},
        }
    return summary


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "values": list(values),
    }


def _ratios(
    turns: Sequence[Mapping[str, Any]],
    workload: str,
    closed: Mapping[str, Any],
    library: Mapping[str, Any],
    opened: Mapping[str, Any],
    peers: Sequence[str],
) -> dict[str, Any]:
    best, best_library = (_fastest(peers, figures) for figures in (closed, library))
    able = [name for name in peers if name in closed and _answers_as_we_do(closed[name])]
    quick = [name for name in able if name in opened and opened[name]["answered"]]
    best_p99 = min(quick, key=lambda name: float(opened[name]["p99_s"]["median"]), default=None)
    return {
        "best_peer": best,
        "best_library": best_library,
        "best_p99": best_p99,
        "ours_over_limit": _ratio(turns, "closed", workload, "answered_hz", LIMIT),
        "cpu_over_limit": _ratio(turns, "closed", workload, "cpu_s_per_question", LIMIT),
        "ours_over_best_peer": _ratio(turns, "closed", workload, "answered_hz", best),
        "ours_over_best_library": _ratio(turns, "closed", workload, "answered_hz", best_library, "library"),
        "p99_over_best_p99": _ratio(turns, "open", workload, "p99_s", best_p99),
        "cpu_over_best_peer": _ratio(turns, "closed", workload, "cpu_s_per_question", best),
    }


def _fastest(peers: Sequence[str], figures: Mapping[str, Any]) -> str | None:
    able = [name for name in peers if name in figures and _answers_as_we_do(figures[name])]
    return max(able, key=lambda name: float(figures[name]["answered_hz"]["median"]), default=None)


def _answers_as_we_do(figures: Mapping[str, Any]) -> bool:
    answered, wrong = figures["answered"], figures["wrong"]
    return bool(answered) and wrong <= MOST_WRONG * answered


def _ratio(
    turns: Sequence[Mapping[str, Any]],
    phase: str,
    workload: str,
    figure: str,
    other: str | None,
    others_phase: str | None = None,
) -> dict[str, Any] | None:
    """Ours over another's, round by round; None where one of them was not measured."""
    if other is None:
        return None
    ours, theirs = (
        {
            turn["round"]: float(turn[workload][figure])
            for turn in turns
            if (turn["phase"], turn["name"]) == who and workload in turn
        }
        for who in ((phase, OURS), (others_phase or phase, other))
    )
    ratios = [ours[number] / value for number, value in theirs.items() if number in ours and value]
    return _spread(ratios) if ratios else None
