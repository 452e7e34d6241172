"""A slider that keyboards and screen readers understand: the browser's own.

NiceGUI's has its role and name on one element and its focus on another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from nicegui import events, ui

_MOST_TICKS = 8
_THROTTLE_S = 0.05


class RangeInput:
    """A slider over named stops.

    Args:
        label: what it sets.
        stops: as they are shown and spoken, in their order.
        index: of the stop that it starts at.
        on_change: called while it is dragged, at most every 50 ms, and at the end.
    """

    def __init__(self, label: str, stops: Sequence[str], index: int, on_change: Callable[[], Any]) -> None:
        self.index = index
        self._last = len(stops) - 1
        self._on_change = on_change
        ticks = ""
        if len(stops) <= _MOST_TICKS:
            ticks = (
                f'<div aria-hidden="true">{"".join(f"<span>{escape(stop)}</span>" for stop in stops)}</div>'
            )
        html = (
            f'<input type="range" min="0" max="{self._last}" value="{index}" aria-label="{escape(label)}" '
            f'aria-valuetext="{escape(stops[index])}">{ticks}'
        )
        # The browser keeps the position: this HTML is never sent again, so nothing jumps back in mid-drag.
        ui.html(html, sanitize=True).classes("tl-range").on(
            "input",
            self._moved,
            throttle=_THROTTLE_S,
            js_handler=(
                f"(event) => {{ event.target.ariaValueText = {json.dumps(list(stops))}[event.target.value]; "
                "emit(Number(event.target.value)); }"
            ),
        )

    async def _moved(self, event: events.GenericEventArguments) -> None:
        index = event.args
        if isinstance(index, int) and 0 <= index <= self._last:
            self.index = index
            await self._on_change()
