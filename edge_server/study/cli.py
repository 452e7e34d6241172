"""``edge-server study``: train and evaluate the compared systems, then gather and draw what was found."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, track

from edge_server.cell.allocation import LossTable
from edge_server.cell.allocation.surface_file import FILE, read_points
from edge_server.model.description import read_description
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.study import combinations, pilots, worlds
from edge_server.study.alignment.cli import ALIGNMENT, Folders, plan_of, study_alignment
from edge_server.study.baselines import ANSWERED, LINK_OF, ask_baselines, baselines_of, unanswered
from edge_server.study.bounds import bounds, shipped, shipped_estimated
from edge_server.study.cell import compare, kept
from edge_server.study.combinations import COMBINATIONS
from edge_server.study.digital.codes import Code, IdealCode, LdpcQam
from edge_server.study.digital.coding import build_table, table_settings
from edge_server.study.digital.error_table import ErrorTable
from edge_server.study.figures import (
    ablation,
    accuracy_snr,
    alignment_seen,
    authors,
    budgets,
    convergence,
    must_show,
    question_size,
    token_length,
    token_worth,
)
from edge_server.study.figures.answers import Answers
from edge_server.study.inversion.cli import INVERSION, study_inversion
from edge_server.study.json_file import write_json
from edge_server.study.media_sizes import SIZES, measure_sizes
from edge_server.study.pilots import PILOTS
from edge_server.study.plots import alignment as alignment_plot
from edge_server.study.plots import cell as cell_plot
from edge_server.study.plots import drawings
from edge_server.study.plots import inversion as inversion_plot
from edge_server.study.plots import progressive as progressive_plot
from edge_server.study.plots import radio as radio_plot
from edge_server.study.plots import semantic as semantic_plot
from edge_server.study.plots.style import save
from edge_server.study.progressive.cli import PARTS as PROGRESSIVE_PARTS
from edge_server.study.progressive.cli import PROGRESSIVE, study_progressive
from edge_server.study.progressive.compare import FULL
from edge_server.study.radio.cli import PARTS as RADIO_PARTS
from edge_server.study.radio.cli import RADIO, study_radio
from edge_server.study.report.page import write_page
from edge_server.study.run import run_study
from edge_server.study.semantic.cli import SEMANTIC, study_semantic
from edge_server.study.study import (
    DIGITAL,
    DIGITAL_CAPACITY,
    QUANTISED,
    STUDIES,
    Study,
    Task,
    budget_json,
    channel_uses,
    coverage,
    read_lines,
    results,
)
from edge_server.training.import_pretrained import import_pretrained
from edge_server.training.run import cores
from edge_server.training.systems import USUAL_DIM

app = typer.Typer(help="Compare systems; writes JSON, figures and a page.", pretty_exceptions_enable=False)

Make = Callable[[], dict[str, Any]]

CELL = "cell"
"""The study that trains nothing."""
COTRAIN = "cotrain"
"""The study whose devices and edge train over the network."""
WORLDS = "worlds"
"""The study of what the shipped model makes of other artwork and another soundfont."""
OTHERS = (CELL, PROGRESSIVE, WORLDS, RADIO, COTRAIN, ALIGNMENT, INVERSION, COMBINATIONS, PILOTS, SEMANTIC)
PARTS = ("all", "train", "baselines", "figures")
#: What parts were called before, still read.
_FORMER_PARTS = {"rivals": "baselines"}
#: Folder of the records, beside the results.
RECORDS = "study"
#: Block error rates of the channel codes, beside the results.
CODES = "channel_codes.json"


@app.command()
def study(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join((*STUDIES, *OTHERS))}.")] = "full",
    part: Annotated[
        str,
        typer.Option(
            help=f"Only this part, of what 'all' does in order: {', '.join(PARTS)}. Of progressive: "
            f"{', '.join(PROGRESSIVE_PARTS)}. Of radio: {', '.join(RADIO_PARTS)}."
        ),
    ] = "all",
    runs: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Soundstage data set.")] = Path("datasets/soundstage"),
    out: Annotated[Path, typer.Option(help="Where JSON and figures go.")] = Path("docs/results"),
    model: Annotated[Path, typer.Option(help="The shipped model.")] = Path("deploy/models/soundstage-small"),
    base: Annotated[
        Path | None,
        typer.Option(help="Take encoders and foundation of this model folder; else they are pretrained."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes beside one another.  [default: all cores]")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Train on a Ray cluster, such as head:6379, whose machines see the same folders; "
            "local: one that is started here.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Train only this system; may be given several times.")
    ] = None,
    figure: Annotated[
        list[str] | None, typer.Option(help="Make only this figure; may be given several times.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Small, of those other than full, quick and worlds."),
    ] = False,
    drops: Annotated[int | None, typer.Option(min=3, help="Of the cell: drops.  [default: 500]")] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Of alignment, combinations and cotrain: seeds.  [default: 3, 1 and 3]"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=4, help="Of cotrain and radio: steps.  [default: 300]")
    ] = None,
    clips: Annotated[
        int | None,
        typer.Option(min=10, help="Of cotrain: clips of a device, and of the test.  [default: 100, 120]"),
    ] = None,
    world: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR",
            help="Of worlds: another data set with the scenes of --data. Of progressive: one of another "
            "seed. May be given several times.",
        ),
    ] = None,
    row: Annotated[
        list[str] | None, typer.Option(help="Of cotrain: only this row; may be given several times.")
    ] = None,
    kept: Annotated[
        bool,
        typer.Option(
            "--kept",
            help="Of alignment and cotrain: train nothing; what earlier calls trained. Of progressive: ask "
            "nothing; what an earlier call asked, priced anew.",
        ),
    ] = False,
) -> None:
    """Train every compared system, ask it everything, write what came out. Can be cut and called again.

    `cell` trains nothing: it shares out cells that are made up, with the loss measured of the shipped model.
    `progressive` asks the shipped model in rounds, of validation and test clips, and trains two systems, one
    with nested tokens.
    `worlds` asks it about the same scenes in other data sets (`edge-server dataset soundstage --artwork`).
    `radio` holds the emulated radio beside Sionna's, and asks the shipped model over what spoils a link.
    `cotrain` has six devices learn with the shipped model over the network, row by row.
    `alignment` trains systems that see clips and free captions alone, each for the same processor time.
    `inversion` trains attackers who decode scenes from the shipped model's tokens.
    `combinations` trains links that never met certain combinations of instrument, place and motion.
    `pilots` goes on training the shipped model with gains that are estimated.
    `semantic` sends the shipped model's tokens as a few bits with HARQ, beside analog ones.
    """
    if name == ALIGNMENT:
        compared = plan_of(quick=quick, seeds=seeds, only=only or ())
        own = _small(ALIGNMENT, quick=quick)
        folders = Folders(model, data, runs / own, _features(runs, model), out / RECORDS / own, out)
        path = study_alignment(folders, compared, only or (), typer.echo, only_kept=kept)
        _drawn(path, alignment_plot.draw, out)
        return
    if name == COMBINATIONS:
        shared, own = (_small(study, quick=quick) for study in (ALIGNMENT, COMBINATIONS))
        folders = Folders(model, data, runs / shared, _features(runs, model), out / RECORDS / shared, out)
        picked = combinations.scale_of(quick=quick, seeds=seeds)
        path = combinations.study_combinations(folders, runs / own, picked, typer.echo, quick=quick)
        others = out / f"{WORLDS}.json"
        if others.exists():  # one promise is made of both
            report = json.loads(others.read_text())
            report["promises"] = worlds.kept(report["rows"], json.loads(path.read_text()))
            write_json(others, report)
        write_page(out)
        typer.echo(f"{path}")
        return
    if name == PILOTS:
        features, scratch = _features(runs, model), runs / _small(PILOTS, quick=quick)
        path = pilots.study_pilots(model, data, features, scratch, out, typer.echo, quick=quick)
        write_page(out)
        typer.echo(f"{path}")
        return
    if name == SEMANTIC:
        path = study_semantic(model, data, _features(runs, model), out, typer.echo, quick=quick)
        _drawn(path, semantic_plot.draw, out)
        return
    if name == INVERSION:
        path = study_inversion(model, data, _features(runs, model), out, quick=quick)
        _drawn(path, inversion_plot.draw, out)
        return
    if name == CELL:
        study_cell(model, out, jobs or cores(), compare.QUICK if quick else compare.Plan().of(drops))
        return
    if name == PROGRESSIVE:
        if part not in ("all", *PROGRESSIVE_PARTS):
            allowed = ", ".join(("all", *PROGRESSIVE_PARTS))
            raise typer.BadParameter(f"{part!r}; allowed: {allowed}", param_hint="--part")
        made = () if kept else PROGRESSIVE_PARTS if part == "all" else (part,)
        scratch = runs / _small(PROGRESSIVE, quick=quick)
        path = study_progressive(model, data, _named(world or []), scratch, out, parts=made, quick=quick)
        _drawn(path, progressive_plot.draw, out)
        return
    if name == WORLDS:
        study_worlds(model, data, world or [], out)
        return
    if name == RADIO:
        if part not in ("all", *RADIO_PARTS):
            allowed = ", ".join(("all", *RADIO_PARTS))
            raise typer.BadParameter(f"{part!r}; allowed: {allowed}", param_hint="--part")
        made = RADIO_PARTS if part == "all" else (part,)
        scratch = runs / _small(RADIO, quick=quick)
        path = study_radio(model, data, scratch, out, parts=made, quick=quick, steps=steps)
        _drawn(path, radio_plot.draw, out)
        return
    if name == COTRAIN:
        from edge_server.study.cotrain.cli import scale_of, study_cotrain  # it alone needs gRPC

        scale = scale_of(quick=quick, seeds=seeds, steps=steps, clips=clips)
        told = typer.echo
        scratch = runs / COTRAIN
        path = study_cotrain(model, data, scratch, out, scale, rows=row or (), told=told, only_kept=kept)
        typer.echo(f"{path}")
        return
    if name not in STUDIES:
        raise typer.BadParameter(f"{name!r}; allowed: {', '.join((*STUDIES, *OTHERS))}", param_hint="NAME")
    part = _FORMER_PARTS.get(part, part)
    if part not in PARTS:
        raise typer.BadParameter(f"{part!r}; allowed: {', '.join(PARTS)}", param_hint="--part")
    chosen = STUDIES[name]
    if part in ("all", "train"):
        if base is not None:
            import_pretrained(base, chosen.tasks()[0].run(runs, data))
        run_study(chosen, runs, data, out / RECORDS, jobs, only or (), ray=ray)
    if part in ("all", "baselines"):
        compare_baselines(chosen, runs, data, out, jobs or cores())
    if part in ("all", "figures"):
        makers = figure_makers(chosen, runs, data, out / RECORDS, model)
        unknown = sorted(set(figure or ()) - set(makers))
        if unknown:
            raise typer.BadParameter(f"{unknown[0]!r}; allowed: {', '.join(makers)}", param_hint="--figure")
        found = gather(chosen, {name: makers[name] for name in figure or makers})
        write_figures({**found, "coverage": covered(chosen, out / RECORDS)}, out)
        write_page(out)
        typer.echo(f"{out}: {', '.join(sorted(found))}")


def _small(name: str, *, quick: bool) -> str:
    """What a study's folders are called: a small run's apart, so that a whole one takes up none of it."""
    return f"{name}-quick" if quick else name


def _features(runs: Path, model: Path) -> Path:
    """Where clips behind a model's encoders are kept, for whoever asks about them."""
    return runs / f"features-{model.name}"


