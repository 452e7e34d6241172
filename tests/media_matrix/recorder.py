"""Runs a command of ours and notes each clip that reaches a transmitter, whichever way it came in.

    python -m tests.media_matrix.recorder FOLDER edge-server serve ...
    python -m tests.media_matrix.recorder FOLDER device-agent ask      arguments of each call, JSON, on stdin

Nothing else is changed, but that a server makes tokens anew of a file whose bytes it has seen: what is noted
is what is made tokens of.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.media.clip import Clip
from device_agent.transmitter import Transmitter


def keep(clip: Clip, path: Path) -> None:
    """Write a clip, whole or not at all."""
    parts: dict[str, Any] = {"is_image": np.array(clip.is_image)}
    if clip.frames_THWC is not None:
        parts["frames"] = clip.frames_THWC
    if clip.pcm_S is not None:
        parts["pcm"] = clip.pcm_S
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(file, **parts)
    os.replace(unfinished, path)


def note_clips(folder: Path) -> None:
    """From now on each clip that is encoded in this process is kept in a folder, numbered."""
    numbers, encode = itertools.count(), Transmitter.encode

    def noted(self: Transmitter, clip: Clip, *arguments: Any, **named: Any) -> Any:
        keep(clip, folder / f"{next(numbers):06}.npz")
        return encode(self, clip, *arguments, **named)

    setattr(Transmitter, "encode", noted)  # noqa: B010 - mypy takes no assignment to a method


def remember_nothing() -> None:
    """A feature that a container cannot hold leaves the file as it was: it is to be noted all the same."""
    from edge_server.server.remembered import Remembered

    setattr(Remembered, "find", lambda *_: None)  # noqa: B010 - as above


def main() -> None:
    """Entry point."""
    folder, program, *arguments = sys.argv[1:]
    note_clips(Path(folder))
    if program == "edge-server":
        from edge_server.cli import main as serve

        remember_nothing()
        sys.argv = [program, *arguments]
        serve()
        return
    from device_agent.cli.main import main as agent

    if arguments[0] != "ask":
        sys.argv = [program, *arguments]
        agent()
        return
    # One process for many calls: each would start in a second.
    for line in sys.stdin:
        sys.argv = [program, *json.loads(line)]
        code = 0
        try:
            agent()
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:
            traceback.print_exc()
            code = -1
        print(json.dumps({"ended": code}), flush=True)


if __name__ == "__main__":
    main()
