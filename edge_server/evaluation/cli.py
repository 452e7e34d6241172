"""``edge-server evaluate``: accuracy of a model folder, as a table and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from device_agent.channel import ChannelConfig, channel_model
from device_agent.errors import ConfigurationError as ChannelError
from device_agent.places import resolved_model
from edge_server.cell.allocation.surface_file import FILE, surface_json
from edge_server.data.authors_layout import Videos
from edge_server.data.soundstage.dataset import SplitName
from edge_server.data.soundstage.room_dataset import load_rooms
from edge_server.data.soundstage.validation_wordings import VALIDATION
from edge_server.data.soundstage.wordings import HELD_OUT
from edge_server.engine.calibration import FILE as CALIBRATION_FILE
from edge_server.evaluation.accuracy import Evaluator, Setting
from edge_server.evaluation.calibrate import SNRS_DB as FITTED_OVER_DB
from edge_server.evaluation.held_out import Evaluation, open_data
from edge_server.evaluation.honesty import (
    REWORDED,
    calibration_report,
    out_of_domain_report,
    out_of_domain_table,
    wordings_report,
    wordings_table,
)
from edge_server.evaluation.loss_surface import SNRS_DB, measure
from edge_server.evaluation.named_report import NAMED_OVER_DB, NamedHonesty, named_report
from edge_server.evaluation.out_of_domain import EACH
from edge_server.evaluation.rooms import RoomEvaluator, rooms_report
from edge_server.evaluation.text_kept import general_questions, text_kept
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.runtime.computing import Precision
from edge_server.runtime.model_runner import has_bfloat16
from edge_server.training.run import cores
from protos.names import CHANNEL_MODELS, FadingName

#: Tokens per modality that the model this project ships is served with.
_USUAL_LENGTH = 16

app = typer.Typer(help="Measure a model; writes JSON.", pretty_exceptions_enable=False)


def _known_channel(name: str) -> str:
    try:
        return channel_model(name).name
    except ChannelError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder.")] = Path("deploy/models/soundstage-small"),
    data: Annotated[Path, typer.Option(help="Soundstage data set, or a folder with MUSIC-AVQA/.")] = Path(
        "datasets/soundstage"
    ),
    split: Annotated[SplitName, typer.Option(help="Which split to ask about.")] = "test",
    snr_db: Annotated[
        list[float] | None, typer.Option(help="SNR [dB]; may be given several times.  [default: 10]")
    ] = None,
    channel: Annotated[
        str,
        typer.Option(
            help="Channel model.",
            metavar=f"[{'|'.join(CHANNEL_MODELS)}]",
            autocompletion=lambda: list(CHANNEL_MODELS),
            callback=_known_channel,
        ),
    ] = "awgn",
    fading: Annotated[FadingName, typer.Option(help="One gain per codeword or per symbol.")] = "block",
    token_length: Annotated[
        list[int] | None,
        typer.Option(
            help="Tokens per modality; may be given several times.  [default: the model's nearest to 16]"
        ),
    ] = None,
    videos: Annotated[
        Videos, typer.Option(help="Of MUSIC-AVQA: all videos, recorded ones, or those composed of others.")
    ] = "all",
    questions: Annotated[
        int | None,
        typer.Option(min=1, help="Only the first N questions; with --wordings, N that --seed draws."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the channel realisations.")] = 0,
    bfloat16: Annotated[
        bool, typer.Option(help="Read prompts in bfloat16, as a server does where the processor has it.")
    ] = False,
    demo: Annotated[
        Path | None, typer.Option(help="With --wordings: folder of the demo, whose questions are asked too.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    wordings: Annotated[
        bool,
        typer.Option(
            "--wordings",
            help="Ask in held-out wordings instead: what do other words cost? With --split val: in those "
            "that ways of training are chosen by.",
        ),
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Fit confidence, and what is held back, on the validation split instead, or on every second "
            "file of --photos, and write it into the model folder.",
        ),
    ] = False,
    out_of_domain: Annotated[
        bool,
        typer.Option(
            "--out-of-domain", help="Ask what no clip answers instead: does a calibrated model say so?"
        ),
    ] = False,
    loss_surface: Annotated[
        bool,
        typer.Option(
            "--loss-surface",
            help="Measure loss over SNR and token length instead, for `edge-server serve --allocation`, and "
            "write it into the model folder.",
        ),
    ] = False,
    photos: Annotated[
        Path | None,
        typer.Option(
            help="Ask what is in the pictures of this folder instead; their names say what is right."
        ),
    ] = None,
    sounds: Annotated[
        Path | None, typer.Option(help="Likewise, what is heard in the sounds of this folder.")
    ] = None,
    rooms: Annotated[
        Path | None,
        typer.Option(help="Ask questions that need two devices instead, of this data set of rooms."),
    ] = None,
    text: Annotated[
        bool,
        typer.Option(
            "--text-kept",
            help="Ask general questions instead, of the foundation with and without its LoRA: does it answer "
            "as it did?",
        ),
    ] = False,
) -> None:
    """Ask a model held-out questions through the channel; print and write its accuracy."""
    torch.set_num_threads(cores())
    link = Link.load(resolved_model(model))
    lengths = _lengths(link, token_length)
    if photos is not None or sounds is not None:
        channels = [ChannelConfig(model=channel, fading=fading, snr_db=snr) for snr in snr_db or [10.0]]
        folders = {"visual": photos, "audio": sounds}
        if calibrate or out_of_domain:
            if snr_db is None:
                channels = [replace(channels[0], snr_db=snr) for snr in NAMED_OVER_DB]
            asked_of = NamedHonesty(link, resolved_model(model), folders, channels, lengths[0], seed)
            _write(out, asked_of.calibrate(questions) if calibrate else asked_of.judge(questions))
            return
        _write(out, named_report(link, folders, channels, lengths, questions, seed))
        return
    if rooms is not None:
        if not link.config.views:
            raise typer.BadParameter(
                f"{link.config.name} is not asked about several devices", param_hint="MODEL"
            )
        _rooms(link, rooms, split, lengths[0], (snr_db or [10.0])[0], seed, questions, out)
        return
    if text:
        _text_kept(link, questions, out)
        return
    if sum((loss_surface, wordings, calibrate, out_of_domain)) > 1:
        raise typer.BadParameter("one at a time", param_hint="--wordings --calibrate --out-of-domain")
    opened = _open(data, "val" if calibrate else split, link, videos)
    if bfloat16 and not has_bfloat16(link.device):
        raise typer.BadParameter("this processor has no instructions for it", param_hint="--bfloat16")
    evaluator = Evaluator(link, opened.asked, questions, precision=Precision(bfloat16=bfloat16))
    if loss_surface:
        measured = {"split": split, "channel": "awgn", "seed": seed, "bfloat16": bfloat16}
        lengths = sorted(token_length or link.config.token_lengths)
        _write_loss_surface(model, evaluator, lengths, sorted(snr_db or SNRS_DB), measured)
        return
    settings = [
        Setting(ChannelConfig(model=channel, fading=fading, snr_db=snr), length, seed)
        for length in lengths
        for snr in snr_db or [10.0]
    ]
    if wordings or calibrate or out_of_domain:
        over = settings if snr_db else [_at(settings[0], snr) for snr in FITTED_OVER_DB]
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("questions", total=None)

            def asked(done: int) -> None:
                bar.advance(task, done)

            if calibrate:
                fitted = calibration_report(evaluator, model, over, current_commit(), asked)
            elif wordings:
                unseen = VALIDATION if split == "val" else HELD_OUT
                count = questions or REWORDED
                found = wordings_report(evaluator, model, demo, settings[0], count, asked, unseen)
            else:
                found = out_of_domain_report(evaluator, model, over, EACH, asked)
        if calibrate:
            told = f"answers of less confidence than {fitted.threshold} are held back"
            typer.echo(f"{model / CALIBRATION_FILE}: {told}")
            return
        Console().print((wordings_table if wordings else out_of_domain_table)(found))
        head = {"model": link.config.name, "split": split, "seed": seed, "commit": current_commit()}
        _write(out, {**head, **found})
        return
    rows: list[dict[str, Any]] = []
    with Progress(console=Console(stderr=True)) as bar:
        rounds = len(settings) + (evaluator.oracle is not None)
        task = bar.add_task("questions", total=len(evaluator.questions) * rounds)

        def advance(done: int) -> None:
            bar.advance(task, done)

        oracle = {} if evaluator.oracle is None else {"text_oracle": evaluator.text_oracle(advance).to_json()}
        for setting in settings:
            score = evaluator.through_channel(setting, advance).to_json()
            rows.append({"snr_db": setting.channel.snr_db, "token_length": setting.token_length, **score})
    prior = evaluator.blind_prior(opened.prior).to_json()
    report = {
        "model": link.config.name,
        "split": split,
        "channel": channel,
        "fading": fading,
        "seed": seed,
        "bfloat16": bfloat16,
        "commit": current_commit(),
        "blind_prior": prior,
        **oracle,
        "results": rows,
    }
    if opened.reports:
        report["prior_split"] = opened.prior_split
        report["data"] = [rows_read.to_json() for rows_read in opened.reports]
    print_report(report, Console())
    _write(out, report)


def _write(out: Path | None, report: dict[str, Any]) -> None:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _text_kept(link: Link, most: int | None, out: Path | None) -> None:
    """Ask general questions, say how many are answered as before, and write it."""
    asked = general_questions()[:most]
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("questions", total=len(asked))
        found = text_kept(link, asked, lambda done: bar.advance(task, done))
    typer.echo(
        f"{link.config.name}: {found['agreement']:.1%} of {found['questions']} general questions answered as "
        f"the untouched foundation does; right: {found['right']:.1%}, before {found['right_untouched']:.1%}"
    )
    _write(out, {"model": link.config.name, "commit": current_commit(), **found})


def _rooms(
    link: Link,
    data: Path,
    split: SplitName,
    token_length: int,
    snr_db: float,
    seed: int,
    most: int | None,
    out: Path | None,
) -> None:
    """Ask questions that need two devices, print a table, and write it."""
    prior = load_rooms(data, "train" if split != "train" else "val").questions
    evaluator = RoomEvaluator(link, load_rooms(data, split), token_length, seed, most)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("questions", total=None)
        found = rooms_report(evaluator, prior, snr_db, lambda done: bar.advance(task, done))
    table = Table(title=f"{link.config.name}: {found['questions']} questions that need two devices")
    table.add_column("question")
    columns = ("blind_prior", *found["accuracy"])
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    for template, of_each in found["per_template"].items():
        table.add_row(template, *(f"{of_each[name]:.1%}" for name in columns))
    table.add_section()
    table.add_row("all", *(f"{value:.1%}" for value in (found["blind_prior"], *found["accuracy"].values())))
    Console().print(table)
    head = {"model": link.config.name, "split": split, "token_length": token_length, "seed": seed}
    _write(out, {**head, "commit": current_commit(), **found})


def _at(setting: Setting, snr_db: float) -> Setting:
    return replace(setting, channel=replace(setting.channel, snr_db=snr_db))


def _write_loss_surface(
    model: Path,
    evaluator: Evaluator,
    lengths: list[int],
    snrs_db: list[float],
    measured: dict[str, Any],
) -> None:
    """Measure, fit, write into the model folder, and say how well the fit holds."""
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("questions", total=None)
        points = measure(evaluator, lengths, snrs_db, measured["seed"], lambda done: bar.advance(task, done))
    surface = surface_json(points)
    found = {**surface, **measured, "questions": len(evaluator.questions), "commit": current_commit()}
    path = model / FILE
    path.write_text(json.dumps(found, indent=1) + "\n")
    table = Table(title=f"{path}: loss = a + b L^-p + c gamma^-d")
    for name in ("mix", "a", "b", "p", "c", "d", "rms error", "max error"):
        table.add_column(name, justify="left" if name == "mix" else "right")
    for mix, each in surface["mixes"].items():
        table.add_row(mix, *(f"{value:.3g}" for value in each["fit"].values()))
    Console().print(table)


def _lengths(link: Link, wanted: list[int] | None) -> list[int]:
    """The token lengths to ask with.

    Raises:
        typer.BadParameter: the model has no such length.
    """
    allowed = link.config.token_lengths
    if not wanted:
        return [min(allowed, key=lambda length: abs(length - _USUAL_LENGTH))]
    for length in wanted:
        if length not in allowed:
            names = ", ".join(map(str, allowed))
            raise typer.BadParameter(f"{length}; {link.config.name} has {names}", param_hint="--token-length")
    return wanted


def _open(data: Path, split: SplitName, link: Link, videos: Videos) -> Evaluation:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("look through recorded clips", visible=False)
        opened = open_data(
            data,
            split,
            link,
            cores(),
            lambda done, total: bar.update(task, advance=done, total=total, visible=True),
            videos,
        )
    for report in opened.reports:
        typer.echo(report)
    return opened


def print_report(report: dict[str, Any], console: Console) -> None:
    """The report as a table: a line per question type, a column per setting."""
    table = Table(title=f"{report['model']}: accuracy on {report['split']} over {report['channel']}")
    table.add_column("question type")
    prior = report["blind_prior"]
    columns = [("blind prior", prior)]
    if "text_oracle" in report:
        columns.append(("text oracle", report["text_oracle"]))
    columns += [(f"{r['snr_db']:g} dB\n{r['token_length']} tokens", r) for r in report["results"]]
    for name, _ in columns:
        table.add_column(name, justify="right")
    for kind in prior["per_type"]:
        table.add_row(kind, *(f"{c['per_type'][kind]['accuracy']:.1%}" for _, c in columns))
    table.add_section()
    table.add_row(f"all {prior['questions']}", *(f"{c['accuracy']:.1%}" for _, c in columns))
    floor = prior["accuracy"]
    table.add_row("points above blind prior", *(f"{100 * (c['accuracy'] - floor):+.1f}" for _, c in columns))
    console.print(table)
