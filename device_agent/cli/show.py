"""How the agent speaks to a person: answers, costs and findings on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from device_agent.bench import Report, Spread
from device_agent.cli.printable import printable
from device_agent.doctor.finding import Finding
from device_agent.media.clip import Window
from device_agent.outcome import Cost, Outcome, window_of

MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failure": ("✗", "red")}
"""Sign and colour of each state of a finding."""


def seconds(value: float) -> str:
    """A time in the unit that suits it."""
    if value >= 1.0:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.0f} µs"


def cost_line(cost: Cost) -> str:
    """What an answer cost, in one line."""
    return (
        f"{cost.channel_uses} channel uses · {cost.bytes_on_wire} bytes on the wire · "
        f"airtime {seconds(cost.airtime_s)} · encode {seconds(cost.encode_s)} · "
        f"round trip {seconds(cost.round_trip_s)}"
    )


def link_line(outcome: Outcome) -> str:
    """What the link was like, in one line; empty when nothing went over the radio."""
    return " · ".join(f"{modality} at {snr:.1f} dB" for modality, snr in outcome.effective_snr_db.items())


def sure_line(outcome: Outcome) -> str:
    """How far an answer is to be believed, in one line."""
    if outcome.confidence is None:
        return "not sure" if outcome.abstained else f"probability {outcome.probability:.2f}"
    if not outcome.abstained:
        return f"confidence {outcome.confidence:.2f}"
    if not outcome.guess:
        return "the model was not trained for this"
    return f"held back: {printable(outcome.guess)}, confidence {outcome.confidence:.2f}"


def tokens_line(outcome: Outcome) -> str:
    """How many tokens were sent; in rounds, what each brought the blocks to."""
    if not outcome.rounds:
        return f"{outcome.token_length} tokens per modality"
    told = (" + ".join(f"{name} {n}" for name, n in lengths.items()) for lengths in outcome.rounds)
    return "tokens: " + ", then ".join(told)


def show_cost(console: Console, outcome: Outcome) -> None:
    """Print what an answer cost."""
    console.print(Text(cost_line(outcome.cost), style="dim"))
    link = link_line(outcome)
    sure = sure_line(outcome)
    if link:
        sure += f" · {tokens_line(outcome)} · {link}"
    console.print(Text(sure, style="dim"))


def scene_line(scene: Mapping[str, Any]) -> str:
    """A scene that an answer is from, in one line."""
    if not scene["scene_id"]:
        return f"{printable(scene['device'])}: there is no such scene"
    old = " (stale)" if scene["stale"] else ""
    return f"{printable(scene['device'])}: {scene['scene_id']}, {seconds(scene['age_s'])} ago{old}"


def show_scenes(console: Console, outcome: Outcome) -> None:
    """Say which scenes an answer is from."""
    for scene in outcome.scenes:
        console.print(Text(scene_line(scene), style="dim"))


def window_line(window: Window | None) -> str:
    """Which part of a file was looked at, in words; empty where it was none."""
    if window is None:
        return ""
    whole = "" if window.duration_s is None else f" of {window.duration_s:.6g} s"
    return f"{window.start_s:.6g} to {window.end_s:.6g} s{whole}"


def show_window(console: Console, outcome: Outcome) -> None:
    """Say which part of a file was looked at, if there is more of it."""
    window = None if outcome.window is None else window_of(outcome.window)
    if window is not None and window.is_part:
        console.print(
            Text(f"about {window_line(window)} (--window START..END, or --every for all)", style="dim")
        )


def windowed(record: Mapping[str, Any]) -> str:
    """The answer of a record, with the part of the file that it is about, if there is more of it."""
    values = record.get("window")
    window = None if values is None else window_of(values)
    part = f" (about {window_line(window)})" if window is not None and window.is_part else ""
    return f"{record['answer']}{part}"


def show_findings(console: Console, findings: list[Finding]) -> None:
    """Print what the doctor found, and what to do about it."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, colour = MARKS[finding.state]
        found = Text(printable(finding.found))
        if finding.advice:
            found.append(f"\n→ {printable(finding.advice)}", style=colour)
        table.add_row(Text(mark, style=colour), Text(finding.name, style="bold"), found)
    console.print(table)


def show_report(console: Console, report: Report) -> None:
    """Print what answers cost at each token length."""

    def spread(values: Spread) -> str:
        return f"{seconds(values.median)} ({seconds(values.lower)} to {seconds(values.upper)})"

    table = Table(title=f"{report.repeats} questions at each token length, {' and '.join(report.modalities)}")
    headings = ("tokens", "channel uses", "bytes on the wire", "airtime", "encode", "round trip")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in report.rows:
        table.add_row(
            *(str(n) for n in (row.token_length, row.channel_uses, row.bytes_on_wire)),
            seconds(row.airtime_s),
            spread(row.encode_s),
            spread(row.round_trip_s),
        )
    console.print(table)
    graphs = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in report.graph_bytes.items())
    console.print(f"Medians with quartiles. Graphs: {graphs}.")
    console.print(f"Peak resident memory: {report.peak_resident_bytes / 1e6:.0f} MB.")
