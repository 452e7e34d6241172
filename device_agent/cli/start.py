"""The ``device-agent`` program: its own first lines, before anything that takes time to load."""

from __future__ import annotations

import sys
from typing import Any, Literal

MARKUP: Literal["markdown"] = "markdown"
"""How help is written, in all commands: units in brackets are text there, not markup."""
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
"""Context settings of all commands."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main() -> None:
    """Load the command line and run it; Ctrl-C ends it quietly, also while it is loaded."""
    try:
        from device_agent.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
