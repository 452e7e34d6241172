"""Asks about the shipped clips, one question of each type, over a good link and a bad one.

    make demo

For every question the real ``device-agent ask`` runs: clip ─▶ tokens ─▶ emulated radio ─▶ gRPC ─▶ answer. One
more question goes over REST. The clips are of the test split, which no training sees. Nine questions are few:
below them stands how many of the whole split are right. Exit code 0 unless something fails; a wrong answer is
an answer, and is marked.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

HERE = Path(__file__).resolve().parent
CLIPS = HERE / "clips"
ACCURACY = HERE.parents[1] / "docs" / "results" / "accuracy.json"
"""What ``edge-server evaluate`` found; ``make results`` measures it again."""
KNOWN = (
    "A demonstration: it knows ten instruments, drawn as emoji, and nine types of question, in many words."
)
SNRS_DB = (10.0, -5.0)
CHANNEL_SEED = 1
"""Of the emulated noise: the same answers every time."""
WIDTH_WITHOUT_TERMINAL = 150
TIMEOUT_S = 120


@dataclass(frozen=True)
class Question:
    """A question about a clip.

    Attributes:
        kind: MUSIC-AVQA's question type, such as ``"Audio-Visual Counting"``.
        text: the question.
        truth: its answer.
        clip: file that it is about.
    """

    kind: str
    text: str
    truth: str
    clip: Path

    def is_right(self, answer: str) -> bool:
        """Whether an answer is the true one."""
        return answer.strip().lower() == self.truth.lower()


def one_of_each_type(rows: Iterable[dict[str, Any]]) -> list[Question]:
    """The n-th type's question about the n-th clip, round and round.

    Args:
        rows: as in questions.json.
    """
    questions = [
        Question(" ".join(row["type"]), row["question"], row["answer"], CLIPS / row["clip"]) for row in rows
    ]
    kinds = list(dict.fromkeys(question.kind for question in questions))
    chosen = []
    for number, kind in enumerate(kinds):
        candidates = [question for question in questions if question.kind == kind]
        chosen.append(candidates[number % len(candidates)])
    return chosen


def ask_command(question: Question, snr_db: float) -> list[str]:
    """What a user would type."""
    clip = os.path.relpath(question.clip)
    return [*("device-agent", "ask", clip, question.text), *("--snr-db", f"{snr_db:g}")]


def ask(question: Question, snr_db: float) -> dict[str, Any]:
    """Run the device agent; what it reports, as its --json says.

    Raises:
        SystemExit: it failed.
    """
    command = [*ask_command(question, snr_db), "--seed", str(CHANNEL_SEED), "--json"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    executable = shutil.which(command[0], path=path) or sys.exit("device-agent is not installed: make demo")
    done = subprocess.run(  # noqa: S603 - the arguments are ours
        [executable, *command[1:]], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        # Under --json what went wrong is JSON too, and stands where an answer would.
        said = (done.stderr.strip(), done.stdout.strip())
        sys.exit(f"{shlex.join(command)} failed with {done.returncode}: {' '.join(filter(None, said))}")
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def served_model(url: str) -> str:
    """The name of the model that a server has."""
    with urllib.request.urlopen(f"{url}/v1/models", timeout=TIMEOUT_S) as response:  # noqa: S310
        return str(json.load(response)["data"][0]["id"])


def held_out(accuracy: dict[str, Any], model: str) -> str:
    """How much of the whole test split is right, in words.

    Args:
        accuracy: as in docs/results/accuracy.json.
        model: the one that answers; of another nothing was measured.
    """
    if accuracy["model"] != model:
        return f"How many held-out questions {model} answers rightly, `edge-server evaluate` tells."
    rows = accuracy["results"]
    shares = ", ".join(f"{row['accuracy']:.1%} at {row['snr_db']:g} dB" for row in rows)
    return f"Of {rows[0]['questions']} held-out questions {model} answers rightly: {shares}. {KNOWN}"


def ask_over_rest(url: str, model: str, question: Question) -> str:
    """Ask as any client of the OpenAI API would, with the clip as a data URL."""
    clip = base64.b64encode(question.clip.read_bytes()).decode()
    content = [
        {"type": "text", "text": question.text},
        {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{clip}"}},
    ]
    request = urllib.request.Request(  # noqa: S310 - http, from the environment
        f"{url}/v1/chat/completions",
        json.dumps({"model": model, "messages": [{"role": "user", "content": content}]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
        return str(json.load(response)["choices"][0]["message"]["content"])


def mark(question: Question, answer: str) -> Text:
    """An answer with its verdict."""
    sign, style = ("✓", "green") if question.is_right(answer) else ("✗", "red")
    return Text(f"{sign} {answer.strip()}", style=style)


def new_table() -> Table:
    """The table's head."""
    table = Table(title="One question of each type, over two links", header_style="bold")
    table.add_column("type", no_wrap=True)
    for name in ("question", "truth"):
        table.add_column(name, overflow="fold")
    table.add_column("SNR", justify="right", no_wrap=True)
    table.add_column("answer", overflow="fold")
    for name in (
        "tokens\neach",
        "channel\nuses",
        "bytes\nsent",
        "air-\ntime ms",
        "encode\nms",
        "round\ntrip ms",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def cost_cells(outcome: dict[str, Any]) -> list[str]:
    """What a question cost, as the table shows it."""
    cost = outcome["cost"]
    times = (f"{cost[name] * 1e3:.1f}" for name in ("airtime_s", "encode_s", "round_trip_s"))
    counts = (outcome["token_length"], cost["channel_uses"], cost["bytes_on_wire"])
    return [*map(str, counts), *times]


def main() -> None:
    """Entry point."""
    url = os.environ.get("TOKENLINK_REST_URL")
    if url is None or "TOKENLINK_DEVICE_SERVER" not in os.environ:
        sys.exit("no server in the environment; `make demo` starts one")
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else WIDTH_WITHOUT_TERMINAL, highlight=False)
    questions = one_of_each_type(json.loads((HERE / "questions.json").read_text(encoding="utf-8")))
    table = new_table()
    right = dict.fromkeys(SNRS_DB, 0)
    sent = dict.fromkeys(SNRS_DB, 0)
    with console.status("asking ...") as status:
        for question in questions:
            status.update(f"asking: {question.text}")
            cells = [question.kind, question.text, question.truth]
            for snr_db in SNRS_DB:
                outcome = ask(question, snr_db)
                right[snr_db] += question.is_right(outcome["answer"])
                sent[snr_db] += outcome["cost"]["bytes_on_wire"]
                answer = mark(question, outcome["answer"])
                table.add_row(*cells, f"{snr_db:g} dB", answer, *cost_cells(outcome))
                cells = ["", "", ""]
            table.add_section()
        first = questions[0]
        model = served_model(url)
        rest_answer = ask_over_rest(url, model, first)
    console.print(table)
    clip_bytes = sum(question.clip.stat().st_size for question in questions)
    for snr_db in SNRS_DB:
        console.print(
            f"{snr_db:>4g} dB: {right[snr_db]} of {len(questions)} right, {sent[snr_db]} bytes sent "
            f"in place of {clip_bytes} bytes of MP4 ({clip_bytes / sent[snr_db]:.0f} times as many)"
        )
    console.print(
        Text(held_out(json.loads(ACCURACY.read_text(encoding="utf-8")), model)),
        Text.assemble(f"REST, /v1/chat/completions: {first.text} ", mark(first, rest_answer)),
        Text(f"Encoding includes opening the graphs; the channel is AWGN, seed {CHANNEL_SEED}.", style="dim"),
        Text(
            f"By hand, beside `edge-server serve`: {shlex.join(ask_command(first, SNRS_DB[0]))}", style="dim"
        ),
        sep="\n",
    )


if __name__ == "__main__":
    main()
