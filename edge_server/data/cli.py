"""``edge-server dataset``: make data sets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from device_agent.cotrain.questions_file import QuestionLine
from edge_server.data.authors_writer import write_authors_layout
from edge_server.data.soundstage.clip_file import write_mp4
from edge_server.data.soundstage.combinations import CombinationsName
from edge_server.data.soundstage.dataset import SplitName, generate, sample_scenes, video_id
from edge_server.data.soundstage.room_dataset import generate_rooms

app = typer.Typer(no_args_is_help=True, help="Make data sets.")


@app.callback()
def _group() -> None:
    """Make data sets."""


@app.command()
def soundstage(
    out: Annotated[Path, typer.Option(help="Folder of the data set; the split gets a folder in it.")],
    clips: Annotated[int, typer.Option(min=0, help="Clips to generate.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Everything follows from it.")] = 1,
    split: Annotated[SplitName, typer.Option(help="Splits of one seed share no clip.")] = "train",
    workers: Annotated[int, typer.Option(min=1, help="Processes that render.")] = os.cpu_count() or 1,
    mp4: Annotated[
        int, typer.Option(min=0, help="Also write the first N clips as MP4 that a person can play.")
    ] = 0,
    artwork: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Other artwork: a folder of PNG files named by code point, such as 1f3bb.png.",
        ),
    ] = None,
    soundfont: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Another General MIDI soundfont, .sf2.")
    ] = None,
    combinations: Annotated[
        CombinationsName,
        typer.Option(help="Of instrument, place and motion: scenes without those held out, or with one."),
    ] = "all",
) -> None:
    """Generate a split of Soundstage: clips, captions, questions."""
    with _progress() as bar:
        task = bar.add_task(f"soundstage {split}", total=clips)
        generate(
            out,
            split,
            clips,
            seed,
            workers,
            lambda done: bar.advance(task, done),
            artwork=artwork,
            soundfont=soundfont,
            combinations=combinations,
        )
        folder = out / split / "mp4"
        folder.mkdir(exist_ok=True)
        for index, scene in enumerate(
            bar.track(sample_scenes(split, mp4, seed, combinations), description="mp4")
        ):
            write_mp4(scene, folder / f"{video_id(split, index)}.mp4")


@app.command()
def rooms(
    out: Annotated[Path, typer.Option(help="Folder of the data set; the split gets a folder in it.")],
    rooms: Annotated[int, typer.Option(min=1, help="Rooms to generate.")] = 3_000,
    seed: Annotated[int, typer.Option(min=0, help="Everything follows from it.")] = 1,
    split: Annotated[SplitName, typer.Option(help="Splits of one seed share no room.")] = "train",
    workers: Annotated[int, typer.Option(min=1, help="Processes that render.")] = os.cpu_count() or 1,
) -> None:
    """Generate a split of rooms: two cameras, two microphones, questions that need two of them."""
    with _progress() as bar:
        task = bar.add_task(f"rooms {split}", total=rooms)
        generate_rooms(out, split, rooms, seed, workers, lambda done: bar.advance(task, done))


@app.command()
def authors_layout(
    out: Annotated[Path, typer.Option(help="Folder that gets VALOR/ and MUSIC-AVQA/.")],
    clips: Annotated[int, typer.Option(min=1, help="Clips of each of the two.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Everything follows from it.")] = 1,
    split: Annotated[SplitName, typer.Option(help="Splits of one seed share no clip.")] = "train",
) -> None:
    """Write Soundstage clips in the layout of recorded data sets, to try the recipe `paper` on."""
    with _progress() as bar:
        task = bar.add_task(f"authors' layout {split}", total=2 * clips)
        write_authors_layout(out, split, clips, seed, lambda done: bar.advance(task, done))


@app.command()
def schema() -> None:
    """Print the JSON Schema of a line of questions.jsonl, the file of questions about clips of one's own."""
    typer.echo(json.dumps(QuestionLine.model_json_schema(), indent=2))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )
