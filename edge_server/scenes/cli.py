"""``edge-server scenes``: what is kept, found, deleted; who may see it; standing questions."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_server.access.scene_grants import grant_scenes, list_scene_grants, withdraw_scenes
from edge_server.access.store import create
from edge_server.errors import ConfigurationError, EdgeServerError
from edge_server.scenes.rule_file import RuleFile
from edge_server.scenes.rules import Rule, named
from edge_server.scenes.sqlite import SqliteScenes
from edge_server.scenes.store import Wanted

KEY_VARIABLE = "TOKENLINK_API_KEY"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)?")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MOST = 1000

app = typer.Typer(help="Scenes that devices shared.", no_args_is_help=True, pretty_exceptions_enable=False)
rule_app = typer.Typer(help="Standing questions.", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(rule_app, name="rule")

File = Annotated[
    Path,
    typer.Option("--scenes", help="The file of `edge-server serve --scenes`.", exists=True, dir_okay=False),
]
Devices = Annotated[
    list[str] | None, typer.Option("--device", help="Of these devices; * stands for anything.")
]
Since = Annotated[str | None, typer.Option(help="So long ago at most: 90s, 10m, 2h, 7d.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Access = Annotated[Path, typer.Option(help="The file of `edge-server serve --access`.")]


@app.command("list")
def list_(scenes: File, device: Devices = None, since: Since = None, as_json: Json = False) -> None:
    """List devices and their latest scenes."""
    store = SqliteScenes(scenes)
    try:
        wanted = _wanted(device, since)
        devices, found = store.devices(wanted), store.scenes(wanted, _MOST)
    finally:
        store.close()
    if as_json:
        entries = [
            {
                "scene_id": scene.scene_id,
                "device": scene.device,
                "start_s": scene.start_s,
                "length_s": scene.length_s,
                "modalities": [block.modality for block in scene.blocks],
                "bytes": scene.size_bytes,
                "bundle_hash": scene.bundle_hash,
            }
            for scene in found
        ]
        typer.echo(json.dumps({"devices": [asdict(each) for each in devices], "scenes": entries}))
        return
    for each in devices:
        typer.echo(
            f"{each.device:32} {each.scenes:7} scenes {each.size_bytes:10} bytes, last {_moment(each.last_s)}"
        )


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="What is to be seen or heard.")],
    device: Devices = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 10,
    server: Annotated[str, typer.Option(help="REST address of the edge server.")] = "http://127.0.0.1:8080",
    as_json: Json = False,
) -> None:
    """Find scenes that a text says something of; an API key comes from the variable TOKENLINK_API_KEY."""
    body: dict[str, Any] = {"query": text, "devices": device or ["*"], "limit": limit}
    if since is not None:
        body["since_s"] = _seconds(since, "since")
    found = _post(f"{server.rstrip('/')}/v1/scenes/search", body)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for scene in found["scenes"]:
        kinds = ", ".join(scene["modalities"])
        where = f"{_moment(scene['start_s'])}  {scene['device']:24} {scene['scene_id']}"
        typer.echo(f"{scene['score']:6.3f}  {where}  {kinds}")


@app.command()
def delete(
    scenes: File,
    device: Annotated[list[str], typer.Option("--device", help="Of these devices; * stands for anything.")],
    as_json: Json = False,
) -> None:
    """Delete scenes for good: tokens, vectors, what a search knew of them."""
    store = SqliteScenes(scenes)
    try:
        gone = store.delete(Wanted(tuple(device)))
    finally:
        store.close()
    typer.echo(json.dumps({"deleted": gone}) if as_json else f"{gone} scenes deleted")


@app.command()
def grant(
    name: Annotated[str, typer.Argument(help="Of a device, or of an API key after key:")],
    what: Annotated[str, typer.Argument(metavar="read:DEVICES", help="Such as read:camera-*.")],
    access: Access,
) -> None:
    """Let a device, or an API key, see scenes that are not its own."""
    create(access)
    grant_scenes(access, name, what, time.time())
    typer.echo(f"{name} has {what}")


@app.command()
def withdraw(
    name: Annotated[str, typer.Argument(help="Of a device, or of an API key after key:")],
    what: Annotated[str, typer.Argument(metavar="read:DEVICES")],
    access: Access,
) -> None:
    """Take a grant back, from the next question on."""
    withdraw_scenes(access, name, what)
    typer.echo(f"{name} has {what} no more")


@app.command()
def grants(access: Access, as_json: Json = False) -> None:
    """List who may see whose scenes, beside their own."""
    found = list_scene_grants(access)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found]))
        return
    for each in found:
        typer.echo(f"{each.name:32} read:{each.devices}")


@rule_app.command("add")
def add_rule(
    question: Annotated[str, typer.Argument(help="Asked of every new scene.")],
    scenes: File,
    becomes: Annotated[str, typer.Option(help="The answer that it waits for.")],
    notify: Annotated[list[str], typer.Option(help="mqtt://BROKER, mqtts://BROKER or an https:// webhook.")],
    device: Annotated[str, typer.Option(help="Of which devices' scenes; * stands for anything.")] = "*",
    for_: Annotated[str, typer.Option("--for", help="So long the answers must say so: 30s, 2m.")] = "0s",
    name: Annotated[
        str | None, typer.Option(help="What to call it.  [default: made of the question]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a question of every new scene, and tell when its answer becomes what is waited for."""
    now_s = time.time()
    rule = Rule(
        name or _name_of(question), question, device, becomes, _seconds(for_, "for"), tuple(notify), now_s
    )
    store = SqliteScenes(scenes)
    try:
        RuleFile(store).add(rule)
    finally:
        store.close()
    typer.echo(json.dumps(_rule(rule)) if as_json else f"{rule.rule_id}: asked of every scene of {device}")


