"""What is written down of a round while it goes on: losses, examinations, how it stands."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any

from edge_server.cotrain.aggregate import Watch
from edge_server.cotrain.members import Counters
from edge_server.cotrain.model_half import DeviceOutcome, Examined
from edge_server.cotrain.state import CURVES, EXAMINED, STATUS, RoundState, read_json, write_json

STATUS_EVERY_S = 0.5
_CURVE_POINTS = 120


class Journal:
    """Of a round; what an earlier process of it wrote down is read again.

    Args:
        state: of the round.
        clock: monotonic seconds.
    """

    def __init__(self, state: RoundState, clock: Callable[[], float]) -> None:
        self._state, self._clock = state, clock
        self._status_s = -STATUS_EVERY_S
        self.phase = "waiting for devices"
        """What the round does just now."""
        self.counters: dict[str, Counters] = {}
        """What became of each device's part."""
        self.curves: dict[str, list[tuple[int, float, float]]] = {}
        """Step, loss and share of right language tokens, of each device."""
        self.examined: dict[str, dict[str, Any]] = read_json(state.path(EXAMINED))
        """Held-out accuracy of each device, before and after."""

    @property
    def named_before(self) -> dict[str, str]:
        """Devices that were left out by an earlier process of the round."""
        found: dict[str, str] = read_json(self._state.path(STATUS)).get("named", {})
        return found

    def note(self, step: int, outcomes: Mapping[str, DeviceOutcome]) -> None:
        """A step was made."""
        for device, outcome in outcomes.items():
            self.curves.setdefault(device, []).append((step, outcome.loss, outcome.right))
        line = {"step": step, "loss": {d: round(o.loss, 6) for d, o in outcomes.items()}}
        with self._state.path(CURVES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def note_examined(self, device: str, when: str, found: Examined) -> None:
        """A device was examined, ``before`` the round or ``after`` it."""
        self.examined.setdefault(device, {})[when] = {
            "right": found.right,
            "questions": found.questions,
            "accuracy": found.accuracy,
        }
        write_json(self._state.path(EXAMINED), self.examined)

    def write_status(self, step: int, watch: Watch, connected: Collection[str], *, now: bool = False) -> None:
        """Say how the round stands; at most every half second unless it has to be now."""
        if not now and self._clock() - self._status_s < STATUS_EVERY_S:
            return
        self._status_s = self._clock()
        write_json(self._state.path(STATUS), self.status(step, watch, connected))

    def status(self, step: int, watch: Watch, connected: Collection[str]) -> dict[str, Any]:
        """How the round stands, as JSON."""
        devices = {}
        for device in sorted({*self.counters, *self.examined, *watch.named}):
            curve = self.curves.get(device, [])
            devices[device] = {
                "connected": device in connected,
                **asdict(self.counters.get(device, Counters())),
                "loss": curve[-1][1] if curve else None,
                "right": curve[-1][2] if curve else None,
                "cosine": watch.cosines.get(device),
                "examined": self.examined.get(device, {}),
                "curve": curve[:: max(1, len(curve) // _CURVE_POINTS)],
            }
        return {
            "round_id": self._state.round_id,
            "phase": self.phase,
            "step": step,
            "rounds": self._state.plan.rounds,
            "heads": self._state.plan.heads,
            "devices": devices,
            "named": dict(watch.named),
        }
