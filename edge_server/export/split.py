"""A local Hugging Face folder, made into a TokenLink model folder: the device's half and the server's.

FOLDER ─▶ front end, tower, connector ─▶ MODEL/bundle/      (ONNX, checked against torch)
    └───▶ language model, chat template ─▶ MODEL/language/, MODEL/model.json
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoTokenizer, PreTrainedModel

from device_agent.bundle.bundle import Bundle, write_manifest
from edge_server.errors import ExportError, ModelError
from edge_server.export.split_graphs import MediaGraph, export_media, scale_range
from edge_server.model.foundation_classes import foundation_class
from edge_server.model.published.encoders import model_type_of, read_checkpoint
from edge_server.model.split.description import FILE, MediaPart, RunnerName, SplitConfig, write_split
from edge_server.model.split.family import Checkpoint, Family, MediaHalf, family_of
from edge_server.model.split.reduction import REDUCERS, default_lengths
from edge_server.model.split.scale import SCALE_REALS

#: Longest prompt with its answer where neither the checkpoint nor the user says less.
MAX_POSITIONS = 4096
_MAX_SIDE = 4096
_CONTENT = {"visual": "image", "audio": "audio"}
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class SplitOptions:
    """What is chosen of a split.

    Attributes:
        name: of the model, as clients see it; None: the folder's.
        reduce: how feature tokens become fewer.
        token_lengths: that a device may choose from; None: all tokens and powers of two below.
        token_length: that is suggested; None: all tokens.
        dtype: of the language model's weights; None: the checkpoint's own.
        max_positions: longest prompt with its answer; None: as the checkpoint allows, 4096 at most.
        picture: rows and columns of a picture [px]; None: as the family does.
    """

    name: str | None = None
    reduce: str = "window"
    token_lengths: tuple[int, ...] | None = None
    token_length: int | None = None
    dtype: str | None = None
    max_positions: int | None = None
    picture: tuple[int, int] | None = None


@dataclass(frozen=True)
class Split:
    """A model that was split.

    Attributes:
        config: what it is.
        bundle: the device's half.
        parity: of each graph, the largest difference from torch, relative.
    """

    config: SplitConfig
    bundle: Bundle
    parity: Mapping[str, float]


@dataclass(frozen=True)
class Prepared:
    """A model taken apart, nothing written yet.

    Attributes:
        checkpoint: that it was.
        halves: what looks at pictures, or listens, by slot.
        graphs: those with what is between them and the channel.
        language: the language model alone.
        config: what the split model is.
    """

    checkpoint: Checkpoint
    halves: Mapping[str, MediaHalf]
    graphs: Mapping[str, MediaGraph]
    language: PreTrainedModel
    config: SplitConfig


def split_model(folder: Path, out: Path, options: SplitOptions | None = None) -> Split:
    """Take a model apart and write it; see :func:`prepare_split` and :func:`write_model`."""
    return write_model(prepare_split(folder, options), out)


def write_model(prepared: Prepared, out: Path) -> Split:
    """Write a model folder; what ``out`` holds is replaced once everything has passed.

    Raises:
        ExportError: a graph differs from torch, or ``out`` holds something else.
    """
    if out.exists() and any(out.iterdir()) and not (out / FILE).exists():
        raise ExportError(f"{out} holds something that is no model; name another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        fresh = Path(scratch, "new")
        fresh.mkdir()
        bundle, parity = _write_bundle(prepared, fresh / "bundle")
        prepared.language.save_pretrained(fresh / "language")
        _backend(prepared.checkpoint).save(str(fresh / "tokenizer.json"))
        write_split(prepared.config, fresh)
        if out.exists():
            shutil.move(out, Path(scratch, "old"))
        os.rename(fresh, out)
    return Split(prepared.config, Bundle(out / "bundle", bundle.manifest), parity)


def prepare_split(folder: Path, options: SplitOptions | None = None) -> Prepared:
    """Take a model apart.

    Raises:
        ModelError: the folder holds no checkpoint of a family that can be split.
        ExportError: something that was chosen does not fit the model.
    """
    options = options or SplitOptions()
    if options.reduce not in REDUCERS:
        raise ExportError(f"reduce: {options.reduce!r}; there are: {', '.join(REDUCERS)}")
    checkpoint, family = read_checkpoint_of_family(folder, options)
    halves = {slot: read(checkpoint) for slot, read in family.media.items()}
    language = family.language(checkpoint.model)
    config = _describe(checkpoint, family, halves, language, options)
    graphs = {
        slot: MediaGraph(half, REDUCERS[options.reduce], config.token_lengths, config.parts[slot].log_rms)
        for slot, half in halves.items()
    }
    return Prepared(checkpoint, halves, graphs, language, config)


def read_checkpoint_of_family(folder: Path, options: SplitOptions) -> tuple[Checkpoint, Family]:
    """Read a checkpoint with its tokenizer and the settings of its preprocessing.

    Raises:
        ModelError: there is none, or none of a family that can be split.
    """
    family = family_of(model_type_of(folder))
    dtype = "auto" if options.dtype is None else getattr(torch, options.dtype)
    model = read_checkpoint(folder, family.model_type, _network(folder, family), dtype=dtype).eval()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise ModelError(f"{folder}: its tokenizer has no tokenizer.json, which devices need")
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be read: {error}") from error
    return Checkpoint(folder, model, tokenizer, _processor(folder), options.picture), family


def runner_of(language: PreTrainedModel, max_positions: int) -> RunnerName:
    """What computes a language model when it is served."""
    try:
        foundation_class(language.config.model_type).weights(language, max_positions)
    except ModelError:
        return "class"
    return "decoder"


def _network(folder: Path, family: Family) -> type[PreTrainedModel]:
    if family.network is not None:
        return getattr(transformers, family.network)  # type: ignore[no-any-return]
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]  # type: ignore[no-any-return]


def _processor(folder: Path) -> dict[str, dict[str, Any]]:
    """Settings of preprocessing, as newer checkpoints nest them and older ones do not."""
    found: dict[str, dict[str, Any]] = {}
    for name in _PROCESSOR_FILES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{path}: cannot be read: {error}") from error
        nested = {key: value for key, value in raw.items() if isinstance(value, dict)}
        for key in ("image_processor", "feature_extractor"):
            # One file of an older checkpoint says it of whichever there is.
            of_part = nested.get(key, raw if name == "preprocessor_config.json" else {})
            found[key] = {**of_part, **found.get(key, {})}
        if name == "processor_config.json":
            found["processor"] = raw
    return found


def _describe(
    checkpoint: Checkpoint,
    family: Family,
    halves: Mapping[str, MediaHalf],
    language: PreTrainedModel,
    options: SplitOptions,
) -> SplitConfig:
    text = language.config
    most = min(
        options.max_positions or MAX_POSITIONS, getattr(text, "max_position_embeddings", MAX_POSITIONS)
    )
    size = int(language.get_input_embeddings().weight.shape[1])
    tokens = {slot: half.grid[0] * half.grid[1] for slot, half in halves.items()}
    lengths = _lengths(max(tokens.values(), default=1), options)
    tokenizer = checkpoint.tokenizer
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default", next(iter(template.values())))
    eos = checkpoint.model.generation_config.eos_token_id
    ids = [eos] if isinstance(eos, int) else list(eos or ())
    if not ids and tokenizer.eos_token_id is not None:
        ids = [tokenizer.eos_token_id]
    if not ids:
        raise ModelError(f"{checkpoint.folder}: nothing says which language token ends an answer")
    bos = getattr(tokenizer, "bos_token", None)
    return SplitConfig(
        name=options.name or checkpoint.folder.resolve().name,
        family=family.model_type,
        runner=runner_of(language, most),
        embedding_size=size,
        channel_dim=size + SCALE_REALS,
        token_lengths=lengths,
        token_length=options.token_length or lengths[-1],
        max_positions=most,
        vocab_size=int(language.get_input_embeddings().weight.shape[0]),
        eos_ids=tuple(int(each) for each in ids),
        parts={
            slot: MediaPart(
                content=_CONTENT[slot],  # type: ignore[arg-type]
                written=half.written,
                before=half.before,
                placeholder=half.placeholder,
                after=half.after,
                placeholder_id=int(tokenizer.convert_tokens_to_ids(half.placeholder)),
                tokens=tokens[slot],
                log_rms=scale_range(slot, half),
                grid=half.grid if half.spans else None,
            )
            for slot, half in halves.items()
        },
        chat_template=template,
        sections=() if family.sections is None else family.sections(checkpoint.model),
        special={name: str(value) for name, value in tokenizer.special_tokens_map.items() if value},
        # As the library does: a processor adds them unless the template wrote BOS, a tokenizer's own
        # template is always taken to have written them.
        adds_special=bool(halves) or (template is None and bos is not None),
    )


def _lengths(tokens: int, options: SplitOptions) -> tuple[int, ...]:
    lengths = options.token_lengths
    if lengths is None:
        return default_lengths(tokens)
    if any(not 1 <= each <= tokens for each in lengths):
        raise ExportError(f"token_lengths: {lengths}; 1 to {tokens} allowed, the model's feature tokens")
    found = tuple(sorted({*lengths, tokens}))
    if options.token_length is not None and options.token_length not in found:
        raise ExportError(f"token_length: {options.token_length}; allowed: {', '.join(map(str, found))}")
    return found


def _write_bundle(prepared: Prepared, folder: Path) -> tuple[Bundle, dict[str, float]]:
    folder.mkdir()
    config = prepared.config
    parity, transmitters = {}, {}
    for slot, half in prepared.halves.items():
        parity[slot] = export_media(slot, prepared.graphs[slot], half, folder / f"{slot}.onnx")
        transmitters[slot] = {"graph": f"{slot}.onnx", **_transmitter(slot, half)}
    _backend(prepared.checkpoint).save(str(folder / "tokenizer.json"))
    bundle = write_manifest(
        folder,
        {
            "format": 1,
            "name": config.name,
            "channel_dim": config.channel_dim,
            "token_lengths": list(config.token_lengths),
            "token_length": config.token_length,
            "transmitters": transmitters,
            "tokenizer": "tokenizer.json",
            "precision": "fp32",
            "training_commit": f"split from {config.family}",
        },
    )
    return bundle, parity


def _transmitter(slot: str, half: MediaHalf) -> dict[str, Any]:
    if slot == "audio":
        return {
            "modalities": ["audio"],
            "sample_rate_hz": half.sample_rate_hz,
            "window_s": half.window_s,
        }
    return {
        "modalities": ["image"],
        "frame_rate_hz": 1.0,
        "window_s": 1.0,
        "max_frames": 1,
        "max_side": _MAX_SIDE,
    }


def _backend(checkpoint: Checkpoint) -> Tokenizer:
    backend: Tokenizer = checkpoint.tokenizer.backend_tokenizer
    return backend
