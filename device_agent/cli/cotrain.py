"""``device-agent cotrain``: learn with the edge from examples; ``correct``: make one of a wrong answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from device_agent.bench import peak_resident_bytes
from device_agent.bundle.bundle import Bundle, load_bundle
from device_agent.cli.flags import LINK_SECURITY, with_settings
from device_agent.cli.printable import printable
from device_agent.config import DeviceSettings
from device_agent.cotrain.client import Door, Progress, take_part
from device_agent.cotrain.corrections import correct as add_correction
from device_agent.cotrain.corrections import entry_of
from device_agent.cotrain.examples import Examples, read_examples
from device_agent.cotrain.features import DEFAULT_CACHE_BYTES, ClipFeatures, FeatureCache
from device_agent.cotrain.learner import Learner
from device_agent.cotrain.questions_file import OwnClip
from device_agent.errors import ConfigurationError, DeviceAgentError, RefusedError
from device_agent.media.clip import Clip, join
from device_agent.media.sandbox import MediaPool
from device_agent.outbox.store import Spool
from device_agent.places import state as state_folder
from device_agent.transmitter import Transmitter
from protos.names import SLOT_OF

DEFAULT_PORT = 50053
"""Where an edge co-trains, if nobody says otherwise."""

#: Settings that the command takes.
SETTINGS = (
    *("server", "bundle", "device_id", "threads", "provider"),
    *("channel", "fading", "snr_db", "k_factor_db", "csi", "pilots", "equalizer", "snr_per"),
    *LINK_SECURITY,
)


@with_settings(*SETTINGS)
def cotrain(
    settings: DeviceSettings,
    examples: Annotated[
        Path, typer.Option(metavar="DIR", help="Media files with a questions.jsonl of questions and answers.")
    ],
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where the server co-trains; its host is that of --server.")
    ] = DEFAULT_PORT,
    state: Annotated[
        Path | None, typer.Option(help="Where progress is kept.  [default: the user's state folder]")
    ] = None,
    cache_mib: Annotated[
        int, typer.Option(min=1, help="Room for features of clips, on disk.")
    ] = DEFAULT_CACHE_BYTES // 2**20,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a step on standard output.")
    ] = False,
) -> None:
    """Learn with the edge from examples in DIR; goes on where it was when it was cut or killed."""
    bundle = load_bundle(settings.bundle)
    credentials = settings.credentials()
    device = settings.device_id
    if credentials is not None and credentials.device_id:
        device = credentials.device_id
    kept = state or state_folder() / "cotrain" / hashlib.sha256(device.encode()).hexdigest()[:16]
    transmitter = Transmitter(bundle, settings.threads, provider=settings.provider)
    found = read_examples(examples, transmitter.tokenize)
    for line in found.left_out:
        typer.echo(printable(f"left out: {line}"), err=True)
    with MediaPool(1, settings.media) as decoding:
        cache = _cache(transmitter, examples, kept / "features", bundle, decoding, cache_mib * 2**20)
        learner = Learner(
            bundle,
            device,
            found,
            cache.of,
            settings.channel_config(0.0),
            kept,
            threads=settings.threads,
        )
        host, _, _ = settings.server.rpartition(":")
        door = Door(f"{host}:{port}", credentials, settings.use_proxy)
        with _shown(as_json) as show:
            show.encode(found, cache)
            reason = asyncio.run(take_part(learner, door, on_progress=show.progress, on_trouble=show.trouble))
    if as_json:
        typer.echo(json.dumps({"reason": reason, **_facts(learner)}))
    else:
        done = learner.learned
        typer.echo(
            f"{reason}: {done.applied} gradients applied, {done.skipped} skipped; the server gives out the "
            "new bundle once its operator promotes it"
        )
    if reason not in ("done", "stopped"):
        raise RefusedError(f"the round ended: {reason}")


@with_settings("outbox")
def correct(
    settings: DeviceSettings,
    request_id: Annotated[
        str, typer.Argument(help="As listed by `outbox list --all`; its first characters do.")
    ],
    answer: Annotated[str, typer.Argument(help="What would have been right.")],
    examples: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of examples.  [default: in the user's state folder]"),
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="Its words, where the outbox does not know them.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Make an example to learn from of a question about a watched file that was answered wrong."""
    folder = examples or state_folder() / "corrections"
    spool = Spool(settings.outbox_path(), settings.bounds())
    try:
        entry = entry_of(spool.entries(delivered=True), request_id)
    finally:
        spool.close()
    line = add_correction(entry, answer, folder, question)
    if as_json:
        typer.echo(json.dumps({"examples": str(folder), **line.model_dump(exclude_defaults=True)}))
    else:
        said = f"{line.files[0]}: {line.question} {line.answer}; learn with device-agent cotrain --examples"
        typer.echo(printable(f"{said} {folder}"))


class _Shown:
    """What is shown of a round."""

    def __init__(self, bar: Bar, as_json: bool) -> None:
        self._bar, self._as_json = bar, as_json
        self._task = bar.add_task("waits for the edge", total=None, note="")

    def encode(self, examples: Examples, cache: FeatureCache) -> None:
        """Make every clip's features before the round needs them."""
        clips = [each.clip for each in (*examples.train, *examples.held_out)]
        task = self._bar.add_task("clips", total=len(clips), note="")
        for clip in clips:
            cache.of(clip)
            self._bar.advance(task)
        self._bar.remove_task(task)

    def progress(self, progress: Progress) -> None:
        """A step was made."""
        learned = progress.learned
        note = "" if learned.loss is None else f"loss {learned.loss:.3f}  right {learned.right or 0.0:.1%}"
        self._bar.update(
            self._task,
            description="co-training",
            total=progress.rounds,
            completed=learned.step + 1,
            note=note,
        )
        if self._as_json:
            told = {"step": learned.step, "loss": learned.loss, "right": learned.right}
            typer.echo(json.dumps({**told, "applied": learned.applied}))

    def trouble(self, error: DeviceAgentError) -> None:
        """The link broke, and is tried again."""
        self._bar.update(self._task, note=printable(str(error).splitlines()[0]))


@contextmanager
def _shown(as_json: bool) -> Iterator[_Shown]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    with Bar(TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as bar:
        yield _Shown(bar, as_json)


def _facts(learner: Learner) -> dict[str, object]:
    learned = learner.learned
    return {
        "round_id": learner.round_id,
        "device_id": learner.device_id,
        "step": learned.step,
        "applied": learned.applied,
        "skipped": learned.skipped,
        "refused": learned.refused,
        "peak_resident_bytes": peak_resident_bytes(),
    }


def _cache(
    transmitter: Transmitter,
    media: Path,
    folder: Path,
    bundle: Bundle,
    decoding: MediaPool,
    max_bytes: int,
) -> FeatureCache:
    spec = bundle.media_spec()

    def encode(clip: OwnClip) -> ClipFeatures:
        parts: list[Clip] = [
            decoding.clip_from_file(media / name, field=name, spec=spec, start_s=clip.start_s)
            for name in clip.files
        ]
        whole = join(parts) if len(parts) > 1 else parts[0]
        modalities = {SLOT_OF[modality]: modality for modality in whole.modalities}
        return ClipFeatures(transmitter.features(whole), modalities)

    if not media.is_dir():
        raise ConfigurationError(f"examples: {media} is no folder")
    return FeatureCache(folder, media, bundle.hash, encode, max_bytes)