def _drawn(path: Path, draw: drawings.Draw, out: Path) -> None:
    """Draw a result beside its JSON, and write the page."""
    save(draw(json.loads(path.read_text())), path.with_suffix(".png"))
    write_page(out)
    typer.echo(f"{path}")


def study_cell(model: Path, out: Path, jobs: int, plan: compare.Plan) -> None:
    """Share out cells that are made up; JSON, picture and page."""
    try:
        points = read_points(model / FILE)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--model") from error
    mix, measured = next(iter(points.items()))
    config, _ = read_description(model)
    link = compare.Link(
        LossTable(measured),
        tuple(sorted({point.token_length for point in measured})),
        len(mix.split("+")) * config.channel_dim / 2.0,
    )
    with Progress() as bar:
        rounds = (len(plan.points()) + len(plan.small)) * len(plan.seeds)
        task = bar.add_task("cells", total=rounds)
        found = compare.compare(link, plan, jobs, lambda: bar.advance(task))
    head = {"command": kept.COMMAND, "measures": kept.MEASURES, "commit": current_commit()}
    report = {**head, "model": config.name, "mix": mix, **found, "promises": kept.kept(found)}
    write_json(out / f"{CELL}.json", report)
    save(cell_plot.draw(report), out / f"{CELL}.png")
    write_page(out)
    typer.echo(f"{out / CELL}.json")


