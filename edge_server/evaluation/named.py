"""A folder of photos or sounds, each named by what it shows: asked about through the channel.

    n01443537_goldfish.jpg    goldfish, and what WordNet calls that synset, where its list was fetched
    dog-bark_1-100032-A.ogg   dog bark, and what else that sound is called

An answer is right if it holds one of the names, as whole words. Where the encoder is a classifier of its own,
what it would have said by itself is counted beside it: no answer can be expected to be better.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from device_agent.channel import Channel, ChannelConfig
from device_agent.media.clip import Clip
from device_agent.media.loading import clip_from_file
from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.errors import DatasetError
from edge_server.evaluation.accuracy import Advance, Said, say_all
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.listener import ListenerEncoder
from edge_server.model.modality import MODALITIES
from edge_server.model.published.lite import LiteEncoder
from edge_server.runtime.model_runner import ServedLink
from edge_server.weights.sound_names import SOUNDS, names_of

PICTURE_FILES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".bmp"))
SOUND_FILES = frozenset((".ogg", ".mp3", ".wav", ".flac", ".m4a", ".opus"))
#: What is asked about each.
QUESTIONS = {"visual": "What is in the picture?", "audio": "What do you hear?"}
_BATCH = 32
_SYNSET = re.compile(r"(n\d{8})_(.+)")
_NUMBER = re.compile(r"[ _]*\d[\d A-Z_-]*$")
_LONGEST = 24


@dataclass(frozen=True)
class Named:
    """A file and what it may be called.

    Attributes:
        path: the file.
        synset: WordNet's identifier; empty: unknown.
        names: any of these in an answer makes it right; the file's own is first.
    """

    path: Path
    synset: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class NamedScore:
    """How many were named rightly.

    Attributes:
        asked: files.
        right: answers that held a name.
        encoder: how many the encoder's own classifier names rightly; None: it has none, or no list of names.
        said: what was answered, by file name.
    """

    asked: int
    right: int
    encoder: int | None
    said: Mapping[str, str]

    def to_json(self) -> dict[str, object]:
        """Shares; and that of the encoder's own, where it is known."""
        told: dict[str, object] = {"questions": self.asked, "accuracy": self.right / self.asked}
        if self.encoder is not None:
            told["encoder_top_1"] = self.encoder / self.asked
            told["of_encoder"] = self.right / max(self.encoder, 1)
        return told


def read_named(folder: Path, slot: str, lemmas: Mapping[str, Sequence[str]]) -> tuple[Named, ...]:
    """The files of a folder that a slot is for.

    Args:
        folder: searched without its own folders.
        slot: ``visual`` or ``audio``.
        lemmas: WordNet's names by synset.

    Raises:
        DatasetError: there is none.
    """
    suffixes = PICTURE_FILES if slot == "visual" else SOUND_FILES
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in suffixes)
    if not paths:
        raise DatasetError(f"{folder}: holds no file of {', '.join(sorted(suffixes))}")
    return tuple(_named(path, lemmas) for path in paths)


def _named(path: Path, lemmas: Mapping[str, Sequence[str]]) -> Named:
    found = _SYNSET.fullmatch(path.stem)
    synset, rest = (found[1], found[2]) if found else ("", _NUMBER.sub("", path.stem))
    own = rest.replace("_", " ").strip()
    if not synset:
        own = own.replace("-", " ")
    names = names_of(own) if path.suffix.lower() in SOUND_FILES else (own,)
    return Named(path, synset, (*names, *lemmas.get(synset, ())))


def read_lemmas(path: Path) -> dict[str, tuple[str, ...]]:
    """WordNet's names by synset, from a list of "n01443537 TAB goldfish, Carassius auratus"; {}: no file."""
    if not path.is_file():
        return {}
    lines = (line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines() if "\t" in line)
    return {synset: tuple(name.strip() for name in names.split(",")) for synset, names in lines}


def read_synsets(path: Path) -> tuple[str, ...]:
    """Synsets of a classifier's classes in its order, one a line; (): no file."""
    return tuple(path.read_text(encoding="utf-8").split()) if path.is_file() else ()


