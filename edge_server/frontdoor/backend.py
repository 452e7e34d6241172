"""One served model as the doors see it: its engine, and what makes questions ready for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from edge_server.cell import BackendRegistry
from edge_server.cell.allocation import LossSurface
from edge_server.engine import AnswerStream, EngineClient, Model, ModelRunner, Priority, Request
from edge_server.engine.calibration import Calibration
from edge_server.engine.canary import Canary
from edge_server.errors import NotFoundError
from edge_server.frontdoor.ports import BundleArchive, Ingest, LinkShape
from edge_server.scenes import SceneSpace
from protos.names import SLOT_OF


@dataclass(frozen=True, eq=False)
class Served:
    """A loaded model, with what makes questions ready for it.

    Attributes:
        model: what is asked.
        runner_of: what each of the engine's batches computes with, by its number.
        ingest: makes media of REST requests ready.
        shape: token blocks that the model takes.
        token_lengths: that it was trained for.
        token_length: the one that it works best with, whatever the link; None: that depends on the link.
        bundles: given to devices that ask for one; the model answers for them all, and its own is first.
        digest: of its weights and descriptions; empty where nobody asks whether they have changed.
        loss: expected loss per mix of modalities; empty where it was not measured.
        canaries: asked before it takes over from another model, and after.
        calibration: says how sure its answers are; None: nobody knows.
        space: brings scenes and texts together; None: this model does not.
        close: frees what it holds beside its memory.
    """

    model: Model
    runner_of: Callable[[int], ModelRunner[Any]]
    ingest: Ingest
    shape: LinkShape
    token_lengths: tuple[int, ...]
    token_length: int | None = None
    bundles: tuple[BundleArchive, ...] = ()
    digest: str = ""
    loss: Mapping[str, LossSurface] = field(default_factory=dict)
    canaries: tuple[Canary, ...] = ()
    calibration: Calibration | None = None
    space: SceneSpace | None = None
    close: Callable[[], None] = lambda: None

    @cached_property
    def bundle_hashes(self) -> tuple[str, ...]:
        """Of the model's own bundle, which is first, and of those made from it."""
        made = (bundle.bundle_hash for bundle in self.bundles)
        return tuple(dict.fromkeys([self.model.bundle_hash, *made]))


@dataclass(frozen=True, eq=False)
class EngineBackend:
    """Implements :class:`edge_server.cell.Backend`: what is served, behind the engine that answers for it."""

    served: Served
    engine: EngineClient

    @property
    def model(self) -> Model:
        """What is asked."""
        return self.served.model

    @property
    def bundle_hashes(self) -> tuple[str, ...]:
        """Of the model's own bundle, which is first, and of those made from it."""
        return self.served.bundle_hashes

    @property
    def token_lengths(self) -> tuple[int, ...]:
        """Token lengths that the model was trained for."""
        return self.served.token_lengths

    @property
    def symbols_per_token(self) -> int:
        """Complex symbols per unit of token length of a question that brings all modalities, pilots aside."""
        return len(set(SLOT_OF.values())) * self.served.shape.channel_dim // 2

    @property
    def token_length(self) -> int | None:
        """The one that the model works best with, whatever the link; None: that depends on the link."""
        return self.served.token_length

    @property
    def knows_how_sure(self) -> bool:
        """Whether its answers come with a calibrated confidence, so that questions may come in rounds."""
        return self.served.calibration is not None

    @property
    def retry_delay_s(self) -> float:
        """After how long it pays to ask the engine again, where one was turned away now [s]."""
        return self.engine.retry_delay_s

    def admit(self, user: str, priority: Priority = "interactive") -> None:
        """Tell whether the engine would accept a question of this user now; raises what that raises."""
        self.engine.admit(user, priority)

    def submit(self, request: Request) -> AnswerStream:
        """Hand an admitted question to the engine; raises what that raises."""
        return self.engine.submit(request)


Backends: TypeAlias = BackendRegistry[EngineBackend]
"""What both doors open on."""


def not_served(model: str, backends: Backends) -> NotFoundError:
    """What is told to who names a model that is not there."""
    names = [repr(backend.model.name) for backend in backends.newest]
    served = f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'}"
    return NotFoundError("model", f"model: {model[:128]!r} is not served here; {served}")


def bundle_for(backends: Backends, bundle_hash: str, device_id: str = "") -> str:
    """The bundle that a device should run, of the newest model of its line.

    Its own where it has co-trained, else of its precision.

    Args:
        backends: what is served.
        bundle_hash: what the device runs; one that is answered for.
        device_id: what it calls itself; its agents may add to its name.

    Returns:
        SHA-256 (hexadecimal): the same where the device is up to date.
    """
    current = backends.successor_of(backends.of(bundle_hash))
    known = {bundle.bundle_hash: bundle for each in backends for bundle in each.served.bundles}
    runs = known.get(bundle_hash)
    fitting = [each for each in current.served.bundles if runs is None or each.precision == runs.precision]
    own = [each for each in fitting if each.personal_to and _is_agent_of(device_id, each.personal_to)]
    if own:
        return max(own, key=lambda each: len(each.personal_to)).bundle_hash
    if bundle_hash in current.bundle_hashes and (runs is None or not runs.personal_to):
        return bundle_hash
    if runs is not None:
        for bundle in fitting:
            if not bundle.personal_to:
                return bundle.bundle_hash
    return current.bundle_hashes[0]


def _is_agent_of(device_id: str, name: str) -> bool:
    """Whether an agent calls itself by a device's name: alone, or with something of its own after it."""
    return device_id == name or device_id.startswith((f"{name}/", f"{name}-"))
