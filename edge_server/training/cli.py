"""``edge-server train``: run a training recipe. ``edge-server export``: write a model's device bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from device_agent.bundle.bundle import Precision, load_bundle
from edge_server.data.soundstage.dataset import load_split
from edge_server.data.soundstage.device_clip import device_clips
from edge_server.engine.canary import FILE as CANARY_FILE
from edge_server.errors import ModelError
from edge_server.export.bundle import PARITY_TOLERANCE, export_bundle
from edge_server.export.canary import write_canaries
from edge_server.export.quantization import CALIBRATION_CLIPS, CHECK_CLIPS, MIN_FIDELITY_DB, quantise_bundle
from edge_server.model.link import Link
from edge_server.runtime.model_runner import ServedLink
from edge_server.training.card import commit_of
from edge_server.training.loop import Schedule
from edge_server.training.open_small.recipe import open_small
from edge_server.training.open_small.run import OpenRun
from edge_server.training.own_run import OwnRun
from edge_server.training.paper import Checkpoints, PaperRun, paper
from edge_server.training.registry import all_recipes
from edge_server.training.rooms_run import STAGE as ROOMS
from edge_server.training.rooms_run import STEPS as ROOMS_STEPS
from edge_server.training.rooms_run import RoomRun, soundstage_rooms
from edge_server.training.run import PRETRAININGS, Run, cores, pretrain_shared
from edge_server.training.run_identity import ensure_identity, migrate
from edge_server.training.split_run import SplitRun
from edge_server.training.split_stage import SplitTraining
from edge_server.training.steadying_run import NAME as WORDINGS
from edge_server.training.steadying_run import STEPS as WORDINGS_STEPS
from edge_server.training.steadying_run import SteadyingRun, ways

app = typer.Typer(help="Train a model, stage by stage.", pretty_exceptions_enable=False)
export_app = typer.Typer(help="Write a model's device bundle.", pretty_exceptions_enable=False)
finetune_app = typer.Typer(pretty_exceptions_enable=False)
migrate_app = typer.Typer(pretty_exceptions_enable=False)

RECIPES = all_recipes()
PAPER = paper()
OPEN = open_small()
SPLIT = "split"
SPLIT_STEPS = 300
NAMES = ", ".join((*RECIPES, PAPER.name, OPEN.name, SPLIT, ROOMS, WORDINGS))
WAYS = tuple(ways())

PARTS = ("all", "data", *PRETRAININGS, "join")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help=f"One of: {NAMES}.")] = "soundstage-small",
    seed: Annotated[int, typer.Option(min=0, help="Everything random follows from it.")] = 1,
    runs: Annotated[Path, typer.Option(help="Folder of runs; this one gets a folder in it.")] = Path("runs"),
    data: Annotated[
        Path,
        typer.Option(help="Soundstage, made where it is missing; of `paper`: of VALOR/ and MUSIC-AVQA/."),
    ] = Path("datasets/soundstage"),
    foundation: Annotated[
        Path | None, typer.Option(help="Of `paper`: Hugging Face folder of Qwen2.5-1.5B.")
    ] = None,
    visual: Annotated[Path | None, typer.Option(help="Of `paper`: of ViViT-B/16x2.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Of `paper`: of AST.")] = None,
    sounds: Annotated[
        Path | None,
        typer.Option(
            help="Of `open-small`: recordings named as ESC-10's are; without it only instruments and speech "
            "are told apart."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes and threads.  [default: all cores, or OMP_NUM_THREADS]"),
    ] = None,
    part: Annotated[
        str, typer.Option(metavar=f"[{'|'.join(PARTS)}]", help="Only this part, of what 'all' does in order.")
    ] = "all",
    begin: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Only the last stages, rewording, on top of a model folder that was trained without them.",
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help=f"Of `split`, `rooms` and `{WORDINGS}`: model folder to begin with.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help=f"Of `split`, `rooms` and `{WORDINGS}`: folder of the model that comes out."),
    ] = None,
    rooms: Annotated[Path, typer.Option(help="Of `rooms`: data set of rooms.")] = Path("datasets/rooms"),
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Of `split`, `rooms` and `{WORDINGS}`: steps.  "
            f"[default: {SPLIT_STEPS}, {ROOMS_STEPS}, {WORDINGS_STEPS}]",
        ),
    ] = None,
    learning_rate: Annotated[
        float, typer.Option(min=1e-7, max=0.1, help=f"Of `split` and `{WORDINGS}`: its peak.")
    ] = 3e-4,
    bottleneck: Annotated[int, typer.Option(min=2, help="Of `split`: reals sent of a feature token.")] = 64,
    way: Annotated[
        str, typer.Option(metavar=f"[{'|'.join(WAYS)}]", help=f"Of `{WORDINGS}`: how it learns.")
    ] = WAYS[-1],
    share: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=4.0,
            help=f"Of `{WORDINGS}`: of what was learned, so much goes into the weights; above 1: on in its "
            "direction.",
        ),
    ] = 1.0,
) -> None:
    """Train a model; a run that was cut goes on where it stopped."""
    if part not in PARTS:
        raise typer.BadParameter(f"{part!r}; allowed: {', '.join(PARTS)}", param_hint="--part")
    if recipe == SPLIT:
        if model is None or out is None or out.resolve() == model.resolve():
            raise typer.BadParameter(f"{recipe} needs --model, --data and --out, a folder of its own")
        steps = steps or SPLIT_STEPS
        schedule = Schedule(steps, learning_rate, warmup_steps=min(100, steps // 10))
        training = SplitTraining(schedule, bottleneck=bottleneck)
        torch.set_num_threads(jobs or cores())
        typer.echo(f"{SplitRun(model, data, out, training, seed, jobs or cores()).all()}: done")
        return
    if recipe == ROOMS:
        if model is None or out is None or out.resolve() == model.resolve():
            raise typer.BadParameter(f"{recipe} needs --model and --out, a folder of its own")
        torch.set_num_threads(jobs or cores())
        typer.echo(
            f"{RoomRun(model, rooms, data, out, soundstage_rooms(steps or ROOMS_STEPS), seed).all()}: done"
        )
        return
    if recipe == WORDINGS:
        if model is None or out is None or out.resolve() == model.resolve():
            raise typer.BadParameter(f"{recipe} needs --model and --out, a folder of its own")
        if way not in WAYS:
            raise typer.BadParameter(f"{way!r}; allowed: {', '.join(WAYS)}", param_hint="--way")
        steadied = ways(steps or WORDINGS_STEPS, learning_rate)[way]
        torch.set_num_threads(jobs or cores())
        typer.echo(f"{SteadyingRun(model, data, out, steadied, seed, share).all()}: done")
        return
    if recipe == OPEN.name:
        open_run = OpenRun(OPEN, seed, runs / OPEN.name, sounds)
        _ensure_identity(open_run)
        torch.set_num_threads(jobs or cores())
        typer.echo(f"{open_run.all()}: done")
        return
    if recipe == PAPER.name:
        folders = {"--foundation": foundation, "--visual": visual, "--audio": audio}
        named = [folder for folder in folders.values() if folder is not None]
        if len(named) < len(folders) or part != "all":
            wanted = " and ".join(", ".join(folders).rsplit(", ", 1))
            raise typer.BadParameter(f"{recipe} needs {wanted}, and has no parts", param_hint="RECIPE")
        paper_run = PaperRun(PAPER, seed, runs / recipe, Checkpoints(*named), data, jobs or cores())
        _ensure_identity(paper_run)
        typer.echo(f"{paper_run.all()}: done")
        return
    if recipe not in RECIPES:
        raise typer.BadParameter(f"{recipe!r}; allowed: {NAMES}", param_hint="RECIPE")
    run = Run.among(runs, RECIPES[recipe], seed, data, jobs or cores())
    _ensure_identity(run)
    torch.set_num_threads(run.jobs)
    if begin is not None:
        if part != "all":
            raise typer.BadParameter("has no parts", param_hint="--from")
        typer.echo(f"{run.reword(begin)}: done")
        return
    if run.pretrained is not None:
        if part not in ("all", "join"):
            raise typer.BadParameter(
                f"{part!r}; {recipe} shares the pretraining of {run.recipe.shares_pretraining}, "
                "which alone has that part",
                param_hint="--part",
            )
        pretrain_shared(run, runs)
    if part == "data":
        run.make_data()
    elif part in PRETRAININGS:
        run.pretrain(part)
    elif part == "join":
        run.join()
    else:
        run.all()
    typer.echo(f"{run.directory}: {part} done")


@finetune_app.command()
def finetune(
    model: Annotated[Path, typer.Argument(help="Model folder to begin with.")],
    data: Annotated[Path, typer.Option(help="Folder of clips with a questions.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder of the model that comes out; its run goes beside it.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps.")] = 300,
    learning_rate: Annotated[float, typer.Option(min=1e-7, max=0.1, help="Its peak.")] = 3e-4,
    seed: Annotated[int, typer.Option(min=0, help="Everything random follows from it.")] = 1,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Threads.  [default: all cores, or OMP_NUM_THREADS]")
    ] = None,
) -> None:
    """Teach a model questions about clips of your own; a run that was cut goes on where it stopped."""
    if out.resolve() == model.resolve():
        raise typer.BadParameter(f"{out}: is the model to begin with", param_hint="--out")
    run = OwnRun(model, data, out, steps, learning_rate, seed, jobs or cores())
    torch.set_num_threads(run.jobs)
    run.all()
    typer.echo(f"{out}: done; how good it is: edge-server evaluate {out} --data {data}")


@export_app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    out: Annotated[
        Path | None, typer.Option(help="Bundle folder.  [default: MODEL/bundle, int8: MODEL/bundle-int8]")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="What the encoders compute with.")] = "fp32",
    data: Annotated[
        Path, typer.Option(help="Soundstage data set; its training clips show int8 the ranges it needs.")
    ] = Path("datasets/soundstage"),
    parity: Annotated[
        Path | None, typer.Option(help="Write how far the graphs are from torch here, as JSON.")
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Sign it, with a key of `certs bundle-key`."),
    ] = None,
) -> None:
    """Write a model's device bundle, and check its graphs: fp32 against torch, int8 against MODEL/bundle."""
    if sign is not None:
        from edge_server.access.bundle_signing import read_signing_key  # only who signs needs it

        read_signing_key(sign)  # before anything that takes long
    if precision == "int8":
        if parity is not None:
            raise typer.BadParameter("compares fp32 with torch", param_hint="--parity")
        _export_int8(model, out or model / "bundle-int8", data)
        _sign(out or model / "bundle-int8", sign)
        return
    exported = export_bundle(Link.load(model), out or model / "bundle", commit_of(model))
    bundle = exported.bundle
    _sign(bundle.folder, sign)
    report = {
        "bundle_hash": bundle.hash,
        "tolerance": PARITY_TOLERANCE,
        "token_lengths": bundle.manifest.token_lengths,
        "largest_relative_difference": dict(exported.parity),
    }
    if parity is not None:
        parity.parent.mkdir(parents=True, exist_ok=True)
        parity.write_text(json.dumps(report, indent=2) + "\n")
    worst = ", ".join(f"{graph} {difference:.1e}" for graph, difference in exported.parity.items())
    typer.echo(f"{bundle.folder}: bundle {bundle.hash}")
    if out is None:
        count = write_canaries(ServedLink(Link.load(model), bundle.hash), model)
        typer.echo(f"{model / CANARY_FILE}: {count} questions that tell whether it is served as it is now")
    typer.echo(f"largest difference from torch, relative: {worst} (at most {PARITY_TOLERANCE:g})")


