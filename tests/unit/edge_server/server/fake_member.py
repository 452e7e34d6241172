"""A member that serves nothing: it says which model its folder names, and obeys signals; run as a program.

``MODEL/name``     the model, taken up at the start and at SIGHUP
``MODEL/started``  a line for each process that was started: its pid
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path


def main() -> None:
    heard = json.loads(sys.stdin.readline())
    model, ready = Path(heard["config"]["runtime"]["model"]), Path(heard["config"]["server"]["ready_file"])
    with (model / "started").open("a") as started:
        started.write(f"{os.getpid()}\n")

    def say() -> str:
        name = (model / "name").read_text()
        facts = {"bundle_hash": name, "digest": "", "pid": os.getpid(), "own_rest": ready.stem}
        draft = ready.with_suffix(".draft")
        draft.write_text(json.dumps(facts))
        draft.replace(ready)
        return name

    def end() -> None:
        sys.stdin.read()
        os._exit(0)

    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGTERM))
    threading.Thread(target=end, daemon=True).start()
    meant, found = heard["model"], (model / "name").read_text()
    if meant is not None and meant[0] != found:
        sys.exit(2)
    say()
    while signal.sigwait((signal.SIGHUP, signal.SIGTERM)) == signal.SIGHUP:
        say()


if __name__ == "__main__":
    main()
