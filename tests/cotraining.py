"""Parts of a small co-training: a random link, a bundle of its heads, devices with made-up features.

Heads, gradients, channel, protocol and receivers are real; encoders are not: they do not learn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from device_agent.bundle.bundle import Bundle, write_manifest
from device_agent.channel import ChannelConfig
from device_agent.cotrain.client import Door, Progress, take_part
from device_agent.cotrain.examples import Asked, Examples, LabelledClip
from device_agent.cotrain.features import ClipFeatures
from device_agent.cotrain.learner import Learner
from device_agent.cotrain.questions_file import OwnClip
from device_agent.uplink.backoff import Backoff
from edge_server.access.credential_store import CredentialStore
from edge_server.access.identity import peer_of_certificate
from edge_server.cotrain.learning_round import LearningRound
from edge_server.cotrain.model_half import ModelHalf
from edge_server.cotrain.plan import Plan
from edge_server.cotrain.service import CoTrainingServer, CoTrainingService, Identity
from edge_server.cotrain.state import RoundState
from edge_server.cotrain.weights_of_bundles import heads_of
from edge_server.export.graphs import GRAPHS
from edge_server.export.heads import export_head
from edge_server.frontdoor.tls import TlsFiles
from edge_server.model.link import Link
from tests.authority import Pki

PATCHES = 60
CHANNEL = ChannelConfig(model="rayleigh", snr_db=12.0)
QUICK = Backoff(retries=50, base_s=0.02, cap_s=0.2)


def heads_bundle(link: Link, folder: Path) -> Bundle:
    """A bundle whose heads are a link's; its encoders are no encoders."""
    folder.mkdir(parents=True)
    config = link.config
    transmitters = {}
    for slot in link.slots:
        files = export_head(link.heads[slot], config.token_lengths, folder, slot)
        _write_idle_graph(folder / f"{slot}.onnx")
        transmitters[slot] = {"graph": f"{slot}.onnx", **GRAPHS[slot].described(config), "head": dict(files)}
    link.tokenizer.save(str(folder / "tokenizer.json"))
    return write_manifest(
        folder,
        {
            "format": 1,
            "name": config.name,
            "channel_dim": config.channel_dim,
            "token_lengths": list(config.token_lengths),
            "transmitters": transmitters,
            "tokenizer": "tokenizer.json",
            "precision": "fp32",
            "training_commit": "none",
        },
    )


def _write_idle_graph(path: Path) -> None:
    """A graph that gives back what it gets."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "tokens")]
    node = helper.make_node("Identity", ["x"], ["tokens"])
    model = helper.make_model(helper.make_graph([node], "idle", value[:1], value[1:]))
    onnx.save(model, str(path))


@dataclass
class MadeUp:
    """What one device sees: features that tell the answer, turned in a way that is the device's own."""

    link: Link
    seed: int
    clips: int = 24

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        kinds = np.random.default_rng(7).standard_normal((4, 2, self._width))
        turn = np.eye(self._width) + 0.5 * rng.standard_normal((self._width, self._width)) / self._width**0.5
        self._features = {}
        labelled = []
        for index in range(self.clips):
            kind = int(rng.integers(4))
            seen = kinds[kind] + 0.3 * rng.standard_normal((2, self._width))
            clip = OwnClip((f"{index}.mp4",), 0.0)
            self._features[clip] = {
                slot: (np.tile(seen[place], (patches, 1)) @ turn).astype(np.float32)
                for place, (slot, patches) in enumerate(self._patches.items())
            }
            labelled.append(LabelledClip(clip, (Asked((20, 21, 22), (30 + kind,)),)))
        cut = self.clips * 3 // 4
        self.examples = Examples(tuple(labelled[:cut]), tuple(labelled[cut:]))

    @property
    def _width(self) -> int:
        return self.link.encoder(self.link.slots[0]).hidden_size

    @property
    def _patches(self) -> Mapping[str, int]:
        return {slot: self.link.encoder(slot).patches for slot in self.link.slots}

    @property
    def clips_in_order(self) -> list[OwnClip]:
        """All of them."""
        return list(self._features)

    @property
    def numbered(self) -> Examples:
        """The examples, of clips that are called by their place."""

        def renamed(each: LabelledClip) -> LabelledClip:
            return LabelledClip(OwnClip((each.clip.files[0].removesuffix(".mp4"),), 0.0), each.asked)

        return Examples(tuple(map(renamed, self.examples.train)), tuple(map(renamed, self.examples.held_out)))

    def of(self, clip: OwnClip) -> ClipFeatures:
        """A clip's features."""
        modalities = dict(zip(self.link.slots, ("video", "audio"), strict=True))
        return ClipFeatures(self._features[clip], modalities)


def learner(
    bundle: Bundle, made_up: MadeUp, name: str, state: Path, channel: ChannelConfig = CHANNEL
) -> Learner:
    """A device."""
    return Learner(bundle, name, made_up.examples, made_up.of, channel, state)


class Edge:
    """A round with its door open, on the running event loop; with an authority, for enrolled devices only."""

    def __init__(self, link: Link, plan: Plan, bundle: Bundle, folder: Path, pki: Pki | None = None) -> None:
        (folder / "heads").mkdir(parents=True, exist_ok=True)
        self.state = RoundState(folder, "round", plan, folder, "digest")
        self.half = ModelHalf(link, plan)
        self.learning = LearningRound(self.state, self.half, {bundle.hash: heads_of(bundle)})
        self._store = CredentialStore(pki.access) if pki else None
        identity = Identity(peer_of_certificate, self._store) if self._store else None
        tls = (
            TlsFiles(*(pki.folder / name for name in ("server.pem", "server.key", "ca.pem"))) if pki else None
        )
        self._server = CoTrainingServer(CoTrainingService(self.learning, identity), plan.max_devices, tls)
        self._port = 0
        self._running: asyncio.Task[str] | None = None

    @property
    def door(self) -> Door:
        """Where devices come."""
        return Door(f"127.0.0.1:{self._port}")

    async def __aenter__(self) -> Edge:
        self._port = await self._server.start("127.0.0.1", self._port)
        self._running = asyncio.create_task(self.learning.run())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._server.stop()
        self.learning.close()
        if self._store is not None:
            self._store.close()

    async def done(self) -> str:
        """Until the round is over."""
        assert self._running is not None
        return await asyncio.shield(self._running)


async def device(
    one: Learner, door: Door, on_progress: Callable[[Progress], None] = lambda progress: None
) -> str:
    """A device's part, from start to end."""
    return await take_part(one, door, backoff=QUICK, on_progress=on_progress)
