"""``device-agent share``, and how scenes are named on the command line."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Annotated, Any

import typer

from device_agent.cli.flags import with_settings
from device_agent.cli.printable import printable
from device_agent.config import DeviceSettings
from device_agent.errors import ConfigurationError
from device_agent.sharing.gate import When
from device_agent.sharing.sharing import Shared, share_sources
from protos.names import MODALITIES
from protos.tokenlink.v1 import tokenlink_pb2 as pb

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SCENE = re.compile(r"(?P<device>[^@]+?)(?:@(?P<at>[^@]*?))?(?::(?P<modalities>[a-z]+(?:,[a-z]+)*))?")


@with_settings(outbox=True)
def share(
    settings: DeviceSettings,
    source: Annotated[
        list[str],
        typer.Option(
            "--source",
            metavar="[NAME=]SOURCE",
            help="camera:/dev/video0, rtsp://CAMERA/STREAM, microphone:default, folder:DIR, loop:FILE or a "
            "file; its scenes are called DEVICE/NAME, or DEVICE where there is one source.",
        ),
    ],
    every: Annotated[
        str, typer.Option(metavar="TIME", help="From one window of a source to the next: 10s, 2m.")
    ] = "10s",
    when: Annotated[
        When,
        typer.Option(
            help="Which windows: every one; those that look or sound otherwise than the last shared one; "
            "those in which something moves; or is heard."
        ),
    ] = "always",
    budget_bytes_per_hour: Annotated[
        int | None,
        typer.Option(min=1, help="Windows that would take more than this in any hour are left out."),
    ] = None,
    thumbnails: Annotated[
        bool,
        typer.Option(
            "--thumbnails",
            help="Send a small picture of each window too, for people; a server keeps it with its own "
            "--thumbnails.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per scene on standard output.")
    ] = False,
) -> None:
    """Keep what this device sees and hears at the edge, to be asked about; Ctrl-C or SIGTERM ends it.

    Scenes wait in the outbox until the edge has stored them, through cut links, restarts and kills.
    """
    shared = Shared(source, seconds_of(every, "every"), when, budget_bytes_per_hour, thumbnails)

    def report(name: str, record: dict[str, Any]) -> None:
        if as_json:
            typer.echo(json.dumps({"device": name, **record}))
        elif "error" in record:
            typer.echo(printable(f"{name}: {record['error']}"), err=True)
        else:
            scene_id = next((scene["scene_id"] for scene in record.get("scenes", ())), "stored")
            typer.echo(printable(f"{name}: {scene_id} · {record['cost']['bytes_on_wire']} bytes"))

    asyncio.run(share_sources(settings, shared, report))


def seconds_of(text: str, field: str) -> float:
    """A time as people write it, ``10s`` or ``2m`` [s].

    Raises:
        ConfigurationError: it is none.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(f"{field}: {text!r} is no time; such as 10s, 2m or 1h are")
    return float(found[1]) * _SECONDS[found[2] or ""]


def scene_of(text: str) -> pb.SceneRef:
    """A scene as the command line names it: ``DEVICE[@WHEN][:MODALITY,...]``.

    Raises:
        ConfigurationError: it names none.
    """
    found = _SCENE.fullmatch(text)
    named = [] if found is None or not found["modalities"] else found["modalities"].split(",")
    if found is None or any(name not in MODALITIES for name in named):
        raise ConfigurationError(
            f"scene: {text!r} names none; DEVICE[@WHEN][:MODALITY,...] is needed, WHEN latest, an id, "
            f"-90 (seconds ago) or a time, MODALITY one of {', '.join(MODALITIES)}"
        )
    at = "" if found["at"] in (None, "latest") else found["at"]
    return pb.SceneRef(device=found["device"], at=at, modalities=[MODALITIES[name] for name in named])
