"""Tokenizers: byte-level BPE, so that any text has token ids and every id has text.

Special tokens mark the slots of a prompt (:mod:`edge_server.model.prompt`). They are added tokens that
the encoder never produces from text: a question that spells ``<answer>`` gets the ids of its characters.
A tokenizer that is trained here has them first; one that came with a foundation gets those that it lacks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL_TOKENS = (
    "<pad>",
    "<bos>",
    "<eos>",
    "<visual>",
    "</visual>",
    "<audio>",
    "</audio>",
    "<text>",
    "<question>",
    "<answer>",
)
PAD_ID, BOS_ID, EOS_ID, VISUAL_ID, VISUAL_END_ID, AUDIO_ID, AUDIO_END_ID, TEXT_ID, QUESTION_ID, ANSWER_ID = (
    range(len(SPECIAL_TOKENS))
)


@dataclass(frozen=True)
class SpecialIds:
    """Language tokens that mark the parts of a prompt; the defaults are those of a tokenizer trained here."""

    pad: int = PAD_ID
    """Fills what is not looked at."""
    bos: int = BOS_ID
    """Begins a prompt."""
    eos: int = EOS_ID
    """Ends an answer."""
    visual: int = VISUAL_ID
    """Opens the slot of what is seen."""
    visual_end: int = VISUAL_END_ID
    """Closes it."""
    audio: int = AUDIO_ID
    """Opens the slot of what is heard."""
    audio_end: int = AUDIO_END_ID
    """Closes it."""
    text: int = TEXT_ID
    """Opens the text that goes with a question."""
    question: int = QUESTION_ID
    """Opens a question."""
    answer: int = ANSWER_ID
    """Opens an answer."""
    begins: tuple[int, ...] = ()
    """Begin a prompt in place of ``bos``: of a foundation that was trained to a chat template."""
    asks: tuple[int, ...] | None = None
    """Open a question in place of ``question``; None for that."""
    answers: tuple[int, ...] = ()
    """Open an answer in place of ``answer``."""

    @property
    def marks(self) -> tuple[int, ...]:
        """What stands around the parts of a prompt, and so is never said."""
        return (
            self.visual,
            self.visual_end,
            self.audio,
            self.audio_end,
            self.text,
            self.question,
            self.answer,
        )

    @property
    def opening(self) -> tuple[int, ...]:
        """What a prompt begins with."""
        return self.begins or (self.bos,)

    @property
    def asking(self) -> tuple[int, ...]:
        """What opens a question."""
        return (self.question,) if self.asks is None else self.asks

    @property
    def answering(self) -> tuple[int, ...]:
        """What opens an answer."""
        return self.answers or (self.answer,)


#: Of tokenizers that are trained here.
OWN_IDS = SpecialIds()


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn merges from text. Words keep their leading space, so common words become one token each."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def extend_tokenizer(tokenizer: Tokenizer, words: Iterable[str]) -> Tokenizer:
    """A tokenizer that has a language token for each further word; ids and texts of the others stay.

    Its merges come after all others, so that what was one token still is. Blanks of any kind count as one,
    and quotes and marks of emphasis as none.

    Args:
        tokenizer: byte-level BPE that was trained here; it stays as it is.
        words: lower case, in the order of their ids; those that are one token already are left out.
    """
    described = json.loads(tokenizer.to_str())
    for pattern, content in _CLEANED:
        described["normalizer"]["normalizers"].append(
            {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}
        )
    described["normalizer"]["normalizers"].append({"type": "Strip", "strip_left": True, "strip_right": True})
    vocabulary: dict[str, int] = described["model"]["vocab"]
    merges: list[list[str]] = described["model"]["merges"]
    for word in words:
        pieces = _from_json(described).encode(word, add_special_tokens=False).tokens
        while len(pieces) > 1:
            merges.append(pieces[:2])
            pieces[:2] = ["".join(pieces[:2])]
            vocabulary.setdefault(pieces[0], len(vocabulary))
    return _from_json(described)


def _from_json(described: object) -> Tokenizer:
    tokenizer = Tokenizer.from_str(json.dumps(described))
    tokenizer.encode_special_tokens = True
    return tokenizer


def add_special_tokens(tokenizer: Tokenizer, known: Mapping[str, str]) -> SpecialIds:
    """Give a tokenizer the special tokens that it lacks; text that spells one is text from then on.

    Args:
        tokenizer: changed in place.
        known: which of its own tokens serve as which (``{"eos": "<|endoftext|>"}``); it gets the others.
    """
    names = {field: known.get(field, token) for field, token in zip(_FIELDS, SPECIAL_TOKENS, strict=True)}
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names.values()])
    tokenizer.encode_special_tokens = True
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    ids: dict[str, Any] = {field: vocabulary[name] for field, name in names.items()}
    return SpecialIds(**ids)


def special_ids_of(tokenizer: Tokenizer) -> frozenset[int]:
    """Every id that no text has."""
    return frozenset(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)


def load_tokenizer(path: Path) -> Tokenizer:
    """Read ``tokenizer.json``; text that spells a special token is encoded as text.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no tokenizer.
    """
    text = path.read_text(encoding="utf-8")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises no narrower one
        raise ValueError(f"{path}: {error}") from error
    tokenizer.encode_special_tokens = True
    return tokenizer


def save_compact(tokenizer: Tokenizer, path: Path) -> None:
    """Write a tokenizer in as few bytes as the format allows: a device fetches it with every bundle."""
    described = json.loads(tokenizer.to_str())
    merges = described["model"].get("merges", ())
    # "a b", as it was written before tokens could hold blanks, is a third of the pair's length.
    if merges and not any(" " in part for pair in merges for part in pair if not isinstance(pair, str)):
        described["model"]["merges"] = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
    path.write_text(json.dumps(described, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Language token ids of a text; never an id of a special token."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def decode(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of language token ids, special tokens left out."""
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
    return text.strip()


def token_bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    """The bytes that one language token adds to a text, which need not be whole characters.

    Of a special token they are its name, of an id that no token has none.
    """
    spelled: str | None = tokenizer.id_to_token(token_id)
    if spelled is None:
        return b""
    if token_id in tokenizer.get_added_tokens_decoder():
        return spelled.encode()
    if isinstance(tokenizer.decoder, decoders.ByteLevel):
        return bytes(_BYTE_OF[character] for character in spelled)
    # As SentencePiece has them: blanks as lower blocks, bytes by name.
    byte = _BYTE_TOKEN.fullmatch(spelled)
    return bytes([int(byte[1], 16)]) if byte else spelled.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()


def _byte_level() -> dict[str, int]:
    """Bytes by the characters that byte-level tokenizers spell them with (Radford et al., GPT-2, 2019).

    Printable ones of Latin-1 stand for themselves, the others for characters from 256 on.
    """
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


_BYTE_OF = _byte_level()
_BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")
_FIELDS = tuple(SpecialIds.__dataclass_fields__)[: len(SPECIAL_TOKENS)]
#: What says nothing: quotes and marks of emphasis, which are left out, and more than one blank.
_CLEANED = (('[“”„«»*_`"]+', " "), ("[‘’]", "'"), (r"\s+", " "))
