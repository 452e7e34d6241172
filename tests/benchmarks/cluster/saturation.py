"""100,000 sessions and 10 to 1,000 engines, reckoned from recorded costs: what saturates first, and when.

Costs of a question in door and broker are those that the row ``hop`` recorded, a session's memory and an
engine's speed those of ``docs/results/serving.json``. Questions come as they like (Poisson) and pass three
queues: doors, the leader of the model's work queue, engines. Each serves in order of arrival, with times that
vary (exponential); a queue is simulated question by question.
"""

from __future__ import annotations

import heapq
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_server.study.plots.style import COLOURS, MARKERS, figure, save

WHAT = "100,000 sessions by simulation, 10 to 1,000 engines"
SESSIONS, DOORS = 100_000, 16
ENGINES = (10, 30, 100, 300, 1000)
#: What an engine is made of beside the shipped model, whose speed is measured.
HEAVIER = {"a hundred times as heavy": 100.0}
_SHARES = (0.5, 0.9)
_QUESTIONS = 40_000


def measure(results: Path) -> dict[str, Any]:
    """Reckon it from what lies in a folder of results.

    Raises:
        FileNotFoundError, KeyError: the rows that it needs were not measured.
    """
    hop = json.loads((results / "cluster.json").read_text(encoding="utf-8"))["rows"]["hop"]["3"]
    serving = json.loads((results / "serving.json").read_text(encoding="utf-8"))["rows"]
    engine_s = serving["offline"]["found"]["served_cpu_s"]["median"]
    session_bytes = serving["idle"]["found"]["session_bytes"]
    door_s, broker_s = hop["cpu_door_ms"] / 1e3, hop["cpu_nats_most_ms"] / 1e3
    speeds = {"the shipped model": 1 / engine_s} | {
        name: 1 / (engine_s * factor) for name, factor in HEAVIER.items()
    }
    kinds = {name: [_at(count, hz, door_s, broker_s) for count in ENGINES] for name, hz in speeds.items()}
    return {
        "sessions": SESSIONS,
        "doors": DOORS,
        "door_ms": door_s * 1e3,
        "broker_ms": broker_s * 1e3,
        "engine_ms": {name: 1e3 / hz for name, hz in speeds.items()},
        "sessions_gb": SESSIONS * session_bytes / 1e9,
        "models": kinds,
    }


def _at(engines: int, engine_hz: float, door_s: float, broker_s: float) -> dict[str, Any]:
    """How many questions a second pass, what bounds them, and how long one takes below that."""
    most = {"engines": engines * engine_hz, "broker": 1 / broker_s, "doors": DOORS / door_s}
    first = min(most, key=lambda each: most[each])
    bound = most[first]
    found: dict[str, Any] = {"engines": engines, "most_hz": most, "first": first, "bound_hz": bound}
    found["each_session_asks_every_s"] = SESSIONS / bound
    rng = np.random.default_rng(engines)
    for share in _SHARES:
        came = np.cumsum(rng.exponential(1 / (share * bound), _QUESTIONS))
        at = _queue(came, DOORS, rng.exponential(door_s, _QUESTIONS))
        at = _queue(at, 1, rng.exponential(broker_s, _QUESTIONS))
        at = _queue(at, engines, rng.exponential(1 / engine_hz, _QUESTIONS))
        settled = _QUESTIONS // 10
        found[f"p99_s_at_{share:g}"] = float(np.percentile((at - came)[settled:], 99))
    return found


def _queue(
    came: npt.NDArray[np.float64], servers: int, takes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """When each leaves a queue of so many servers, in order of arrival."""
    order = np.argsort(came, kind="stable")
    free, left = [0.0] * servers, np.empty_like(came)
    for number in order:
        left[number] = max(float(came[number]), free[0]) + float(takes[number])
        heapq.heapreplace(free, left[number])
    return left


def draw(found: dict[str, Any], path: Path) -> None:
    """Questions a second over engines, with the bounds of doors and broker."""
    made, panels = figure(len(found["models"]))
    for panel, (name, points) in zip(panels, found["models"].items(), strict=True):
        engines = [point["engines"] for point in points]
        for place, what in enumerate(("engines", "broker", "doors")):
            rates = [point["most_hz"][what] for point in points]
            panel.plot(engines, rates, color=COLOURS[place], marker=MARKERS[place], label=what)
        bounds = [point["bound_hz"] for point in points]
        panel.plot(engines, bounds, color="black", linewidth=3, alpha=0.3, label="what passes")
        panel.set(xscale="log", yscale="log", xlabel="engines", title=name)
        panel.set_ylabel("questions a second")
        panel.legend()
    save(made, path)


def promises(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Its row of the table."""
    told = []
    for name, points in found["models"].items():
        turns = [point for point in points if point["first"] != "engines"]
        at = f"{turns[0]['first']} from {turns[0]['engines']} engines on" if turns else "engines"
        told.append(f"{name}: {at}, {points[-1]['bound_hz']:.0f}/s")
    return [{"what": WHAT, "measured": "; ".join(told), "met": True}]