@rule_app.command("list")
def list_rules(scenes: File, as_json: Json = False) -> None:
    """List standing questions and what they know."""
    store = SqliteScenes(scenes)
    try:
        file = RuleFile(store)
        found = [(rule, file.states(rule.rule_id)) for rule in file.rules()]
        waiting = len(file.notices(_MOST))
    finally:
        store.close()
    if as_json:
        rules = [
            {**_rule(rule), "devices_now": {device: asdict(state) for device, state in states.items()}}
            for rule, states in found
        ]
        typer.echo(json.dumps({"rules": rules, "notices_waiting": waiting}))
        return
    for rule, states in found:
        typer.echo(f"{rule.rule_id}: {rule.question!r} of {rule.devices} becomes {rule.becomes!r}")
        for device, state in states.items():
            on = {True: "on", False: "off", None: "-"}[state.is_on]
            typer.echo(f"  {device:30} {on:3} last {state.answer!r} at {_moment(state.asked_s)}")
    if waiting:
        typer.echo(f"{waiting} notices wait to be delivered")


@rule_app.command("remove")
def remove_rule(name: Annotated[str, typer.Argument(help="Of the rule.")], scenes: File) -> None:
    """Ask it no more."""
    store = SqliteScenes(scenes)
    try:
        RuleFile(store).remove(name)
    finally:
        store.close()
    typer.echo(f"{name} removed")


def _rule(rule: Rule) -> dict[str, Any]:
    # Who may send to a broker stands in its address, and is nobody's to read on a screen.
    return {**asdict(rule), "notify": [named(url) for url in rule.notify]}


def _name_of(question: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", question.casefold()).strip("-")[:32].strip("-") or "rule"


def _wanted(device: list[str] | None, since: str | None) -> Wanted:
    devices = tuple(device or ["*"])
    if since is None:
        return Wanted(devices)
    return Wanted(devices, since_s=time.time() - _seconds(since, "since"))


def _seconds(text: str, field: str) -> float:
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(f"{field}: {text!r} is no time; such as 90s, 10m, 2h or 7d are")
    return float(found[1]) * _SECONDS[found[2] or ""]


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _post(url: str, body: dict[str, Any]) -> Any:
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"server: is {url[:80]!r}; http://HOST:PORT is needed")
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60.0) as response:  # noqa: S310
            return json.load(response)
    except urllib.error.HTTPError as error:
        try:
            message = json.load(error)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = f"HTTP {error.code}"
        raise EdgeServerError(f"{message}") from error
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigurationError(f"server: {url} cannot be reached: {reason}") from error
