"""Folders of named photos and sounds, asked about at several settings: a table and JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from device_agent.channel import ChannelConfig
from device_agent.places import downloads
from edge_server.engine.calibration import FILE, read_calibration
from edge_server.errors import ModelError
from edge_server.evaluation.calibrate import MAY_LOSE
from edge_server.evaluation.named import (
    QUESTIONS,
    Named,
    NamedFolder,
    read_lemmas,
    read_named,
    read_synsets,
)
from edge_server.evaluation.named_honesty import (
    calibrate_named,
    honesty_table,
    judge_named,
    to_fit_on,
    to_judge_on,
)
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.weights.catalogue import LEMMAS, SYNSETS

NAMED_OVER_DB = (10.0, 0.0, -5.0)
"""Over which confidence is fitted and judged, evenly."""


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


@dataclass(frozen=True)
class NamedHonesty:
    """Confidence in answers about a folder of files: fitted on one half of them, judged on the other.

    Attributes:
        link: the model.
        model: its folder.
        folders: by slot; one of them.
        channels: over which; the first is what is from elsewhere meets.
        token_length: tokens of each file.
        seed: of channels.
    """

    link: Link
    model: Path
    folders: dict[str, Path | None]
    channels: list[ChannelConfig]
    token_length: int
    seed: int

    def calibrate(self, most: int | None) -> dict[str, Any]:
        """Fit, and write it into the model folder."""
        with Progress(console=Console(stderr=True)) as bar:
            ready, advance = self._ready(to_fit_on, most, bar)
            fitted = calibrate_named(ready, self.channels, self.token_length, self.seed, advance)
        about = {
            "questions": len(ready.files),
            "snr_db": [channel.snr_db for channel in self.channels],
            "may_lose": MAY_LOSE,
            "seed": self.seed,
            "commit": current_commit(),
        }
        fitted.write(self.model, about)
        typer.echo(f"{self.model / FILE}: answers of less confidence than {fitted.threshold} are held back")
        return about

    def judge(self, most: int | None) -> dict[str, Any]:
        """Judge by what the model folder says.

        Raises:
            ModelError: the model is not calibrated.
        """
        calibration = read_calibration(self.model / FILE)
        if calibration is None:
            raise ModelError(f"{self.model}: is not calibrated; `edge-server evaluate --calibrate` does it")
        with Progress(console=Console(stderr=True)) as bar:
            ready, advance = self._ready(to_judge_on, most, bar)
            found = judge_named(ready, calibration, self.channels, self.token_length, self.seed, advance)
        Console().print(honesty_table(found))
        head = {"model": self.link.config.name, "seed": self.seed, "commit": current_commit()}
        return {**head, "slot": ready.slot, "token_length": self.token_length, **found}

    def _ready(
        self, half: Callable[[Sequence[Named]], Sequence[Named]], most: int | None, bar: Progress
    ) -> tuple[NamedFolder, Callable[[int], None]]:
        given = [(slot, folder) for slot, folder in self.folders.items() if folder is not None]
        if len(given) != 1:
            raise typer.BadParameter("one at a time", param_hint="--photos --sounds")
        ((slot, folder),) = given
        names = downloads()
        files = half(read_named(folder, slot, read_lemmas(names / LEMMAS.name))[:most])
        task = bar.add_task(str(folder), total=None)
        advance = partial(bar.advance, task)
        return NamedFolder(self.link, slot, files, read_synsets(names / SYNSETS.name), advance), advance
