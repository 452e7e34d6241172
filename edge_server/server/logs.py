"""Log lines as JSON, one object per line, for log collectors; on a terminal, words.

What is passed as ``extra`` becomes fields. Nothing that came from a device is logged but ids.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from device_agent.cli.printable import printable

_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


IN_WORDS = "in_words"
"""Extra field of a record: what a terminal is shown in place of message and fields."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time (UTC), level, logger, message, extra fields, and the traceback where there is one."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            key: value for key, value in vars(record).items() if key not in _ORDINARY and key != IN_WORDS
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TerminalFormatter(logging.Formatter):
    """Formats a record for whoever sits at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Time of day, level where it is out of the ordinary, message, and the extra fields behind it."""
        told = vars(record).get(IN_WORDS)
        fields = {key: value for key, value in vars(record).items() if key not in _ORDINARY}
        line = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S ")
        if record.levelno != logging.INFO:
            line += f"{record.levelname} "
        if told is not None:
            line += str(told)
        else:
            line += record.getMessage()
            line += "".join(f"  {key}={value}" for key, value in fields.items() if value is not None)
        line = printable(line)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(level: str) -> None:
    """Send every logger of this process to standard error: as JSON lines, or to a terminal in words."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TerminalFormatter() if sys.stderr.isatty() else JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
