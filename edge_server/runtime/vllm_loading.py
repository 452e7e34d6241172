"""A model folder behind vLLM: our receivers and chat templates lay prompts out, vLLM's interpreter computes.

What is needed of the language model here is its embedding; the rest of it is vLLM's alone.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from edge_server.engine.ports import Step
from edge_server.errors import ModelError
from edge_server.model.link import Link
from edge_server.model.split.bottleneck import read_bottlenecks
from edge_server.model.split.description import is_split, read_split
from edge_server.runtime.model_info import bundle_hash_of
from edge_server.runtime.model_runner import prepare_process
from edge_server.runtime.prompt_layout import PromptLayout
from edge_server.runtime.split_info import SplitInfo
from edge_server.runtime.split_runner import SplitLayout, read_language, told
from edge_server.runtime.vllm_child import VllmSettings
from edge_server.runtime.vllm_runner import VllmRunner


def load_vllm(
    directory: Path,
    threads: int,
    max_rows: int,
    *,
    scratch: Path | None = None,
    compiled: bool = False,
    python: Path | None = None,
) -> VllmRunner:
    """A runner of vLLM for a model folder.

    Args:
        directory: the model folder.
        threads: of vLLM's operators.
        max_rows: questions that are computed at once.
        scratch: where weights may be written for vLLM to read; None: among temporary files.
        compiled: whether its graph is compiled, which takes minutes once.
        python: its interpreter; None: the one that is installed.

    Raises:
        ModelError: the folder cannot be read, vLLM is not installed, or does not compute such a model.
    """
    if is_split(directory):
        return _of_split(directory, threads, max_rows, compiled, python)
    link = Link.load(directory).eval()
    if link.keeps_lora_apart:
        raise ModelError(
            f"runner: {link.config.name} answers with its LoRA where there is media only, and without on the "
            "same weights elsewhere, which vLLM is not told; use own"
        )
    prepare_process(link, threads, "cpu")
    link.merge_lora()
    network = link.foundation
    assert isinstance(network, PreTrainedModel)  # noqa: S101 - its LoRA is merged
    positions = int(link.config.foundation.max_positions)
    # vLLM reads its weights from files once, when it starts; and again should it start again.
    folder = Path(tempfile.mkdtemp(prefix="tokenlink-vllm-", dir=scratch))
    try:
        _write(network, folder)
        settings = _settings(network, folder, positions, threads, max_rows, compiled)
        return VllmRunner(
            PromptLayout(link),
            settings,
            python,
            close=partial(shutil.rmtree, folder, True),
            unsaid=link.special.marks,
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _of_split(
    directory: Path, threads: int, max_rows: int, compiled: bool, python: Path | None
) -> VllmRunner:
    config, tokenizer = read_split(directory)
    if config.sections:
        raise ModelError(
            f"runner: positions of {config.family} run in rows and columns, which vLLM is not told; use own"
        )
    network = read_language(directory)
    prepare_process(network, threads, "cpu")
    info = SplitInfo(config, tokenizer, bundle_hash_of(directory))
    layout = SplitLayout(info, config, network, read_bottlenecks(directory))
    settings = _settings(network, directory / "language", config.max_positions, threads, max_rows, compiled)

    def known(step: Step) -> Step:
        return told(step, config)

    return VllmRunner(layout, settings, python, known)


def _settings(
    network: PreTrainedModel, folder: Path, positions: int, threads: int, max_rows: int, compiled: bool
) -> VllmSettings:
    embedding = network.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)  # noqa: S101 - narrows the type
    dtype = str(embedding.weight.dtype).removeprefix("torch.")
    return VllmSettings(
        folder, embedding.embedding_dim, positions, max_rows, threads, dtype, compiled=compiled
    )


def _write(network: PreTrainedModel, folder: Path) -> None:
    with torch.no_grad():
        network.save_pretrained(folder)
