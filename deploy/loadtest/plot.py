"""The latencies of a load test as a picture, from its JSON alone.

python -m deploy.loadtest.plot build/loadtest/steady.json build/loadtest/steady.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plot(report: Mapping[str, Any], picture: Path) -> None:
    """Latency over percentile, where the last have as much room as the first; a line per phase and group.

    Args:
        report: as :meth:`deploy.loadtest.running.Report.to_json` makes it.
        picture: PNG that is written.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for result in report["phases"]:
        measured = {name: each for name, each in result["measurements"].items() if name != "all"}
        for name, each in measured.items():
            curve = [
                (level, latency_s) for level, latency_s in each["latency"].get("curve", ()) if level < 100.0
            ]
            if not curve:
                continue
            label = result["phase"]["name"] + (f", {name}" if len(measured) > 1 else "")
            axes.plot(
                [1.0 / (1.0 - level / 100.0) for level, _ in curve],
                [1e3 * latency_s for _, latency_s in curve],
                label=f"{label}: {each['answered_hz']:.0f} answers/s",
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    levels = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)
    axes.set_xticks([1.0 / (1.0 - level / 100.0) for level in levels], [f"{level:g} %" for level in levels])
    axes.xaxis.minorticks_off()
    axes.set_xlabel("percentile")
    axes.set_ylabel("latency from the intended send time [ms]")
    axes.set_title(report["profile"]["summary"], fontsize="medium", wrap=True)
    axes.grid(visible=True, alpha=0.3)
    if axes.get_lines():
        axes.legend()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    paths = sys.argv[1:] if arguments is None else arguments
    if len(paths) != 2:
        sys.exit("usage: python -m deploy.loadtest.plot REPORT.json PICTURE.png")
    plot(json.loads(Path(paths[0]).read_text(encoding="utf-8")), Path(paths[1]))


if __name__ == "__main__":
    main()
