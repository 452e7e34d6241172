"""How a process of several is told what it is: one line of JSON on its standard input.

The stream stays open for as long as whoever started it lives: at its end the process drains and ends too, and
nobody is left behind.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TypeAlias

from edge_server.server.config import ServerConfig
from edge_server.server.front_doors import Place

ModelIdentity: TypeAlias = tuple[str, str]
"""Bundle hash, and digest of the weights: what is served is the same where both are."""


@dataclass(frozen=True)
class Told:
    """What a member hears.

    Attributes:
        config: its own.
        place: which of several doors it is; None: none of them.
        model: that it has to serve; None: what the model folder holds.
    """

    config: ServerConfig
    place: Place | None = None
    model: ModelIdentity | None = None


def told(config: ServerConfig, place: Place | None, model: ModelIdentity | None = None) -> bytes:
    """What a member is told, as a line; the arguments are the attributes of :class:`Told`."""
    where = None if place is None else {**asdict(place), "accounts": str(place.accounts)}
    line = {"config": config.model_dump(mode="json"), "place": where, "model": model}
    return json.dumps(line).encode() + b"\n"


def be_told(stream: IO[bytes]) -> Told:
    """What :func:`told` made; from then on, the end of the stream tells this process to end.

    Args:
        stream: its standard input.
    """
    heard = json.loads(stream.readline())
    where, model = heard["place"], heard["model"]
    place = Place(where["number"], Path(where["accounts"]), where["own_port"]) if where else None
    threading.Thread(target=_end_with, args=(stream,), name="tokenlink-parent", daemon=True).start()
    return Told(ServerConfig(**heard["config"]), place, (model[0], model[1]) if model else None)


def _end_with(stream: IO[bytes]) -> None:
    while stream.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