def study_worlds(model: Path, data: Path, others: list[str], out: Path) -> None:
    """Ask about the same scenes in other worlds; JSON and page."""
    found = {worlds.USUAL: data, **_named(others, worlds.USUAL)}
    if len(found) == 1:
        raise typer.BadParameter("at least one other data set is needed", param_hint="--world")
    link = Link.load(model)
    with Progress() as bar:
        task = bar.add_task("questions", total=worlds.questions_asked(found, None))
        report = worlds.compare(link, found, FULL, advance=lambda done: bar.advance(task, done))
    head = {"command": worlds.COMMAND, "measures": worlds.MEASURES, "commit": current_commit()}
    unseen = out / f"{COMBINATIONS}.json"
    combined = json.loads(unseen.read_text()) if unseen.exists() else None
    told = {**head, "model": link.config.name, **report, "promises": worlds.kept(report["rows"], combined)}
    write_json(out / f"{WORLDS}.json", told)
    write_page(out)
    typer.echo(f"{out / WORLDS}.json")


def _named(given: Sequence[str], *taken: str) -> dict[str, Path]:
    """Folders by their names, as options have them."""
    found: dict[str, Path] = {}
    for each in given:
        name, says, folder = each.partition("=")
        if not (name and says and Path(folder).is_dir()) or name in found or name in taken:
            raise typer.BadParameter(
                f"{each!r}; NAME=DIR, a name and a folder that is there", param_hint="--world"
            )
        found[name] = Path(folder)
    return found


