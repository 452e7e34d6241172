"""SNR over time, as measured or made up: a CSV with the columns ``time_s,snr_db``."""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from device_agent.errors import ConfigurationError
from device_agent.written import written_text

MAX_TRACE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class SnrTrace:
    """A step function of time: each value holds until the next, the last one for ever.

    Attributes:
        times_s: strictly increasing, seconds from the start of the trace.
        snrs_db: Es/N0 from each of these times on [dB].
    """

    times_s: tuple[float, ...]
    snrs_db: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.times_s or len(self.times_s) != len(self.snrs_db):
            raise ConfigurationError(
                f"trace: {len(self.times_s)} times and {len(self.snrs_db)} SNRs; "
                "as many of one as of the other are needed, at least 1"
            )
        if not all(map(math.isfinite, (*self.times_s, *self.snrs_db))):
            raise ConfigurationError("trace: values must be finite numbers")
        if any(later <= earlier for earlier, later in zip(self.times_s, self.times_s[1:], strict=False)):
            raise ConfigurationError("trace: time_s must increase strictly")

    def at(self, time_s: float) -> float:
        """Es/N0 at a time since the start [dB]; before the first entry, the first value."""
        return self.snrs_db[max(bisect_right(self.times_s, time_s) - 1, 0)]


def read_trace(path: Path) -> SnrTrace:
    """Read a trace from CSV.

    Raises:
        ConfigurationError: names the file and the line that is at fault.
    """
    try:
        if path.stat().st_size > MAX_TRACE_BYTES:
            raise ConfigurationError(f"trace {path}: larger than {MAX_TRACE_BYTES} bytes")
        text = written_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"trace {path}: cannot be read: {error}") from error
    rows = csv.DictReader(text.splitlines())
    if not {"time_s", "snr_db"} <= set(rows.fieldnames or ()):
        raise ConfigurationError(f"trace {path}: columns are {rows.fieldnames}; needed: time_s,snr_db")
    times: list[float] = []
    snrs: list[float] = []
    for row in rows:
        try:
            times.append(float(row["time_s"]))
            snrs.append(float(row["snr_db"]))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"trace {path}, line {rows.line_num}: two numbers needed") from error
    return SnrTrace(tuple(times), tuple(snrs))
