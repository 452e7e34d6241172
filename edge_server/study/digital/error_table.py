"""Block error rates as they were simulated, on disk as JSON, and read at any SNR."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_server.errors import ConfigurationError
from edge_server.study.digital.mcs import Mcs


@dataclass(frozen=True)
class Waterfall:
    """One code over one channel: lost blocks at rising SNRs.

    Attributes:
        snr_db: Es/N0 of each point [dB], rising.
        lost: blocks lost at each.
        blocks: blocks sent at each.
    """

    snr_db: tuple[float, ...]
    lost: tuple[int, ...]
    blocks: tuple[int, ...]

    def rate(self, snr_db: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Block error rate, any shape.

        Its logarithm is linear between points and made not to rise with SNR; a point without a loss counts
        as half a lost block. Below the first point all is lost; above the last, where no block was lost,
        nothing is, which favours the code.
        """
        asked = np.asarray(snr_db, np.float64)
        lost, blocks = np.asarray(self.lost, np.float64), np.asarray(self.blocks, np.float64)
        rates = np.minimum.accumulate(np.maximum(lost, 0.5) / blocks)
        rate = np.exp(np.interp(asked, self.snr_db, np.log(rates)))
        rate = np.where(asked < self.snr_db[0], 1.0, rate)
        cleared = self.lost[-1] == 0
        return np.where((asked > self.snr_db[-1]) & cleared, 0.0, rate)


class ErrorTable:
    """Waterfalls by channel, channel uses and scheme.

    Args:
        path: the JSON file; read if it is there.
        settings: what the simulation was asked (seed, effort); a file made with others is refused.

    Raises:
        ConfigurationError: the file was made with other settings, or cannot be read.
    """

    def __init__(self, path: Path, settings: dict[str, Any] | None = None) -> None:
        self.path = path
        self.settings = settings
        self._entries: dict[str, Waterfall] = {}
        if path.exists():
            self._load()

    def _load(self) -> None:
        try:
            raw = json.loads(self.path.read_text())
            found = raw["settings"]
            self._entries = {
                key: Waterfall(**{name: tuple(values) for name, values in entry.items()})
                for key, entry in raw["entries"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"{self.path}: not a table of block error rates: {error}") from error
        if self.settings is not None and found != self.settings:
            raise ConfigurationError(
                f"{self.path}: made with {found}, asked for {self.settings}; delete it or keep its settings"
            )
        self.settings = found

    def save(self) -> None:
        """Write the file; one that is cut off leaves the old one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entries = {key: asdict(waterfall) for key, waterfall in self._entries.items()}
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps({"settings": self.settings, "entries": entries}, indent=1) + "\n")
        partial.replace(self.path)

    def get(self, kind: str, channel_uses: int, mcs: Mcs) -> Waterfall | None:
        """A waterfall, or None where it was not simulated."""
        return self._entries.get(_key(kind, channel_uses, mcs))

    def put(self, kind: str, channel_uses: int, mcs: Mcs, waterfall: Waterfall) -> None:
        """Add one, in memory."""
        self._entries[_key(kind, channel_uses, mcs)] = waterfall

    def channel_uses(self) -> tuple[int, ...]:
        """Codeword lengths that it knows [symbols], rising."""
        return tuple(sorted({int(key.split("/")[1]) for key in self._entries}))


def _key(kind: str, channel_uses: int, mcs: Mcs) -> str:
    return f"{kind}/{channel_uses}/{mcs.name}"
