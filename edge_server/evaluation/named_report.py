"""Folders of named photos and sounds, asked about at several settings: a table and JSON."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from device_agent.channel import ChannelConfig
from device_agent.places import downloads
from edge_server.evaluation.named import QUESTIONS, NamedFolder, read_lemmas, read_named, read_synsets
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.weights.catalogue import LEMMAS, SYNSETS


def named_report(
    link: Link,
    folders: dict[str, Path | None],
    channels: list[ChannelConfig],
    lengths: list[int],
    most: int | None,
    seed: int,
) -> dict[str, Any]:
    """Ask about files that are named by what they show, and print how many were named rightly."""
    names = downloads()
    lemmas = read_lemmas(names / LEMMAS.name)
    report: dict[str, Any] = {"model": link.config.name, "seed": seed, "commit": current_commit()}
    with Progress(console=Console(stderr=True)) as bar:
        for slot, folder in folders.items():
            if folder is None:
                continue
            files = read_named(folder, slot, lemmas)[:most]
            task = bar.add_task(str(folder), total=len(files) * (1 + len(channels) * len(lengths)))
            advance = partial(bar.advance, task)
            ready = NamedFolder(link, slot, files, read_synsets(names / SYNSETS.name), advance)
            rows = []
            for length in lengths:
                for each in channels:
                    score = ready.ask(each, length, seed, advance=advance)
                    told = {"channel": each.model, "fading": each.fading, "snr_db": each.snr_db}
                    rows.append({**told, "token_length": length, **score.to_json(), "said": dict(score.said)})
            report[slot] = {"question": QUESTIONS[slot], "synonyms": bool(lemmas), "results": rows}
    print_named(report, Console())
    return report


def print_named(report: dict[str, Any], console: Console) -> None:
    """How many files were named rightly: a line per setting."""
    table = Table(title=f"{report['model']}: named rightly")
    for heading in ("files", "SNR", "tokens", "right", "encoder alone", "of that"):
        table.add_column(heading, justify="right")
    for slot in QUESTIONS:
        for row in report.get(slot, {}).get("results", ()):
            alone, part = row.get("encoder_top_1"), row.get("of_encoder")
            table.add_row(
                f"{row['questions']} {slot}",
                f"{row['snr_db']:g} dB",
                str(row["token_length"]),
                f"{row['accuracy']:.1%}",
                "" if alone is None else f"{alone:.1%}",
                "" if part is None else f"{part:.2f}",
            )
    console.print(table)
