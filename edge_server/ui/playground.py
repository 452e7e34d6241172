"""The playground: a clip, a question and a radio link; the answer, the tokens on both sides, and the cost."""

from __future__ import annotations

import logging
from html import escape
from typing import cast

from nicegui import events, ui

from edge_server.engine import Completion
from edge_server.errors import EdgeServerError
from edge_server.frontdoor.backend import EngineBackend
from edge_server.frontdoor.ports import LinkSettings, ShownWindow
from edge_server.frontdoor.status import known
from edge_server.ui import markup, recorder, trial
from edge_server.ui.clips import MEDIA_TYPES, ClipFile
from edge_server.ui.context import PageContext
from edge_server.ui.live import Fragment, card
from edge_server.ui.range_input import RangeInput
from protos.names import DTYPES, CsiName, FadingName, PayloadName

logger = logging.getLogger(__name__)

CLIP_URL = "/_ui/clips/"
_FADINGS = {"block": "One gain per codeword", "fast": "One per symbol"}
_SNRS_DB = range(-15, 31)
_STARTS_AT_DB = 10
_POWERS_DB = range(-10, 11)
_SPEEDS_KMH = (0, 3, 10, 30, 60, 120, 300)
_DELAYS_NS = (10, 30, 100, 300, 1000)
_GAINS = {"perfect": "Known", "estimated": "Estimated from pilots"}
_STARTS_WITH = LinkSettings(channel="awgn", payload="float16")
_MAX_QUESTION_CHARS = 400
_MOST_S = 1_000_000
_HASH_DIGITS = 8


