"""The ``device-agent`` program: its own first lines, before anything that takes time to load."""

from __future__ import annotations

import sys

from device_agent.cli.conventions import INTERRUPTED


def main() -> None:
    """Load the command line and run it; Ctrl-C ends it quietly, also while it is loaded."""
    try:
        from device_agent.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