@migrate_app.command()
def migrate_records(
    folder: Annotated[
        Path, typer.Argument(help="Searched, with all folders in it.", exists=True, file_okay=False)
    ],
) -> None:
    """Give runs and records of an older release their present identity; can be called again."""
    typer.echo(f"{folder}: {migrate(folder)} records written again")


def _sign(bundle: Path, key: Path | None) -> None:
    if key is not None:
        from edge_server.access import bundle_signing

        _, public = bundle_signing.sign(bundle, key)
        typer.echo(f"{bundle}: signed by {public.text}")


def _export_int8(model: Path, out: Path, data: Path) -> None:
    split = load_split(data, "train")
    count = min(CALIBRATION_CLIPS + CHECK_CLIPS, len(split.scenes))
    quantised = quantise_bundle(load_bundle(model / "bundle"), list(device_clips(split, range(count))), out)
    bundle = quantised.bundle
    found = ", ".join(f"{modality} {ratio:.1f} dB" for modality, ratio in quantised.fidelity_db.items())
    typer.echo(f"{bundle.folder}: bundle {bundle.hash}, made from {bundle.manifest.quantised_from}")
    typer.echo(f"tokens over their error, worst token length: {found} (at least {MIN_FIDELITY_DB:g} dB)")


def _ensure_identity(run: Run | PaperRun | OpenRun) -> None:
    try:
        ensure_identity(run)
    except ModelError as error:
        raise typer.BadParameter(str(error), param_hint="--runs") from error
