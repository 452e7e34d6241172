"""Asks open-small free questions about photos and a sound, where its weights are there; a line where not.

    edge-server weights get open-small    # once
    make demo

Nothing is marked: there is no list of right answers to free questions. What the model gets right, and what
not, is measured: docs/open-small.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.with_server import edge_server
from device_agent.places import fetched_models

HERE = Path(__file__).resolve().parent
MODEL = "open-small"
SNR_DB = 10.0
CHANNEL_SEED = 1
TIMEOUT_S = 120


def ask(path: Path, question: str, environment: Mapping[str, str]) -> str:
    """Run the device agent; its answer.

    Raises:
        SystemExit: it failed.
    """
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    executable = shutil.which("device-agent", path=places) or sys.exit("device-agent is not installed")
    command = [executable, "ask", str(path), question, "--snr-db", f"{SNR_DB:g}"]
    done = subprocess.run(  # noqa: S603 - the arguments are ours
        [*command, "--seed", str(CHANNEL_SEED), "--json"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, **environment},
    )
    if done.returncode:
        sys.exit(f"asking about {path.name} failed with {done.returncode}: {done.stderr or done.stdout}")
    return str(json.loads(done.stdout)["answer"]).strip()


def main() -> None:
    """Entry point."""
    model = fetched_models() / MODEL
    console = Console(highlight=False)
    if not (model / "model.json").is_file():
        console.print(f"Free questions about photos: edge-server weights get {MODEL}, then this again.")
        return
    table = Table(title=f"{MODEL}: free questions, {SNR_DB:g} dB", header_style="bold")
    for name in ("about", "question", "answer"):
        table.add_column(name, overflow="fold")
    with edge_server(model) as environment, console.status("asking ..."):
        for row in json.loads((HERE / MODEL / "questions.json").read_text(encoding="utf-8")):
            clip = HERE / MODEL / row["clip"]
            table.add_row(clip.name, row["question"], ask(clip, row["question"], environment))
    console.print(table)
    console.print(
        f"Your own camera: edge-server serve --model {MODEL}, then *Take a picture* in the page's playground."
    )


if __name__ == "__main__":
    main()