def is_named(answer: str, names: Sequence[str]) -> bool:
    """Whether an answer holds one of the names, as whole words, in any case."""
    return any(re.search(rf"\b{re.escape(name)}\b", answer, re.IGNORECASE) for name in names)


class NamedFolder:
    """Files behind a link's encoder, ready to be sent.

    Args:
        link: the model; its transmitters play the device's part.
        slot: which transmitter.
        files: what to ask about.
        synsets: of the classes of the encoder's own classifier, in its order; empty: not known.
        advance: told of each file that was encoded.

    Raises:
        DatasetError: the model has no such transmitter.
    """

    def __init__(
        self,
        link: Link,
        slot: str,
        files: Sequence[Named],
        synsets: Sequence[str] = (),
        advance: Advance = lambda done: None,
    ) -> None:
        if slot not in link.slots:
            raise DatasetError(f"{link.config.name} has no transmitter of {MODALITIES[slot].word}")
        self.link, self.slot, self.files = link, slot, files
        self.served = ServedLink(link, bundle_hash="")
        self.encoder: int | None = None
        encoder = link.encoder(slot)
        known = encoder if isinstance(encoder, ListenerEncoder) or synsets else None
        rows, right = [], 0
        with torch.inference_mode():
            for file in files:
                taken = encoder.front_end(torch.from_numpy(self._media(file.path)))[None]
                if isinstance(known, LiteEncoder):
                    likely_BK, *others = known.parts(taken[:, 0])
                    rows.append(known.joined(likely_BK, *others)[0])
                    right += synsets[int(likely_BK[0].argmax())] == file.synset
                elif isinstance(known, ListenerEncoder):
                    rows.append(known(taken)[0])
                    right += SOUNDS[int(known.logits(taken)[0].argmax())].name in file.names
                else:
                    rows.append(encoder(taken)[0])
                advance(1)
        self.features = torch.stack(rows)
        if known is not None:
            self.encoder = right

    def ask(
        self,
        channel: ChannelConfig,
        token_length: int,
        seed: int = 0,
        question: str | None = None,
        advance: Advance = lambda done: None,
    ) -> NamedScore:
        """Ask about every file; file i always meets the same channel for a seed."""
        sent = self.sent(token_length)
        questions = [question or QUESTIONS[self.slot]] * len(self.files)
        answers = self.say(sent, questions, channel, seed, advance)
        said = {file.path.name: each.text for file, each in zip(self.files, answers, strict=True)}
        right = sum(is_named(said[file.path.name], file.names) for file in self.files)
        return NamedScore(len(self.files), right, self.encoder, said)

    def sent(self, token_length: int) -> npt.NDArray[np.float32]:
        """What is sent of each file, [N, token_length, C]."""
        with torch.inference_mode():
            return np.asarray(self.link.send(self.slot, self.features, token_length).numpy())

    def say(
        self,
        sent_NTC: npt.NDArray[np.float32],
        questions: Sequence[str],
        channel: ChannelConfig,
        seed: int = 0,
        advance: Advance = lambda done: None,
    ) -> list[Said]:
        """Ask a question about each of what is sent; the i-th always meets the same channel for a seed."""
        on_wire = "image" if self.slot == "visual" else MODALITIES[self.slot].of_clip
        said: list[Said] = []
        for begin in range(0, len(questions), _BATCH):
            prompts = []
            for index in range(begin, min(begin + _BATCH, len(questions))):
                link = Channel(channel, np.random.default_rng([seed, index]))
                reception = link.transmit(sent_NTC[index])
                block = FeatureBlock(on_wire, reception.x_TC, reception.effective_snr_db)
                ids = tuple(tk.encode(self.link.tokenizer, questions[index]))
                prompts.append(Prompt((block,), ids))
            said += say_all(self.served, prompts, _LONGEST)
            advance(len(prompts))
        return said

    def _media(self, path: Path) -> npt.NDArray[np.generic]:
        clip: Clip = clip_from_file(path, kind="image" if self.slot == "visual" else "audio")
        media = clip.frames_THWC if self.slot == "visual" else clip.pcm_S
        assert media is not None  # noqa: S101 - clips of a kind have what that kind is
        return np.ascontiguousarray(media)