def compare_baselines(study: Study, runs: Path, data: Path, out: Path, jobs: int) -> None:
    """Simulate the channel codes, then ask every seed's link what the digital baselines bring it."""
    table = ErrorTable(out / CODES, table_settings(0, study.code_effort))
    uses = channel_uses(study.budget.token_length, USUAL_DIM)
    build_table(table, (uses // 2, uses), 0, study.code_effort)
    # The first seed alone: what the source codecs make of the clips is kept for the others.
    first, *others = study.seeds
    _baselines_of_seed(study.name, first, runs, data, out)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(_baselines_of_seed, study.name, seed, runs, data, out) for seed in others]
        for job in track(running, description="digital baselines"):
            job.result()


def covered(study: Study, records: Path) -> dict[str, Any]:
    """How far a study is, the digital baselines included."""
    found = coverage(study, records)
    of_seed = {seed: Task(study.name, LINK_OF, seed).record(records) for seed in study.seeds}
    found["complete"]["digital baselines"] = [
        seed for seed, record in of_seed.items() if not _is_open(record)
    ]
    return found


def _is_open(record: Path) -> bool:
    """Whether the baselines on a seed's link have something left to answer."""
    return not (record / SIZES).exists() or bool(unanswered(record))


def _baselines_of_seed(name: str, seed: int, runs: Path, data: Path, out: Path) -> None:
    study, task = STUDIES[name], Task(name, LINK_OF, seed)
    run, record = task.run(runs, data), task.record(out / RECORDS)
    if not _is_open(record):
        return
    record.mkdir(parents=True, exist_ok=True)
    baselines = baselines_of(study, run, data)
    ldpc = LdpcQam(ErrorTable(out / CODES))
    codes: dict[str, Code] = {DIGITAL: ldpc, DIGITAL_CAPACITY: IdealCode(), QUANTISED: ldpc}
    ask_baselines(record, baselines, codes)
    if not (record / SIZES).exists():
        measure_sizes(run, record, baselines, min(study.movies, study.test_clips))


def figure_makers(study: Study, runs: Path, data: Path, records: Path, model: Path) -> dict[str, Make]:
    """What makes each figure's data, by name."""
    length = study.budget.token_length
    answers = Answers(results(study, records))
    baselines, sizes = (Answers(_lines(study, records, ANSWERED)), _lines(study, records, SIZES))
    usual_dim = study.systems[LINK_OF].channel_dim
    return {
        "accuracy_snr": lambda: accuracy_snr.build(
            answers, baselines, length, bounds(study, runs, data, records)
        ),
        "convergence": lambda: convergence.build(study, records),
        "token_length": lambda: token_length.build(answers),
        "alignment_seen": lambda: alignment_seen.build(study, runs, data, records),
        "question_size": lambda: question_size.build(answers, sizes, usual_dim),
        "ablation": lambda: ablation.build(answers, length),
        "budgets": lambda: {
            **budgets.build(study, records),
            "authors_variant": authors.differences(study),
        },
        "shipped": lambda: shipped(model, data, length),
        "shipped_estimated": lambda: shipped_estimated(model, data, length),
    }


def gather(study: Study, makers: Mapping[str, Make]) -> dict[str, dict[str, Any]]:
    """Figures' data by name, with the study's budget and the commit at their head."""
    head = {"commit": current_commit(), "budget": budget_json(study)}
    return {name: {**head, **make()} for name, make in track(makers.items(), description="figures")}


def write_figures(found: Mapping[str, dict[str, Any]], out: Path) -> None:
    """Each figure's JSON, and the picture that is made from the file."""
    for name, data in found.items():
        write_json(out / f"{name}.json", data)
    drawings.draw_all(out)
    derive(out)


def derive(out: Path) -> None:
    """Write what follows from the figures' JSON alone: what tokens are worth, and what was promised."""
    files = {path.stem: json.loads(path.read_text()) for path in sorted(out.glob("*.json"))}
    head = {"commit": current_commit()}
    derived = {"must_show": must_show.build(files)}
    if "accuracy_snr" in files:
        derived["token_worth"] = token_worth.build(files["accuracy_snr"])
    for name, data in derived.items():
        write_json(out / f"{name}.json", {**head, **data})


def _lines(study: Study, records: Path, file: str) -> list[dict[str, Any]]:
    """Lines of a file in every seed's two-stage record."""
    return [
        {"training_seed": seed, **line}
        for seed in study.seeds
        for line in read_lines(Task(study.name, LINK_OF, seed).record(records) / file)
    ]
