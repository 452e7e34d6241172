"""What sending less costs a model that was split: its answers beside those to everything, on own media.

    pictures or sounds ─▶ all feature tokens ─▶ answer ◀── the same? ──▶ answer ◀─ fewer tokens, fewer bits

Nothing is trained, and nothing needs to be labelled: right is what the model says when nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from device_agent.bundle.bundle import Bundle
from device_agent.errors import DeviceAgentError
from device_agent.media.clip import Clip
from device_agent.media.loading import clip_from_file
from edge_server.engine.ports import FeatureBlock, ModelRunner, Prompt
from edge_server.errors import DatasetError
from edge_server.export.split import Prepared
from edge_server.export.split_graphs import features
from edge_server.model.split.compression import Blocks, Pca, ResidualVq, normalised
from edge_server.model.split.reduction import REDUCERS
from edge_server.model.split.scale import SCALE_REALS, add_scale
from edge_server.runtime.split_runner import serve_split
from protos import payload
from protos.names import DTYPES, PayloadName

FILE = "calibration.json"
QUESTIONS_FILE = "questions.txt"
#: What is asked where the folder says nothing.
_QUESTIONS = {
    "visual": ("What is shown?", "What colour is it?", "How many are there?"),
    "audio": ("What is heard?", "Is somebody speaking?", "Is it loud or quiet?"),
}
_MAX_NEW_TOKENS = 24
_STAGES, _CODES = (2, 4, 8), 256
_RANKS = (2, 4, 8, 16)
"""Parts of a token's width that PCA leaves."""

Sent: TypeAlias = Callable[[int], npt.NDArray[np.float32]]
"""The number of a picture or sound, to what arrives of it."""
_SNR_DB = 40.0


@dataclass(frozen=True)
class Cost:
    """What one way of sending less costs.

    Attributes:
        reduce: method.
        token_length: tokens that are sent.
        payload: what values are rounded to.
        same_answers: share of answers that stay, to the letter.
        same_tokens: share of an answer's language tokens before the first that differs, on average.
        kilobytes: of one picture or sound, without a frame around it.
    """

    reduce: str
    token_length: int
    payload: str
    same_answers: float
    same_tokens: float
    kilobytes: float


def calibrate(prepared: Prepared, bundle: Bundle, folder: Path) -> list[Cost]:
    """Ask about every file of a folder, with everything and with less.

    Args:
        prepared: the model.
        bundle: says how media is decoded.
        folder: pictures or sounds; questions.txt in it has a question a line.

    Raises:
        DatasetError: it holds nothing that the model can be shown.
    """
    (slot,) = prepared.graphs or ("",)
    if not slot:
        raise DatasetError("calibrate: a model of text alone is shown nothing")
    half, config = prepared.halves[slot], prepared.config
    shown = [features(half, media) for media in _media(bundle, folder, slot)]
    if not shown:
        raise DatasetError(f"calibrate: {folder} holds no picture or sound that this model takes")
    tokenizer = prepared.checkpoint.tokenizer.backend_tokenizer
    model: Any = serve_split(config, tokenizer, prepared.language, bundle.hash)
    ids = [tokenizer.encode(each, add_special_tokens=False).ids for each in _questions(folder, slot)]
    modality = "image" if slot == "visual" else "audio"

    def answers(sent: Sent) -> list[list[int]]:
        blocks = [FeatureBlock(modality, sent(number), _SNR_DB) for number in range(len(shown))]
        return [_answer(model, Prompt((block,), tuple(each))) for block in blocks for each in ids]

    log_rms = config.parts[slot].log_rms
    whole = answers(lambda number: add_scale(shown[number], log_rms).numpy())
    costs = []

    def judge(name: str, length: int, kind: str, bits: float, sent: Sent) -> None:
        found = answers(sent)
        costs.append(
            Cost(
                reduce=name,
                token_length=length,
                payload=kind,
                same_answers=float(np.mean([a == b for a, b in zip(found, whole, strict=True)])),
                same_tokens=float(np.mean([_agreement(a, b) for a, b in zip(found, whole, strict=True)])),
                kilobytes=length * bits / 8000,
            )
        )

    for name, length, kind in _ways(config.token_lengths):

        def sent(
            number: int, name: str = name, length: int = length, kind: PayloadName = kind
        ) -> npt.NDArray[np.float32]:
            fewer = shown[number] if name == "none" else REDUCERS[name](shown[number], half.grid, length)
            return _rounded(add_scale(fewer, log_rms).numpy(), modality, kind)

        judge(name, length, kind, config.channel_dim * payload.CODECS[DTYPES[kind]].value_bits, sent)
    for way in fitted_ways(shown):

        def arrives(number: int, way: Way = way) -> npt.NDArray[np.float32]:
            return add_scale(way.of_each[number](shown[number]), log_rms).numpy()

        judge(way.name, config.token_lengths[-1], way.payload, way.bits + 32 * SCALE_REALS, arrives)
    return costs


