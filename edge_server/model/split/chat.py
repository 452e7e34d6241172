"""Conversations as the language tokens that a checkpoint's own processor makes of them. Needs no torch.

    turns ─chat template─▶ text ─▶ placeholders in place of media ─tokenizer─▶ ids, one per feature token

A text that spells a special token, or what stands for a picture, is text: it is encoded apart from the
template around it.
"""

from __future__ import annotations

import datetime
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from edge_server.model.split.description import MediaPart, SplitConfig

# Private use: stand for texts in a template's output, one each.
_MARK = "\ue0f0{}\ue0f1"
_MARKED = re.compile("\ue0f0(\\d+)\ue0f1")


class ChatError(ValueError):
    """A conversation that the chat template refuses, or cannot show."""


@dataclass(frozen=True)
class Shown:
    """A picture or sound in a turn.

    Attributes:
        slot: of what kind.
        tokens: feature tokens that it has.
    """

    slot: str
    tokens: int


@dataclass(frozen=True)
class Turn:
    """What one side said.

    Attributes:
        role: ``"user"``, ``"assistant"`` or ``"system"``.
        pieces: what was said and shown, in this order.
    """

    role: str
    pieces: tuple[str | Shown, ...]


@dataclass(frozen=True)
class Written:
    """A conversation as language tokens.

    Attributes:
        ids: placeholders included.
        places: where the feature tokens of each thing shown begin, in order.
    """

    ids: list[int]
    places: list[int]


class Chat:
    """Writes conversations for one model. Thread-safe.

    Args:
        config: of the model.
        tokenizer: its own; text that spells a special token is text to it.
        today: what a template that asks for the date is told.
    """

    def __init__(
        self,
        config: SplitConfig,
        tokenizer: Tokenizer,
        today: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._config = config
        self._plain = tokenizer
        self._marked_up = Tokenizer.from_str(tokenizer.to_str())
        self._marked_up.encode_special_tokens = False
        self._spelled = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._spelled += [part.written for part in config.parts.values()]
        self._template = None
        if config.chat_template is not None:
            self._template = _environment(today).from_string(config.chat_template)

    def write(self, turns: Sequence[Turn]) -> Written:
        """Language tokens of a conversation, up to where the answer begins.

        Raises:
            ChatError: the template refuses it.
        """
        pieces_of_all = [piece for turn in turns for piece in turn.pieces]
        shown = [piece for piece in pieces_of_all if isinstance(piece, Shown)]
        texts = [piece for piece in pieces_of_all if isinstance(piece, str)]
        apart = any(spelled in text for text in texts for spelled in self._spelled)
        if apart:
            turns = _marked(turns)
        text = self._with_placeholders(self._render(turns), shown)
        bos = self._config.special.get("bos_token")
        adds = self._config.adds_special and not (bos and text.startswith(bos))
        pieces = _MARKED.split(text) if apart else [text]
        ids: list[int] = []
        for number, piece in enumerate(pieces):
            # Every second one is the number of a text that stands there.
            if number % 2:
                ids += self._plain.encode(texts[int(piece)], add_special_tokens=False).ids
            else:
                ids += self._marked_up.encode(piece, add_special_tokens=adds and not number).ids
        return self._spread(ids, shown)

    def _render(self, turns: Sequence[Turn]) -> str:
        if self._template is None:
            return "\n".join(self._plainly(turn) for turn in turns)
        messages = [_message(turn, self._config.parts) for turn in turns]
        try:
            return self._template.render(
                messages=messages, add_generation_prompt=True, **self._config.special
            )
        except jinja2.TemplateError as error:
            raise ChatError(f"the model's chat template refuses this conversation: {error}") from error

    def _plainly(self, turn: Turn) -> str:
        """A turn of a model that has no template: what is shown, and the texts."""
        written = [self._config.parts[each.slot].written for each in turn.pieces if isinstance(each, Shown)]
        said = [each for each in turn.pieces if isinstance(each, str)]
        return "\n".join(["".join(written), *said] if written else said)

    def _with_placeholders(self, text: str, shown: Sequence[Shown]) -> str:
        """The text with one placeholder for each thing shown, and what the processor puts around it."""
        written = list(dict.fromkeys(part.written for part in self._config.parts.values()))
        if not written:
            return text
        left = iter(shown)
        out, count = [], 0
        for piece in re.split(f"({'|'.join(map(re.escape, written))})", text):
            if piece not in written:
                out.append(piece)
                continue
            here = next(left, None)
            count += 1
            if here is not None:
                part = self._config.parts[here.slot]
                out += [part.before, part.placeholder, part.after]
        if count != len(shown):
            raise ChatError(
                f"the model's chat template writes {count} pictures and sounds of {len(shown)}; "
                "it does not take them where they stand"
            )
        return "".join(out)

    def _spread(self, ids: list[int], shown: Sequence[Shown]) -> Written:
        """As many placeholders as there are feature tokens."""
        placeholders = {part.placeholder_id for part in self._config.parts.values()}
        out: list[int] = []
        places: list[int] = []
        left = iter(shown)
        for token_id in ids:
            if token_id not in placeholders:
                out.append(token_id)
                continue
            here = next(left)
            places.append(len(out))
            out += [token_id] * here.tokens
        return Written(out, places)


def _marked(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with a mark in place of each text, numbered in their order."""
    numbers = itertools.count()
    return [
        Turn(
            turn.role,
            tuple(_MARK.format(next(numbers)) if isinstance(each, str) else each for each in turn.pieces),
        )
        for turn in turns
    ]


def _message(turn: Turn, parts: Mapping[str, MediaPart]) -> dict[str, Any]:
    """One message as chat templates take it: a text, or a list where a model can be shown something."""
    if not parts:
        return {"role": turn.role, "content": "\n".join(str(piece) for piece in turn.pieces)}
    content: list[dict[str, str]] = [
        {"type": "text", "text": piece} if isinstance(piece, str) else {"type": parts[piece.slot].content}
        for piece in turn.pieces
    ]
    return {"role": turn.role, "content": content}


def _environment(today: Callable[[], datetime.datetime]) -> ImmutableSandboxedEnvironment:
    """What templates of checkpoints may use, as transformers gives it to them."""

    def refuse(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, ensure_ascii: bool = False, **how: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **how)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: today().strftime(form)
    return environment
