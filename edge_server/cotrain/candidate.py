"""What comes out of a round: a model folder with a bundle for each device, and a report of gains and losses.

trained half, heads ─▶ STATE/candidate (a model folder) + STATE/report.json
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from device_agent.bundle.bundle import Bundle, load_bundle
from device_agent.cotrain.weights import read_weights
from edge_server.cotrain.learning_round import LearningRound
from edge_server.cotrain.model_half import Examined, ModelHalf
from edge_server.cotrain.promotion import CANDIDATE, REPORT
from edge_server.cotrain.state import HEADS, SHARED, RoundState, file_name, write_json
from edge_server.errors import ConfigurationError
from edge_server.export.canary import write_canaries
from edge_server.export.personal import with_heads
from edge_server.model.link import Link
from edge_server.runtime.model_runner import ServedLink

_OWN = "bundle-of-"
_COPIED = ("*.json", "*.md", "*.safetensors")


class Validation(Protocol):
    """The validation set that a model was shipped with: :mod:`edge_server.cotrain.validation`."""

    def score(
        self, half: ModelHalf, heads: Mapping[str, Mapping[str, Any]], *, before: bool = False
    ) -> Examined:
        """Ask every question with these heads; those that are not there are the model's own."""


@dataclass(frozen=True)
class DeviceHeads:
    """What came out of a device."""

    device: str
    bundle_hash: str
    heads: Mapping[str, Mapping[str, Any]]


def read_device_heads(state: RoundState) -> list[DeviceHeads]:
    """Heads that devices handed over."""
    found = []
    for path in sorted(state.path(HEADS).glob("*.safetensors")):
        if path.stem == SHARED:
            continue
        flat, said = read_weights(path)
        heads: dict[str, dict[str, Any]] = {}
        for name, each in flat.items():
            slot, _, weight = name.partition(".")
            heads.setdefault(slot, {})[weight] = each
        found.append(DeviceHeads(said["device_id"], said["bundle_hash"], heads))
    return found


def bundles_of(model: Path) -> dict[str, Bundle]:
    """A model's bundles whose heads can be learned, by hash; everybody's first.

    Raises:
        ConfigurationError: it has none.
    """
    folders = [model / "bundle", *sorted(model.glob("bundle-*"))]
    bundles = [load_bundle(folder) for folder in folders if folder.is_dir()]
    learnable = {bundle.hash: bundle for bundle in bundles if bundle.manifest.heads}
    if not learnable:
        raise ConfigurationError(
            f"model: no bundle of {model} has heads that devices can learn; `edge-server export {model}` "
            "writes them for models whose heads select by windows"
        )
    return learnable


def write_candidate(learning: LearningRound, validation: Validation | None) -> dict[str, Any]:
    """Write the candidate and its report; returns the report."""
    state, half = learning.state, learning.half
    candidate = state.path(CANDIDATE)
    shutil.rmtree(candidate, ignore_errors=True)
    candidate.mkdir()
    for pattern in _COPIED:
        for path in state.model.glob(pattern):
            shutil.copyfile(path, candidate / path.name)
    devices = read_device_heads(state)
    sources = bundles_of(state.model)
    half.link.save(candidate)
    _write_bundles(state, sources, devices, candidate)
    served = Link.load(candidate)
    write_canaries(ServedLink(served, load_bundle(candidate / "bundle").hash), candidate)
    report = _report(learning, devices, half, validation)
    write_json(state.path(REPORT), report)
    return report


def _write_bundles(
    state: RoundState, sources: Mapping[str, Bundle], devices: Sequence[DeviceHeads], candidate: Path
) -> None:
    for path in sorted(state.model.glob("bundle*")):
        if path.is_dir():
            shutil.copytree(path, candidate / path.name)
    if state.plan.heads == "shared" and devices:
        # All devices have the last average, and so has whoever comes later.
        first = next(iter(sources.values()))
        shutil.rmtree(candidate / "bundle")
        for folder in candidate.glob("bundle-*"):
            shutil.rmtree(folder)  # made of the bundle that is no more
        with_heads(first, devices[0].heads, candidate / "bundle", None)
        return
    for each in devices:
        folder = candidate / f"{_OWN}{file_name(each.device)}"
        shutil.rmtree(folder, ignore_errors=True)
        with_heads(sources[each.bundle_hash], each.heads, folder, each.device)


def _report(
    learning: LearningRound,
    devices: Sequence[DeviceHeads],
    half: ModelHalf,
    validation: Validation | None,
) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {}
    heads = {each.device: each.heads for each in devices}
    for device, examined in learning.journal.examined.items():
        rows[device] = {"held_out": examined}
    if validation is not None:
        before = validation.score(half, {}, before=True).accuracy
        everybody = validation.score(half, {}).accuracy
        for device, row in rows.items():
            after = validation.score(half, heads[device]).accuracy if device in heads else everybody
            row["validation"] = {"before": before, "after": after}
        rows["(devices that did not take part)"] = {"validation": {"before": before, "after": everybody}}
    return {
        "round_id": learning.state.round_id,
        "plan": learning.plan.to_json(),
        "step": half.step,
        "validated": validation is not None,
        "rehearsal": None if half.rehearsal is None else dict(half.rehearsal.told),
        "devices": rows,
        "named": dict(half.watch.named),
    }
