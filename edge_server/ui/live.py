"""The live panel: looked at once a second for as long as somebody has the page open."""

from __future__ import annotations

from nicegui import ui

from edge_server.ui import cotraining, markup, shares
from edge_server.ui.context import PageContext

REFRESH_S = 1.0


class Fragment:
    """A piece of the page that is sent only when it has changed.

    Args:
        style: its class.
    """

    def __init__(self, style: str = "") -> None:
        self._element = ui.html("", sanitize=True).classes(style)
        self._shown = ""

    def show(self, html: str) -> None:
        """Show this from now on."""
        if html != self._shown:
            self._shown = html
            self._element.set_content(html)


class LivePanel:
    """Devices and their shares, times, batches, refusals and answers.

    Args:
        context: what is looked at.
    """

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._tiles = Fragment("tl-wide")
        with card("Devices", "tl-wide"):
            self._devices = Fragment()
        self._round = card("Learning together", "tl-wide")
        with self._round:
            self._learning = Fragment()
        self._cell = card("Who has what of the cell", "tl-wide")
        with self._cell:
            self._shares = Fragment()
        with ui.element("div").classes("tl-columns"):
            with card("Times"):
                self._timings = Fragment()
            with card("Answers per second"):
                self._rate = Fragment()
            with card("Batch sizes"):
                self._batches = Fragment()
            with card("Refusals"):
                self._refusals = Fragment()
        with card("Recent answers", "tl-wide"):
            self._recent = Fragment()
        self.refresh()
        ui.timer(REFRESH_S, self.refresh)

    def refresh(self) -> None:
        """Look again."""
        context = self._context
        view, devices = context.watched.view(), context.cell.devices()
        self._tiles.show(markup.tiles(view, len(devices)))
        self._devices.show(markup.devices_table(devices))
        status = context.cotraining()
        self._round.set_visibility(bool(status))
        self._learning.show(cotraining.round_of(status) if status else "")
        self._cell.set_visibility(shares.is_shared_out(devices))
        self._shares.show(shares.stacked(devices))
        self._timings.show(markup.timings(view))
        self._rate.show(markup.rate(view))
        self._batches.show(markup.batch_sizes(view))
        self._refusals.show(markup.refusals(view))
        text_of = context.asker.backend.model.text
        self._recent.show(markup.recent_answers(view.recent, text_of, context.clock()))


def card(title: str, style: str = "") -> ui.element:
    """A titled box; what is made within the ``with`` block lies in it."""
    box = ui.element("section").classes(f"tl-card {style}")
    with box:
        ui.html(title, sanitize=True, tag="h2")
    return box
