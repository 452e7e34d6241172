"""Runs rows: one after the other at full scale; in the small version, which mostly waits, some at once."""

from __future__ import annotations

import asyncio
import importlib
import logging
import multiprocessing
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.chaos.row import Row, Run, Scale, exactly
from tests.chaos.rows import ROWS

_AT_ONCE = 2


def run_rows(names: Sequence[str], scale: Scale) -> Iterator[tuple[str, Row, float]]:
    """Rows as they end: each with its name, and how long it took [s]."""
    if scale != "quick":
        for name in names:
            yield name, *_timed(name, scale)
        return
    with ProcessPoolExecutor(_AT_ONCE, mp_context=multiprocessing.get_context("spawn")) as lanes:
        running = {lanes.submit(_timed, name, scale): name for name in names}
        for future in as_completed(running):
            yield running[future], *future.result()


def _timed(name: str, scale: Scale) -> tuple[Row, float]:
    logging.disable(logging.WARNING)
    print(f"{name} ...", file=sys.stderr)
    started_s = time.monotonic()
    return _run_row(name, scale), time.monotonic() - started_s


def _run_row(name: str, scale: Scale) -> Row:
    """Run one row in a fresh folder, which stays where a promise was not kept."""
    run: Run = importlib.import_module(ROWS[name]).run
    folder = Path(tempfile.mkdtemp(prefix=f"tokenlink-chaos-{name}-"))
    try:
        row = asyncio.run(run(scale, folder))
    except Exception:
        # The other rows are run all the same.
        trace = traceback.format_exc()
        print(trace, file=sys.stderr)
        row = Row(name, "broke off", [exactly("ran to its end", 0, 1)], {"trace": trace})
    if row.kept:
        shutil.rmtree(folder)
    else:
        print(f"{name}: what was left lies in {folder}", file=sys.stderr)
    return row
