"""The tab of scenes: devices, a timeline, a search whose results can be asked further, standing questions.

Whose scenes somebody sees here is what their key may see at the other doors; it is asked anew each time.
"""

from __future__ import annotations

import asyncio
import logging

from nicegui import ui

from edge_server.cell import Peer
from edge_server.engine import FeatureBlock
from edge_server.errors import EdgeServerError
from edge_server.frontdoor.http.asking import RestQuestion
from edge_server.frontdoor.scene_blocks import SceneAsked, feature_blocks
from edge_server.frontdoor.scenes import SeenRule
from edge_server.frontdoor.status import known
from edge_server.scenes import At, Found, Scene, SceneStore, Wanted
from edge_server.scenes.store import DeviceScenes
from edge_server.ui import scene_markup
from edge_server.ui.context import PageContext
from edge_server.ui.live import Fragment, card

logger = logging.getLogger(__name__)

REFRESH_S = 2.0
_DEVICES_SHOWN, _SCENES_SHOWN, _FOUND_SHOWN, _TURNS_SHOWN = 24, 500, 8, 12
_MAX_CHARS = 400
_LATEST = ""


class ScenesPanel:
    """One visitor's view of scenes.

    Args:
        context: what is looked at.
        host: address that the visitor comes from.
        key: what the visitor showed at the gate.

    Attributes:
        shown: whether the visitor looks at it; it is kept up to date only then.
    """

    def __init__(self, context: PageContext, host: str, key: str) -> None:
        self.shown = False
        self._context, self._host, self._key = context, host, key
        self._desk = context.asker.desk
        self._at, self._asked = _LATEST, dict[str, list[tuple[str, str]]]()
        self._busy = asyncio.Lock()
        with card("Devices", "tl-wide"):
            self._tiles = Fragment()
        with ui.element("div").classes("tl-two"):
            self._build_search()
            self._build_question()
        with card("Timeline", "tl-wide"):
            self._timeline = Fragment("tl-scroll")
        with card("Standing questions", "tl-wide"):
            self._rules = Fragment()
        ui.timer(REFRESH_S, self._look)

    def _build_search(self) -> None:
        with card("Search"):
            self._query = ui.input(label="What is to be seen or heard").props(
                f'outlined dense maxlength={_MAX_CHARS} name="search"'
            )
            self._query.on("keydown.enter.prevent", self.search)
            ui.button("Search", icon="search", on_click=self.search).props("unelevated no-caps")
            self._search_error = _error()
            self._results = ui.element("div").classes("tl-found").props('aria-live="polite"')

    def _build_question(self) -> None:
        with card("Ask"):
            self._device = ui.select([], label="Device", on_change=self._on_device).props("outlined dense")
            self._which = ui.label().classes("tl-note")
            self._question = ui.input(label="Question").props(
                f'outlined dense maxlength={_MAX_CHARS} name="scene-question"'
            )
            self._question.on("keydown.enter.prevent", self.ask)
            self._button = ui.button("Ask", icon="send", on_click=self.ask).props("unelevated no-caps")
            with ui.element("div").props('aria-live="polite"'):
                self._answer = ui.label("").classes("tl-answer")
            self._facts = Fragment()
            self._ask_error = _error()
            self._say_which()

    async def refresh(self) -> None:
        """Look again."""
        try:
            peer = self._peer()
            now_s = self._desk.scenes.wall_clock()
            devices, latest = await self._desk.listed(Wanted(), peer, _SCENES_SHOWN)
            seen = await self._desk.rules(peer, _TURNS_SHOWN)
            tiles = await self._tiles_of(devices[:_DEVICES_SHOWN], latest, seen)
        except EdgeServerError as error:
            self._tiles.show("")
            _complain(self._search_error, str(error))
            return
        self._tiles.show(scene_markup.tiles(tiles, now_s))
        self._timeline.show(scene_markup.timeline(latest, now_s))
        self._rules.show(scene_markup.rules(seen))
        names = [each.device for each in devices]
        if names != self._device.options:
            chosen = self._device.value if self._device.value in names else next(iter(names), None)
            self._device.set_options(names, value=chosen)

    async def search(self) -> None:
        """Find scenes that a text says something of; each can be asked about."""
        self._search_error.visible = False
        self._results.clear()
        try:
            peer = self._counted()
            found = await self._desk.search(str(self._query.value or ""), Wanted(), peer, _FOUND_SHOWN)
        except Exception as error:
            _complain(self._search_error, _said(error))
            return
        with self._results:
            if not found:
                ui.label("Nothing was found.").classes("tl-note")
            for each in found:
                self._result(each)

    async def ask(self) -> None:
        """Ask about the chosen scene."""
        if self._busy.locked():
            return
        async with self._busy:
            self._ask_error.visible = False
            self._facts.show("")
            self._answer.set_text("…")
            self._button.props("loading")
            try:
                await self._ask_once(str(self._question.value or "").strip(), str(self._device.value or ""))
            except Exception as error:
                self._answer.set_text("")
                _complain(self._ask_error, _said(error))
            finally:
                self._button.props(remove="loading")

    async def _ask_once(self, question: str, device: str) -> None:
        user = self._context.gate.user_of(self._key, self._host)
        scene = SceneAsked(device, self._at, (), "scene")
        asked = await self._context.asker.ask(
            RestQuestion(question, user=user, scenes=(scene,), peer=self._peer())
        )
        try:
            completion = await asked.stream.completion()
        finally:
            asked.cancel()
        said = "not sure" if completion.abstained else completion.text.strip()
        self._answer.set_text(said or "(an empty answer)")
        self._facts.show(scene_markup.facts(asked.scenes))
        self._asked[device] = [(question, said), *self._asked.get(device, [])][:2]

    def _result(self, found: Found) -> None:
        scene = found.scene
        with ui.element("div").classes("tl-hit"):
            ui.html(
                scene_markup.found(scene, found.score, self._desk.scenes.wall_clock()), sanitize=True
            ).classes("tl-hit-what")
            asking = ui.button("Ask about it", on_click=lambda: self._choose(scene), color=None)
            asking.props("flat dense no-caps").classes("tl-upload")

    def _choose(self, scene: Scene) -> None:
        if scene.device not in self._device.options:
            self._device.set_options([*self._device.options, scene.device])
        self._device.set_value(scene.device)
        self._at = scene.scene_id
        self._say_which(scene)
        self._question.run_method("focus")

    def _on_device(self) -> None:
        self._at = _LATEST
        self._say_which()

    def _say_which(self, scene: Scene | None = None) -> None:
        when = "its latest scene" if scene is None else f"its scene of {scene_markup.moment(scene.start_s)}"
        self._which.set_text(f"About {when}; nothing is sent for it.")

    async def _look(self) -> None:
        if self.shown:
            await self.refresh()

    async def _tiles_of(
        self, devices: list[DeviceScenes], latest: list[Scene], seen: list[SeenRule]
    ) -> list[scene_markup.Tile]:
        last = {scene.device: scene for scene in reversed(latest)}
        missing = [each.device for each in devices if each.device not in last]

        def look(store: SceneStore) -> list[Scene | None]:
            return [store.find(device, At()) for device in missing]

        def pictures(store: SceneStore) -> dict[str, bytes]:
            return {device: store.thumbnail(scene.scene_id) for device, scene in last.items()}

        if missing:
            last |= {s.device: s for s in await self._desk.scenes.call(look) if s is not None}
        # Whoever turned them off since shows none that were kept before.
        thumbnails = await self._desk.scenes.call(pictures) if self._desk.thumbnails else {}
        return [
            scene_markup.Tile(
                each,
                last[each.device],
                self._blocks(last[each.device]),
                scene_markup.answers_of(each.device, seen, self._asked),
                thumbnails.get(each.device, b""),
            )
            for each in devices
            if each.device in last
        ]

    def _blocks(self, scene: Scene) -> tuple[FeatureBlock, ...]:
        try:
            return feature_blocks(scene.blocks, shape=self._context.asker.backend.served.shape)
        except EdgeServerError:
            return ()

    def _peer(self) -> Peer | None:
        return self._context.gate.peer_of(self._key)

    def _counted(self) -> Peer | None:
        """The same, of what counts as a question."""
        self._context.gate.user_of(self._key, self._host)
        return self._peer()


def _said(error: Exception) -> str:
    if not isinstance(error, EdgeServerError):
        logger.error("what was asked of scenes failed", exc_info=error)
    return str(known(error))


def _error() -> ui.label:
    label = ui.label().classes("tl-error").props('role="alert"')
    label.visible = False
    return label


def _complain(where: ui.label, what: str) -> None:
    where.set_text(what)
    where.visible = True
