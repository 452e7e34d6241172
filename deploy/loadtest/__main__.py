"""``python -m deploy.loadtest PROFILE``: run from the root of the repository.

make loadtest PROFILE=steady                          beside a server of its own
python -m deploy.loadtest steady --grpc host:50051    against one that runs

Exit code: 0; 1 where a threshold does not hold; 2 where the profile or the server is no good.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from deploy.loadtest.grpc_target import GrpcTarget, bundle_of
from deploy.loadtest.plot import plot as draw
from deploy.loadtest.profile import Profile, ProfileError, read_profile, shipped
from deploy.loadtest.rest_target import RestTarget
from deploy.loadtest.running import Report, run
from deploy.loadtest.show import show, watch_on
from deploy.loadtest.target import Failed, Refused
from deploy.loadtest.users import Users
from device_agent.errors import DeviceAgentError
from device_agent.uplink.credentials import AUTHORITY, CERTIFICATE, KEY, Credentials, load_credentials

WIDTH_WITHOUT_TERMINAL = 150

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Transport(StrEnum):
    """How users ask."""

    GRPC = "grpc"
    REST = "rest"
    AGENTS = "agents"


@app.command()
def loadtest(
    profile: Annotated[str, typer.Argument(help=f"One of {', '.join(shipped())}, or a TOML file.")],
    grpc: Annotated[
        str, typer.Option(envvar="TOKENLINK_DEVICE_SERVER", help="gRPC door, host:port.")
    ] = "127.0.0.1:50051",
    rest: Annotated[
        str, typer.Option(envvar="TOKENLINK_REST_URL", help="REST door.")
    ] = "http://127.0.0.1:8080",
    bundle: Annotated[
        Path, typer.Option(envvar="TOKENLINK_DEVICE_BUNDLE", help="Device bundle, for agents.")
    ] = Path("deploy/models/soundstage-small/bundle"),
    identity: Annotated[
        Path | None, typer.Option(help="Folder of `device-agent enrol`: gRPC over mutual TLS.")
    ] = None,
    transport: Annotated[Transport | None, typer.Option(help="In place of the profile's.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Of every phase, in place of its own [s].")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals, traces and tokens.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write what was counted here, as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the latencies here, as PNG.")] = None,
) -> None:
    """Many users at one edge server; fails where a threshold of the profile does not hold."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    try:
        chosen = _changed(read_profile(profile), transport, seconds)
        if identity is not None and chosen.transport != "grpc":
            raise ProfileError(f"--identity is for gRPC, not for transport {chosen.transport}")
        credentials = None if identity is None else _credentials(identity)
        report = _runner()(_run(chosen, grpc, rest, bundle, credentials, seed, console))
    except (ProfileError, ValueError, Failed, Refused, DeviceAgentError) as error:
        typer.echo(f"loadtest: {error}", err=True)
        raise typer.Exit(2) from error
    show(report, console)
    values = report.to_json() | {"seed": seed}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        try:
            draw(values, plot)
        except ImportError:
            typer.echo("loadtest: no plot without matplotlib: pip install matplotlib", err=True)
    if report.broken:
        raise typer.Exit(1)


def _changed(profile: Profile, transport: Transport | None, seconds: float | None) -> Profile:
    values = profile.model_dump()
    if transport is not None:
        values["transport"] = transport.value
    if seconds is not None:
        for phase in values["phases"]:
            phase["seconds"] = seconds
            phase["ramp_s"] = min(phase["ramp_s"], seconds / 2)
    return Profile.model_validate(values)


def _credentials(identity: Path) -> Credentials:
    return load_credentials(identity / AUTHORITY, identity / CERTIFICATE, identity / KEY, None)


async def _run(
    profile: Profile,
    grpc: str,
    rest: str,
    bundle: Path,
    credentials: Credentials | None,
    seed: int,
    console: Console,
) -> Report:
    known = await asyncio.to_thread(bundle_of, grpc, credentials)
    users, first = [], 0
    for group in profile.groups:
        users.append(Users(group, known, first, seed))
        first += group.count
    rng = random.Random(seed)  # noqa: S311 - arrivals, no secrets
    watch = watch_on(console)
    match profile.transport:
        case "rest":
            return await run(profile, RestTarget(rest), users, rng=rng, watch=watch)
        case "agents":
            # An agent brings ONNX Runtime and FFmpeg along: only for those who ask for it.
            from deploy.loadtest.agent_target import AgentTarget

            traces = {number: each.trace(number) for each in users for number in each.numbers}
            agents = AgentTarget(grpc, bundle, trace=traces.get, seed=seed)
            return await run(profile, agents, users, rng=rng, watch=watch)
        case _:
            target = GrpcTarget(
                grpc, known.hash, users_per_channel=profile.users_per_channel, credentials=credentials
            )
            try:
                return await run(profile, target, users, rng=rng, watch=watch)
            finally:
                await target.close()


def _runner() -> Callable[[Coroutine[Any, Any, Report]], Report]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    runner: Callable[[Coroutine[Any, Any, Report]], Report] = uvloop.run
    return runner


def main() -> None:
    """Entry point."""
    try:
        app(prog_name="python -m deploy.loadtest")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
