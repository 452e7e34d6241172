"""How a process of several is told what it is: one line of JSON on its standard input.

The stream stays open for as long as whoever started it lives: at its end the process drains and ends too, and
nobody is left behind.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO

from edge_server.server.config import ServerConfig
from edge_server.server.front_doors import Place


def told(config: ServerConfig, place: Place | None) -> bytes:
    """What a member is told, as a line.

    Args:
        config: its own.
        place: which of several doors it is; None: none of them.
    """
    where = None if place is None else {**asdict(place), "accounts": str(place.accounts)}
    return json.dumps({"config": config.model_dump(mode="json"), "place": where}).encode() + b"\n"


def be_told(stream: IO[bytes]) -> tuple[ServerConfig, Place | None]:
    """What :func:`told` made; from then on, the end of the stream tells this process to end.

    Args:
        stream: its standard input.
    """
    heard = json.loads(stream.readline())
    where = heard["place"]
    place = Place(where["number"], Path(where["accounts"]), where["own_port"]) if where else None
    threading.Thread(target=_end_with, args=(stream,), name="tokenlink-parent", daemon=True).start()
    return ServerConfig(**heard["config"]), place


def _end_with(stream: IO[bytes]) -> None:
    while stream.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
