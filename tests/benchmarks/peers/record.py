"""What a run has measured so far, on disk: a run that is cut goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any


class Record:
    """Turns by name, a line of JSON each; the first line says what they belong to.

    Args:
        path: the file; None: nothing is kept.
        about: what has to be the same for a turn to count again.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self._path = path
        self._turns: dict[str, dict[str, Any]] = {}
        if path is None:
            return
        head = json.dumps(about, sort_keys=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if lines and lines[0] == head:
            for line in lines[1:]:
                try:
                    name, found = json.loads(line)
                except ValueError:
                    break  # cut while it was written
                self._turns[name] = found
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [json.dumps(turn) for turn in self._turns.items()]
        path.write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")

    async def turn(self, name: str, run: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """What this turn found, now or in a run that was cut."""
        if name not in self._turns:
            found = await run()
            self._turns[name] = found
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as sink:
                    sink.write(json.dumps((name, found)) + "\n")
        return self._turns[name]

    def close(self) -> None:
        """The run is complete: nothing is to be gone on with."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
