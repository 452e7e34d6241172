"""Puts the page together from a server's parts.

Imports the page's libraries: to be imported only where the page is served.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from device_agent.channel import MODELS
from edge_server.cell import Cell
from edge_server.cotrain.state import STATUS, read_json
from edge_server.errors import ConfigurationError
from edge_server.frontdoor.http.asking import Asker
from edge_server.server.config import ServerConfig, rest_token_length
from edge_server.ui.clips import ClipFile, Shelf, shipped_clips
from edge_server.ui.context import ChannelChoice, PageContext
from edge_server.ui.gate import Gate
from edge_server.ui.page import FrontPage
from edge_server.ui.watch import WatchedMetrics


class PageBuilder:
    """Makes the page in two steps: what counts is needed before there is anything to count.

    Args:
        config: settings.
        version: of the server.
        clock: monotonic seconds.
    """

    def __init__(self, config: ServerConfig, version: str, clock: Callable[[], float]) -> None:
        self.metrics = WatchedMetrics(version=version, outage_snr_db=config.cell.outage_snr_db, clock=clock)
        self._config, self._version, self._clock = config, version, clock

    def build(self, asker: Asker, cell: Cell[Any], gate: Gate) -> FrontPage:
        """The page of a server.

        Args:
            asker: brings the playground's questions to the engine.
            cell: whose devices are shown.
            gate: who may look.

        Raises:
            ConfigurationError: the demo folder is not there though it was asked for, or cannot be read.
        """
        models = [backend.model.name for backend in asker.newest]
        shipped = tuple(clip for model in models for clip in self._shipped(model, alone=len(models) == 1))
        self.metrics.name_of = lambda user: cell.device_of(user) or user
        return FrontPage(
            PageContext(
                asker=asker,
                cell=cell,
                watched=self.metrics,
                shelf=Shelf(shipped, max_clip_bytes=self._config.rest.max_upload_bytes),
                gate=gate,
                channels={
                    name: ChannelChoice(kind.label, kind.fades, kind.perfect, kind.selective)
                    for name, kind in MODELS.items()
                },
                token_length=rest_token_length(self._config, asker.backend.token_length),
                version=self._version,
                clock=self._clock,
                cotraining=self._cotraining,
            )
        )

    def _cotraining(self) -> dict[str, Any]:
        folder = self._config.page.ui_cotrain
        return {} if folder is None else read_json(folder / STATUS)

    def _shipped(self, model: str, *, alone: bool) -> tuple[ClipFile, ...]:
        """What a demo folder has for a model: in a folder of its name, or in the folder itself."""
        folder = self._config.page.ui_demo
        if folder.is_dir():
            own = folder / model
            return shipped_clips(own if own.is_dir() else folder, "" if alone else model)
        if "ui_demo" in self._config.page.model_fields_set:
            raise ConfigurationError(f"ui_demo: there is no folder {folder}")
        return ()
