"""The way of what came out of a round into service, and back.

    trained half, heads ─▶ STATE/candidate (a model folder) + STATE/report.json
        promote ─▶ nothing worse than before? ─▶ MODEL ─▶ STATE/before; candidate ─▶ MODEL; SIGHUP
        discard ─▶ MODEL as it was before, if it was promoted; the round is gone

In service it is a rollout like any other: canaries before and after; the old model stays while devices move.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_agent.bundle.signature import SIGNATURES
from edge_server.access import bundle_signing
from edge_server.cotrain.state import RoundState, read_json, write_json
from edge_server.errors import ConfigurationError

REPORT, CANDIDATE, BEFORE, PROMOTED = "report.json", "candidate", "before", "promoted.json"


def worse(report: Mapping[str, Any], allowed: float = 0.0) -> list[str]:
    """What a candidate would make worse, one sentence each; empty: nothing.

    Args:
        report: as written.
        allowed: share of questions that may be lost.
    """
    found = []
    if not report.get("validated"):
        found.append("the shipped validation set was not asked: open the round with --data")
    for device, row in report["devices"].items():
        held_out = row.get("held_out")
        if held_out is not None:
            if "after" not in held_out or "before" not in held_out:
                found.append(f"{device}: was not there to be examined at the end")
            elif held_out["after"]["accuracy"] < held_out["before"]["accuracy"] - allowed:
                found.append(
                    f"{device}: {held_out['before']['accuracy']:.1%} of its held-out questions were right "
                    f"before, {held_out['after']['accuracy']:.1%} are now"
                )
        validation = row.get("validation")
        if validation is not None and validation["after"] < validation["before"] - allowed:
            found.append(
                f"{device}: {validation['before']:.1%} of the validation set was right before, "
                f"{validation['after']:.1%} is now"
            )
    return found


def promote(
    state: RoundState, *, allowed: float = 0.0, sign: Path | None = None, reload: int | None = None
) -> dict[str, Any]:
    """Put the candidate in the model's place, and have the server that serves it read it again.

    Args:
        state: of a round that is done.
        allowed: share of questions that may be lost.
        sign: key of whom devices trust, to sign new bundles with; None: they are not signed.
        reload: process id of the server; None: it is told by somebody else.

    Raises:
        ConfigurationError: there is no candidate, or it is worse than what is there, or cannot be put there.
    """
    report = read_json(state.path(REPORT))
    candidate = state.path(CANDIDATE)
    if not report or not candidate.is_dir():
        raise ConfigurationError(f"state: {state.folder} has no candidate yet; its round is not done")
    losses = worse(report, allowed)
    if losses:
        raise ConfigurationError("not promoted: " + "; ".join(losses))
    if sign is not None:
        for folder in sorted(candidate.glob("bundle*")):
            if not (folder / SIGNATURES).exists():
                bundle_signing.sign(folder, sign)
    before = state.path(BEFORE)
    try:
        if not before.exists():
            shutil.copytree(state.model, before)
        _put(candidate, state.model)
    except OSError as error:
        raise ConfigurationError(f"model: {state.model} cannot be written: {error}") from error
    write_json(state.path(PROMOTED), {"round_id": state.round_id})
    _reload(reload)
    return report


def discard(state: RoundState, *, reload: int | None = None) -> bool:
    """Remove a round; a model that it was promoted into is as before again. Returns whether one was.

    Raises:
        ConfigurationError: the model cannot be written.
    """
    promoted = state.path(PROMOTED).exists() and state.path(BEFORE).is_dir()
    try:
        if promoted:
            _put(state.path(BEFORE), state.model)
        shutil.rmtree(state.folder)
    except OSError as error:
        raise ConfigurationError(f"state: {state.folder} cannot be removed: {error}") from error
    if promoted:
        _reload(reload)
    return promoted


def _put(source: Path, target: Path) -> None:
    """Make a model folder hold what another holds; each bundle and each file changes at once."""
    for path in sorted(source.iterdir()):
        fresh = target / f".{path.name}.{os.getpid()}"
        if path.is_dir():
            shutil.copytree(path, fresh)
            shutil.rmtree(target / path.name, ignore_errors=True)
            fresh.rename(target / path.name)
        else:
            shutil.copyfile(path, fresh)
            fresh.replace(target / path.name)
    for folder in target.glob("bundle-*"):
        if not (source / folder.name).exists():
            shutil.rmtree(folder)


def _reload(pid: int | None) -> None:
    if pid is not None:
        try:
            os.kill(pid, signal.SIGHUP)
        except OSError as error:
            raise ConfigurationError(f"reload: process {pid} cannot be told: {error.strerror}") from error


def pid_of(ready_file: Path) -> int:
    """The process id that a server wrote into its ready file.

    Raises:
        ConfigurationError: it is no such file.
    """
    try:
        return int(json.loads(ready_file.read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"reload: {ready_file} is no ready file of a server: {error}") from error