class Playground:
    """One visitor's playground.

    Args:
        context: what asks and what can be asked about.
        host: address that the visitor comes from.
        key: what the visitor showed at the gate.
    """

    def __init__(self, context: PageContext, host: str, key: str) -> None:
        self._context, self._host, self._key = context, host, key
        self._lengths = tuple(context.asker.backend.token_lengths)
        self._backends = {backend.bundle_hashes[0]: backend for backend in context.asker.backends}
        self._clips = {clip.key: clip for clip in context.shelf.shipped}
        self._busy = self._again = self._asked_once = self._answered = False
        self._begun = False
        self._clip_changes = 0
        with ui.element("div").classes("tl-playground"):
            with ui.element("div").classes("tl-controls"):
                self._build_model()
                self._build_clip()
                self._build_question()
                self._build_link()
            with ui.element("div").classes("tl-results"):
                self._build_results()
        if self._clips:
            self._choose(next(iter(self._clips.values())))

    async def begin(self) -> None:
        """Ask the first example when the playground is looked at first: an empty page explains nothing."""
        if not self._begun:
            self._begun = True
            if self._question.value and not self._asked_once:
                await self.ask()

    def _build_model(self) -> None:
        """Which of the models that are served is asked, where there are several."""
        names = {
            name: f"{backend.model.name} · {name[:_HASH_DIGITS]}" for name, backend in self._backends.items()
        }
        with card("Model", "tl-order-1") as box:
            self._model = ui.select(names, value=next(iter(names)), label="Model", on_change=self._on_model)
            self._model.props("outlined dense")
        box.visible = len(names) > 1

    def _build_clip(self) -> None:
        with card("Clip", "tl-order-1"):
            self._player = Fragment("tl-player")
            names = self._clip_names()
            self._clip = ui.select(names, label="Clip", on_change=self._on_clip).props("outlined dense")
            self._clip.visible = bool(names)
            # The uploader's own list of files is of no use here; its button is.
            self._upload = (
                ui.upload(
                    auto_upload=True,
                    max_file_size=self._context.shelf.max_clip_bytes,
                    on_upload=self._on_upload,
                )
                .props(f'accept="{",".join(MEDIA_TYPES)},*/*"')
                .classes("tl-uploader")
            )
            self._upload.on_rejected(self._on_rejected)
            picker = f"() => getElement({self._upload.id}).$refs.qRef.pickFiles()"
            upload = ui.button("Upload a clip", icon="upload", color=None).props("outline no-caps")
            upload.classes("tl-upload").on("click", js_handler=picker)
            with ui.element("div").classes("tl-recorder"):
                for label, icon, script in (
                    ("Take a picture", "photo_camera", recorder.take_picture(self._upload.id)),
                    (f"Record {recorder.RECORDED_S:g} s", "videocam", recorder.record(self._upload.id)),
                ):
                    taking = ui.button(label, icon=icon, color=None).props("outline no-caps")
                    taking.classes("tl-upload").on("click", self._on_not_taken, js_handler=script)
            limit = markup.size(self._context.shelf.max_clip_bytes)
            ui.label(f"A video, picture or recording, at most {limit}.").classes("tl-note")
            self._clip_error = ui.label().classes("tl-error").props('role="alert"')
            self._clip_error.visible = False
            self._start = ui.number("Ask about it from (s)", value=0, min=0, max=_MOST_S, step=1)
            self._start.props("outlined dense")

    def _build_question(self) -> None:
        with card("Question", "tl-order-2"):
            self._question = ui.input(label="Question").props(
                f'outlined autogrow type=textarea maxlength={_MAX_QUESTION_CHARS} name="question"'
            )
            self._question.on("keydown.enter.prevent", self.ask)
            self._examples = ui.select([], label="Example questions", on_change=self._on_example)
            self._examples.props("outlined dense options-dense")
            self._button = ui.button("Ask", icon="send", on_click=self.ask).props("unelevated no-caps")
            self._button.classes("tl-ask")

    def _build_length(self, near: int) -> None:
        """The token lengths of the model that is asked; it starts with the one nearest to a length."""
        nearest = min(self._lengths, key=lambda length: abs(length - near))
        self._length_box.clear()
        with self._length_box:
            stops = list(map(str, self._lengths))
            self._length = RangeInput("Token length", stops, self._lengths.index(nearest), self._on_link)

    def _build_link(self) -> None:
        with card("Radio link", "tl-order-4"):
            self._snr_label = _field("SNR")
            self._snr = RangeInput(
                "SNR", [f"{snr_db} dB" for snr_db in _SNRS_DB], _SNRS_DB.index(_STARTS_AT_DB), self._on_link
            )
            self._power_label = _field("Transmit power")
            powers = [f"{power:+d} dB" for power in _POWERS_DB]
            self._power = RangeInput("Transmit power", powers, _POWERS_DB.index(0), self._on_link)
            _field("Channel")
            labels = {name: choice.label for name, choice in self._context.channels.items()}
            self._channel = ui.toggle(labels, value=_STARTS_WITH.channel, on_change=self._on_link)
            _field("Fading")
            self._fading = ui.toggle(_FADINGS, value=_STARTS_WITH.fading, on_change=self._on_link)
            with ui.element("div") as self._tapped:
                self._speed_label = _field("Speed")
                self._speed = RangeInput(
                    "Speed", [f"{speed} km/h" for speed in _SPEEDS_KMH], _SPEEDS_KMH.index(3), self._on_link
                )
                self._delay_label = _field("Delay spread")
                delays = [f"{delay} ns" for delay in _DELAYS_NS]
                self._delay = RangeInput("Delay spread", delays, _DELAYS_NS.index(300), self._on_link)
            _field("Gains at the receiver")
            self._csi = ui.toggle(_GAINS, value=_STARTS_WITH.csi, on_change=self._on_link)
            self._length_label = _field("Token length")
            self._length_box = ui.element("div")
            self._build_length(self._context.token_length)
            _field("Payload")
            self._payload = ui.toggle(list(DTYPES), value=_STARTS_WITH.payload, on_change=self._on_link)
            for name, toggle in (
                ("Channel", self._channel),
                ("Fading", self._fading),
                ("Gains at the receiver", self._csi),
                ("Payload", self._payload),
            ):
                toggle.props(f'unelevated no-caps spread role=group aria-label="{name}"').classes("tl-toggle")
            self._live = ui.switch("Ask again when the link changes", value=True)
            self._show_settings()

    def _build_results(self) -> None:
        self._answer_box = card("Answer", "tl-order-3 tl-sticky")
        with self._answer_box:
            with ui.element("div").props('aria-live="polite"'):
                self._answer = ui.label("Ask something.").classes("tl-answer")
            self._error = ui.label().classes("tl-error").props('role="alert"')
            self._error.visible = False
            self._facts = Fragment()
        self._cost_card = card("Cost", "tl-order-5")
        with self._cost_card:
            self._cost = Fragment()
        self._tokens_card = card("Tokens before and after the channel", "tl-order-5")
        with self._tokens_card:
            ui.html(markup.HEATMAP_KEY, sanitize=True)
            self._tokens = Fragment()
        self._cost_card.visible = self._tokens_card.visible = False

    # What the visitor does.

    async def _on_model(self) -> None:
        asked = self._asked_model()
        length, self._lengths = self._lengths[self._length.index], tuple(asked.token_lengths)
        self._build_length(length)
        names = self._clip_names()
        self._clip.set_options(names)
        self._clip.visible = bool(names)
        if names and self._clip.value not in names:
            self._choose(self._clips[next(iter(names))])
        await self._on_link()

    def _on_clip(self, event: events.ValueChangeEventArguments[str | None]) -> None:
        if event.value in self._clips:
            self._show(self._clips[event.value])

    def _on_example(self, event: events.ValueChangeEventArguments[str | None]) -> None:
        if event.value:
            self._question.set_value(event.value)

    def _show_settings(self) -> None:
        link = self._link()
        channel = self._context.channels[link.channel]
        unused = ", without meaning on a perfect channel" if channel.perfect else ""
        self._snr_label.set_content(f"SNR <strong>{link.snr_db:.0f} dB</strong>{unused}")
        self._length_label.set_content(f"Token length <strong>{link.token_length}</strong> per modality")
        self._power_label.set_content(f"Transmit power <strong>{link.tx_power_db:+.0f} dB</strong>")
        self._speed_label.set_content(f"Speed <strong>{link.speed_kmh:.0f} km/h</strong>")
        self._delay_label.set_content(f"Delay spread <strong>{link.delay_spread_ns:.0f} ns</strong>")
        self._fading.set_enabled(channel.fades and not channel.selective)
        self._csi.set_enabled(not channel.perfect)
        self._tapped.visible = channel.selective

    async def _on_link(self) -> None:
        self._show_settings()
        if self._live.value and self._asked_once:
            await self.ask()

    async def _on_upload(self, event: events.UploadEventArguments) -> None:
        self._upload.reset()
        try:
            clip = await self._context.shelf.take(event.file.name, event.file.size(), event.file.save)
            user = self._context.gate.user_of(self._key, self._host)
            await trial.look_at(self._context.asker, clip, user)
        except EdgeServerError as error:
            self._complain(self._clip_error, str(error))
            return
        self._clips[clip.key] = clip
        self._clip.set_options(self._clip_names())
        self._clip.visible = True
        self._choose(clip)

    def _on_not_taken(self, event: events.GenericEventArguments) -> None:
        self._complain(self._clip_error, f"camera: {str(event.args)[:_MAX_QUESTION_CHARS]}")

    def _on_rejected(self) -> None:
        self._upload.reset()
        limit = markup.size(self._context.shelf.max_clip_bytes)
        self._complain(
            self._clip_error, f"clip: is larger than the {limit} that are allowed, or no single file"
        )

    async def ask(self) -> None:
        """Ask what is set; while an answer is under way, once more after it."""
        if self._busy:
            self._again = True
            return
        self._busy = self._asked_once = True
        self._button.props("loading")
        try:
            self._again = True
            while self._again:
                self._again = False
                await self._ask_once()
        finally:
            self._busy = False
            self._button.props(remove="loading")

    async def _ask_once(self) -> None:
        self._error.visible = False
        # What was answered before stays, pale, until there is something new: a drag does not make it flicker.
        self._answer_box.classes("tl-stale")
        if not self._answered:
            self._answer.set_text("…")
        link, clip = self._link(), self._clips.get(self._clip.value or "")
        asked_at = self._clip_changes
        question = str(self._question.value or "").strip()
        try:
            user = self._context.gate.user_of(self._key, self._host)
            start_s = float(self._start.value or 0)
            # A model that was the only one may have been replaced since the page was opened.
            backend = self._asked_model() if len(self._backends) > 1 else None
            asked = await trial.ask(self._context.asker, clip, question, link, user, start_s, backend)
            try:
                self._show_link(trial.codewords(asked.ready), link, clip)
                text = ""
                async for event in asked.stream:
                    if self._clip_changes != asked_at:
                        break  # what comes now is not about the clip that is shown
                    if isinstance(event, Completion):
                        self._show_completion(event, question, clip, asked.ready.window)
                    else:
                        text += event.text
                        self._answer.set_text(text)
                        self._answer_box.classes(remove="tl-stale")
            finally:
                asked.stream.cancel()
        except Exception as error:
            if not isinstance(error, EdgeServerError):
                logger.exception("a playground question failed")
            if self._clip_changes == asked_at:
                self._forget("No answer")
                self._complain(self._error, str(known(error)))
        finally:
            self._answer_box.classes(remove="tl-stale")
            if self._clip_changes != asked_at and not self._again:
                self._forget()
        self._answer_box.run_method("scrollIntoView", {"block": "nearest"})

    # What is shown.

    def _choose(self, clip: ClipFile) -> None:
        """Select a clip, which shows it."""
        if self._clip.value == clip.key:
            self._show(clip)
        else:
            self._clip.set_value(clip.key)

    def _forget(self, said: str = "Ask something.") -> None:
        """Show nothing of a question that is no longer the one that is asked."""
        self._answered = False
        self._error.visible = self._cost_card.visible = self._tokens_card.visible = False
        self._answer.set_text(said)
        self._facts.show("")

    def _show(self, clip: ClipFile) -> None:
        self._clip_error.visible = False
        self._clip_changes += 1
        self._start.set_value(0)
        self._start.visible = clip.modality != "image"
        self._forget()
        url, label = CLIP_URL + clip.key, escape(clip.name, quote=True)
        match clip.modality:
            case "image":
                media = f'<img src="{url}" alt="{label}">'
            case "audio":
                media = f'<audio controls preload="metadata" src="{url}" aria-label="{label}"></audio>'
            case _:
                media = f'<video controls preload="metadata" src="{url}" aria-label="{label}"></video>'
        self._player.show(f'{media}<p class="tl-note">{label} · {markup.size(clip.size_bytes)}</p>')
        texts = [example.text for example in clip.examples]
        self._examples.set_options(texts, value=texts[0] if texts else None)
        self._examples.visible = bool(texts)

    def _show_link(
        self, words: tuple[trial.Codeword, ...], link: LinkSettings, clip: ClipFile | None
    ) -> None:
        self._cost_card.visible = self._tokens_card.visible = bool(words)
        if words and clip is not None:
            tokens = trial.bill_of_tokens(tuple(word.cost for word in words))
            kind = {"image": "image", "audio": "recording"}.get(clip.modality, "clip")
            self._cost.show(markup.comparison(tokens, trial.bill_of_clip(clip.size_bytes, link), kind))
            self._tokens.show("".join(map(markup.pictures, words)))

    def _show_completion(
        self, completion: Completion, question: str, clip: ClipFile | None, window: ShownWindow | None
    ) -> None:
        self._answered = True
        self._answer_box.classes(remove="tl-stale")
        self._answer.set_text(completion.text.strip() or "(an empty answer)")
        truths = [example.truth for example in clip.examples if example.text == question] if clip else []
        facts = markup.answer_facts(completion, truths[0] if truths else None)
        self._facts.show(facts + markup.window_note(window))

    def _complain(self, where: ui.label, what: str) -> None:
        where.set_text(what)
        where.visible = True

    def _asked_model(self) -> EngineBackend:
        return self._backends.get(self._model.value or "") or self._context.asker.backend

    def _clip_names(self) -> dict[str, str]:
        """The clips that can be asked about, by their keys: uploads, and what ships for the model."""
        model = self._asked_model().model.name
        return {key: clip.name for key, clip in self._clips.items() if clip.model in ("", model)}

    def _link(self) -> LinkSettings:
        return LinkSettings(
            channel=str(self._channel.value),
            fading=cast(FadingName, self._fading.value),
            snr_db=float(_SNRS_DB[self._snr.index]),
            tx_power_db=float(_POWERS_DB[self._power.index]),
            csi=cast(CsiName, self._csi.value),
            speed_kmh=float(_SPEEDS_KMH[self._speed.index]),
            delay_spread_ns=float(_DELAYS_NS[self._delay.index]),
            token_length=self._lengths[self._length.index],
            payload=cast(PayloadName, self._payload.value),
        )


def _field(name: str) -> ui.html:
    return ui.html(name, sanitize=True).classes("tl-field")
