"""One process of several that are a server together: ``python -m edge_server.server.member``.

:mod:`edge_server.server.supervisor` starts it, and tells it on its standard input what it is.
"""

from __future__ import annotations

import signal
import sys

from edge_server.errors import EdgeServerError
from edge_server.server import logs, process
from edge_server.server.telling import be_told


def main() -> None:
    """Serve as told."""
    # Until its model can be loaded again: others would end at it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        told = be_told(sys.stdin.buffer)
        logs.configure(told.config.server.log_level)
        process.run(told.config, told.place, told.model)
    except EdgeServerError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