@dataclass(frozen=True)
class Way:
    """A way to send all tokens in fewer reals or bits.

    Attributes:
        name: of what leaves reals out; ``"none"``: nothing does.
        payload: what values are rounded to.
        bits: of a token.
        of_each: of each picture or sound, its feature tokens to what arrives of them.
    """

    name: str
    payload: str
    bits: float
    of_each: Sequence[Callable[[Tensor], Tensor]]


def fitted_ways(shown: Sequence[Tensor]) -> Iterator[Way]:
    """PCA, residual VQ and values with a scale for each block of them.

    What is fitted is fitted on every second picture or sound, and judged on the others: no token tells how it
    is itself to be sent. Of a single one, only what needs no fit is told.

    Args:
        shown: feature tokens of each.
    """
    width = shown[0].shape[1]
    for bits in (8, 4):
        blocks = Blocks(bits)
        yield Way("none", f"int{bits} in blocks", blocks.bits(width), [blocks] * len(shown))
    if len(shown) < 2:
        return
    halves = [torch.cat([normalised(x_TE)[0] for x_TE in shown[1 - side :: 2]]) for side in (0, 1)]

    def by_halves(fit: Callable[[Tensor], Pca | ResidualVq]) -> list[Pca | ResidualVq]:
        of_side = [fit(half_NE) for half_NE in halves]
        return [of_side[number % 2] for number in range(len(shown))]

    for part in _RANKS:
        rank = max(1, width // part)
        pcas = by_halves(lambda half_NE, rank=rank: Pca.fit(half_NE, rank))  # type: ignore[misc]
        yield Way(f"pca {rank}", "float32", max(each.bits() for each in pcas), pcas)
    for stages in _STAGES:
        coded = by_halves(lambda half_NE, stages=stages: ResidualVq.fit(half_NE, stages, _CODES))  # type: ignore[misc]
        yield Way("none", f"rvq {stages} x {_CODES}", max(each.bits() for each in coded), coded)


def as_json(costs: Sequence[Cost]) -> list[dict[str, Any]]:
    """What is kept of a calibration."""
    return [asdict(cost) for cost in costs]


def _ways(lengths: Sequence[int]) -> Iterator[tuple[str, int, PayloadName]]:
    for kind in ("float16", "int8", "int4"):
        yield "none", lengths[-1], kind
    for length in reversed(lengths[:-1]):
        for name in REDUCERS:
            yield name, length, "float32"


def _rounded(x_TC: npt.NDArray[np.float32], modality: str, kind: PayloadName) -> npt.NDArray[np.float32]:
    packed = payload.encode(x_TC, modality, kind)
    return payload.decode(packed, max_token_length=len(x_TC), channel_dim=x_TC.shape[1])


def _questions(folder: Path, slot: str) -> Sequence[str]:
    path = folder / QUESTIONS_FILE
    if not path.is_file():
        return _QUESTIONS[slot]
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line]


def _media(bundle: Bundle, folder: Path, slot: str) -> Iterator[Tensor]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".txt")
    except OSError as error:
        raise DatasetError(f"calibrate: {folder} cannot be read: {error.strerror or error}") from error
    for path in paths:
        try:
            clip: Clip = clip_from_file(path, spec=bundle.media_spec())
        except DeviceAgentError as error:
            raise DatasetError(f"calibrate: {path}: {error}") from error
        found = clip.frames_THWC[:1] if slot == "visual" and clip.frames_THWC is not None else clip.pcm_S
        if found is not None and (slot == "audio") == (found.ndim == 1):
            yield torch.from_numpy(np.array(found))


def _answer(model: ModelRunner[Any], prompt: Prompt) -> list[int]:
    state, steps = model.prefill([prompt])
    said: list[int] = []
    eos_id: int = model.eos_id  # type: ignore[attr-defined]
    while steps[0].token_id != eos_id and len(said) < _MAX_NEW_TOKENS:
        said.append(steps[0].token_id)
        state, steps = model.decode(state)
    model.keep(state, [])
    return said


def _agreement(found: Sequence[int], whole: Sequence[int]) -> float:
    same = 0
    for one, other in zip(found, whole, strict=False):
        if one != other:
            break
        same += 1
    return same / max(len(whole), len(found), 1)
