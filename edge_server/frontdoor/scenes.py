"""Scenes at both doors: what devices share, what a question shows of it, who may see whose.

share ─▶ checked as a question's tokens are ─▶ Scene ─▶ stored ─▶ acknowledged
question ─▶ may they? ─▶ found ─▶ the model that its tokens were made for ─▶ blocks of its prompt
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from edge_server.cell import Peer
from edge_server.engine import FeatureBlock
from edge_server.errors import (
    BundleMismatchError,
    InvalidQuestionError,
    NotFoundError,
    PermissionDeniedError,
    SceneBundleError,
)
from edge_server.frontdoor.backend import Backends, EngineBackend
from edge_server.frontdoor.ports import LinkSettings
from edge_server.frontdoor.scene_blocks import (
    MAX_SCENES,
    SceneAsked,
    SceneFacts,
    Shown,
    chosen_blocks,
    feature_blocks,
    read_block,
    shown_name,
    slots_in_words,
)
from edge_server.frontdoor.scene_shares import Incoming, Received
from edge_server.scenes import Found, Readers, Scene, Scenes, SqliteScenes, Wanted, may_read, parse_at
from edge_server.scenes.rule_file import RuleFile, Turn
from edge_server.scenes.rules import Rule, RuleState
from edge_server.scenes.scene import MAX_AT_CHARS
from edge_server.scenes.store import DeviceScenes, SceneStore
from edge_server.scenes.words import label_in_words
from protos.names import MAX_DEVICE_CHARS, SLOT_OF

logger = logging.getLogger("tokenlink.audit")


@dataclass(frozen=True)
class SeenRule:
    """A standing question, as far as somebody may see it.

    Attributes:
        rule: the question.
        states: what it knows, by device.
        turns: when it turned, the latest first.
    """

    rule: Rule
    states: Mapping[str, RuleState]
    turns: tuple[Turn, ...]


class SceneDesk:
    """Shares, shows, lists, finds and deletes scenes for whoever may.

    Args:
        scenes: what is kept.
        readers: says whose scenes somebody may see.
        backends: the models that are served.
        thumbnails: whether small pictures that devices send are kept and shown.
    """

    def __init__(
        self, scenes: Scenes, readers: Readers, backends: Backends, *, thumbnails: bool = False
    ) -> None:
        self.scenes = scenes
        self.thumbnails = thumbnails
        self._readers = readers
        self._backends = backends
        self.incoming = Incoming(scenes.wall_clock, thumbnails=thumbnails)

    def facts_of(self, scene: Scene) -> SceneFacts:
        """What there is to say of a scene now."""
        age_s = max(self.scenes.wall_clock() - scene.end_s, 0.0)
        stale = age_s > self.scenes.stale_s
        return SceneFacts(scene.device, scene.scene_id, scene.start_s, scene.length_s, age_s, stale)

    async def keep(self, received: Received) -> Scene:
        """Store a scene; safe when it returns. Raises EngineFailureError where it cannot be stored."""
        space = self._backends.of(received.scene.bundle_hash).served.space
        return await self.scenes.share(received.scene, space, received.clock)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep scenes for as long as this lasts; what is known of senders' clocks outlives it."""
        async with self.scenes.running():
            self.incoming.restore(await self.scenes.call(lambda store: store.clocks()))
            yield

    async def shown(self, asked: Sequence[SceneAsked], peer: Peer | None) -> Shown:
        """What a question about scenes shows the model.

        Args:
            asked: at least one.
            peer: who asks; None: nobody had to show who they are.

        Raises:
            InvalidQuestionError: one is named wrongly, or they cannot be shown together.
            PermissionDeniedError: they may not see one.
            NotFoundError: none of them is there.
            SceneBundleError: the model that one was made for is not served any more.
        """
        if len(asked) > MAX_SCENES:
            raise InvalidQuestionError("scenes", f"holds {len(asked)}; at most {MAX_SCENES}")
        now_s = self.scenes.wall_clock()
        # All doors first: what is not there looks like what is, to who may not see it.
        for each in asked:
            self._check(each.device, peer, f"{each.field}.device")
        facts: list[SceneFacts] = []
        there: list[tuple[SceneAsked, Scene]] = []
        for each in asked:
            try:
                at = parse_at(each.at[: MAX_AT_CHARS + 1], now_s)
            except ValueError as error:
                raise InvalidQuestionError(
                    f"{each.field}.at",
                    f"is {each.at[:MAX_AT_CHARS]!r}; latest, an id, seconds since 1970 or ago (-90), or a "
                    "time such as 2030-01-31T12:00:00",
                ) from error
            scene = await self.scenes.find(each.device, at)
            facts.append(SceneFacts(each.device) if scene is None else self.facts_of(scene))
            if scene is not None:
                there.append((each, scene))
        if not there:
            names = ", ".join(f"{each.device!r} at {each.at or 'latest'!r}" for each in asked)
            raise NotFoundError(asked[0].field, f"{asked[0].field}: there is no scene of {names[:256]}")
        backend = self._backend([scene for _, scene in there])
        shape = backend.served.shape
        blocks: list[FeatureBlock] = []
        filled: dict[str, str] = {}
        shown_as = []
        for each, scene in there:
            chosen = chosen_blocks(each, scene)
            # One scene alone needs no name: that is how a model learned to be asked about one.
            label = await self._label(scene, backend) if shape.views and len(asked) > 1 else ()
            shown_as.append(shown_name(scene, chosen, label))
            for block in chosen:
                slot = SLOT_OF[block.modality]
                if slot in filled and not shape.views:
                    raise InvalidQuestionError(
                        each.field,
                        f"brings {block.modality} of {scene.device!r}, and {filled[slot]} is shown already; "
                        f"{backend.model.name} takes one of {slots_in_words()}: "
                        "name modalities of each scene",
                    )
                blocks.append(replace(read_block(block, shape), label=label))
                filled[slot] = f"{block.modality} of {scene.device!r}"
        bundle_hash = there[0][1].bundle_hash
        return Shown(backend, bundle_hash, tuple(blocks), tuple(facts), " ".join(shown_as))

    async def _label(self, scene: Scene, backend: EngineBackend) -> tuple[int, ...]:
        """Language tokens that say whose a scene is, and how long ago it was."""
        age_s = self.scenes.wall_clock() - scene.end_s
        words = label_in_words(scene.device, age_s)
        ready = await backend.served.ingest.prepare((), words, "", LinkSettings(), scene.device)
        return ready.question_ids

    def all_of(self, scene: Scene) -> Shown:
        """What a scene shows the model, for the server itself.

        Raises:
            SceneBundleError: its model is not served any more.
        """
        backend = self._backend([scene])
        blocks = feature_blocks(scene.blocks, shape=backend.served.shape)
        names = ",".join(sorted(block.modality for block in scene.blocks))
        return Shown(backend, scene.bundle_hash, blocks, (self.facts_of(scene),), f"{scene.scene_id}:{names}")

    async def listed(
        self, wanted: Wanted, peer: Peer | None, most: int
    ) -> tuple[list[DeviceScenes], list[Scene]]:
        """Devices and their latest scenes, as far as somebody may see them."""
        wanted = self._seen_by(wanted, peer)
        return await self.scenes.call(lambda store: (store.devices(wanted), store.scenes(wanted, most)))

    async def rules(self, peer: Peer | None, most_turns: int) -> list[SeenRule]:
        """Standing questions, and what they know of devices that somebody may see."""
        readable = self._readers.readable(_name(peer))

        def look(store: SceneStore) -> list[SeenRule]:
            if not isinstance(store, SqliteScenes):
                return []
            file, found = RuleFile(store), []
            for rule in file.rules():
                states = {d: s for d, s in file.states(rule.rule_id).items() if may_read(readable, d)}
                turns = [
                    turn for turn in file.history(rule.rule_id, most_turns) if may_read(readable, turn.device)
                ]
                # A rule about nobody whom they may see is not theirs to know of.
                if readable is None or states:
                    found.append(SeenRule(rule, states, tuple(turns)))
            return found

        return await self.scenes.call(look)

    async def search(self, text: str, wanted: Wanted, peer: Peer | None, most: int) -> list[Found]:
        """Scenes that a text says something of, as far as somebody may see them.

        Raises:
            InvalidQuestionError: the text is empty, or the model has no space for it.
        """
        if not text.strip():
            raise InvalidQuestionError("query", "is empty; say what is looked for")
        backend = self._backends.current
        if backend.served.space is None:
            raise InvalidQuestionError(
                "query",
                f"cannot be looked for: {backend.model.name} has no space of texts and scenes",
            )
        return await self.scenes.search(text, backend.served.space, self._seen_by(wanted, peer), most)

    async def delete(self, wanted: Wanted, peer: Peer | None) -> int:
        """Delete a device's own scenes for good; of others, nobody's are: that is the operator's.

        Raises:
            PermissionDeniedError: they are another's.
        """
        if peer is not None:
            for device in wanted.devices:
                if device != peer.name and not device.startswith(f"{peer.name}/"):
                    raise PermissionDeniedError(
                        "device",
                        f"is {device[:MAX_DEVICE_CHARS]!r}; {peer.name!r} deletes its own, and the operator "
                        "everybody's: edge-server scenes delete",
                        reason="scenes",
                    )
        else:
            wanted = self._seen_by(wanted, peer)
        gone = await self.scenes.delete(wanted)
        logger.info(
            "scenes deleted",
            extra={"by": _name(peer), "devices": list(wanted.devices), "scenes": gone},
        )
        return gone

    def _seen_by(self, wanted: Wanted, peer: Peer | None) -> Wanted:
        return replace(wanted, readable=self._readers.readable(_name(peer)))

    def _check(self, device: str, peer: Peer | None, field: str) -> None:
        if not 1 <= len(device) <= MAX_DEVICE_CHARS:
            raise InvalidQuestionError(
                field, f"has {len(device)} characters; 1 to {MAX_DEVICE_CHARS} are allowed"
            )
        seen = may_read(self._readers.readable(_name(peer)), device)
        if peer is not None and device != peer.name:
            logger.info("scenes asked for", extra={"by": peer.name, "device": device, "granted": seen})
        if not seen:
            raise PermissionDeniedError(
                field,
                f"is {device[:MAX_DEVICE_CHARS]!r}, whose scenes {_name(peer)!r} may not see; "
                "edge-server scenes grant lets it",
                reason="scenes",
            )

    def _backend(self, scenes: Sequence[Scene]) -> EngineBackend:
        """What answers for all of them."""
        found = []
        for scene in scenes:
            try:
                found.append(self._backends.of(scene.bundle_hash))
            except BundleMismatchError as error:
                raise SceneBundleError(
                    scene.scene_id, scene.device, scene.bundle_hash, error.server_hashes
                ) from error
        for scene, backend in zip(scenes, found, strict=True):
            if backend is not found[0]:
                raise InvalidQuestionError(
                    "scenes",
                    f"scene {scene.scene_id} of {scene.device!r} is for {backend.model.name}, the first one "
                    f"for {found[0].model.name}; one model answers",
                )
        return found[0]


def _name(peer: Peer | None) -> str | None:
    return None if peer is None else peer.name
