"""What the page works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_server.cell import Cell
from edge_server.frontdoor.http.asking import Asker
from edge_server.ui.clips import Shelf
from edge_server.ui.gate import Gate
from edge_server.ui.watch import WatchedMetrics
from protos.names import ChannelName


@dataclass(frozen=True)
class ChannelChoice:
    """A channel model as the page offers it.

    Attributes:
        label: for people.
        fades: whether it matters how gains fade.
        perfect: whether the SNR has no meaning.
        selective: whether gains differ by subcarrier, and speed and delays matter.
    """

    label: str
    fades: bool
    perfect: bool
    selective: bool


@dataclass(frozen=True)
class PageContext:
    """One server's parts, as the page sees them.

    Attributes:
        asker: brings the playground's questions to the current model.
        cell: whose devices are shown.
        watched: what is counted.
        shelf: clips that can be asked about.
        gate: who may look and ask.
        channels: what the playground's radio link may be, by name.
        token_length: the one that the playground starts with.
        version: of this server.
        clock: monotonic seconds, the watch's.
        cotraining: how a co-training round stands; empty: none is shown.
    """

    asker: Asker
    cell: Cell[Any]
    watched: WatchedMetrics
    shelf: Shelf
    gate: Gate
    channels: Mapping[ChannelName, ChannelChoice]
    token_length: int
    version: str
    clock: Callable[[], float]
    cotraining: Callable[[], Mapping[str, Any]] = dict
