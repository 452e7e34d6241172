"""The ``device-agent`` program: its own first lines, before anything that takes time to load."""

from __future__ import annotations

import os
import sys

from device_agent.cli.conventions import INTERRUPTED


def main() -> None:
    """Load the command line and run it; Ctrl-C ends it quietly, also while it is loaded."""
    # gRPC's own library writes to the terminal what servers tell it; errors reach us all the same.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from device_agent.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
