"""``edge-server split``: a model that others have trained, for devices and an edge server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def split(
    folder: Annotated[Path, typer.Argument(help="Local Hugging Face folder: config, weights, tokenizer.")],
    out: Annotated[Path, typer.Option(help="Where the model folder goes.")],
    name: Annotated[str | None, typer.Option(help="Name, as clients see it; else the folder's.")] = None,
    reduce: Annotated[
        str, typer.Option(help="How feature tokens become fewer: see docs/models.md.")
    ] = "window",
    token_length: Annotated[
        int | None, typer.Option(help="Token length that is suggested; else all tokens.")
    ] = None,
    token_lengths: Annotated[
        str | None, typer.Option(help="Those that may be chosen, as in 4,16,64; else powers of two.")
    ] = None,
    picture: Annotated[
        str | None, typer.Option(help="Rows and columns of a picture, as in 448x448 [px].")
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None, typer.Option(help="Of the language model; else its own.")
    ] = None,
    max_positions: Annotated[
        int | None, typer.Option(min=16, help="Longest prompt with its answer; else 4096 at most.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Own pictures or sounds: tell what sending less costs in answers that stay."),
    ] = None,
) -> None:
    """Split a vision-language, audio-language or text model: device bundle and server's half."""
    # torch takes seconds to import: only once the command line is understood.
    from edge_server.export.calibration import FILE, as_json
    from edge_server.export.calibration import calibrate as find_costs
    from edge_server.export.split import SplitOptions, prepare_split, write_model

    options = SplitOptions(
        name=name,
        reduce=reduce,
        token_lengths=None if token_lengths is None else _numbers(token_lengths, "--token-lengths"),
        token_length=token_length,
        dtype=dtype,
        max_positions=max_positions,
        picture=None if picture is None else _size(picture),
    )
    prepared = prepare_split(folder, options)
    made = write_model(prepared, out)
    config = made.config
    typer.echo(f"{out}: {config.name}, split from {config.family}")
    for slot, part in config.parts.items():
        lengths = ", ".join(map(str, config.token_lengths))
        typer.echo(
            f"  {slot}: {part.tokens} feature tokens of {config.embedding_size}; token lengths {lengths}; "
            f"ONNX differs from torch by {made.parity[slot]:.1e}"
        )
    computed = "in batches" if config.runner == "decoder" else "by its own class, one question at a time"
    typer.echo(f"  language model: computed {computed}")
    if calibrate is not None:
        costs = find_costs(prepared, made.bundle, calibrate)
        (out / FILE).write_text(json.dumps(as_json(costs), indent=2) + "\n", encoding="utf-8")
        typer.echo("  what sending less costs, in answers that stay as they are:")
        for each in costs:
            sent = f"{each.reduce:>8} {each.token_length:>5} tokens {each.payload:>8}"
            kept = f"{each.same_answers:6.1%} of answers, {each.same_tokens:6.1%} of their tokens"
            typer.echo(f"    {sent} {each.kilobytes:9.1f} kB: {kept}")
    typer.echo(f"serve it: edge-server serve --model {out}")


def _numbers(text: str, option: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise typer.BadParameter(f"{option} is {text!r}; numbers with commas between them are needed")
    return tuple(map(int, text.split(",")))


def _size(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"\d+x\d+", text):
        raise typer.BadParameter(f"--picture is {text!r}; as in 448x448")
    rows, columns = map(int, text.split("x"))
    return rows, columns
