"""Computes the language model of a split model: with the decoder where it can, with its own class elsewhere.

    prompts ─chat─▶ ids, placeholders included ─▶ embeddings, feature tokens in place of placeholders ─▶ steps

The decoder batches the questions of many users into one pass. A class that it does not compute is asked one
question after another, each with a cache of its own: slower by as much as a batch is large, and right for
whatever cache the class has (convolutions, sliding windows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, DynamicCache, PreTrainedModel

from edge_server.engine.ports import Prompt, Step
from edge_server.errors import ModelError
from edge_server.model.split.description import SplitConfig, read_split
from edge_server.model.split.reduction import shape_of
from edge_server.model.split.scale import take_scale
from edge_server.runtime.cuda_graphs import likeliest
from edge_server.runtime.model_info import bundle_hash_of
from edge_server.runtime.model_runner import CausalRunner, Running, prepare_process
from edge_server.runtime.packing import Integers
from edge_server.runtime.prompt_layout import LaidOut
from edge_server.runtime.sampling import Sampler, draw
from edge_server.runtime.split_info import SplitInfo
from edge_server.runtime.transfer import on_device
from protos.names import SLOT_OF


class SplitLayout:
    """Embeds prompts for a split model.

    Args:
        info: writes its language tokens.
        config: of the model.
        network: whose embedding it is.
    """

    def __init__(self, info: SplitInfo, config: SplitConfig, network: PreTrainedModel) -> None:
        self._info, self._config = info, config
        self._embedding = network.get_input_embeddings()

    def embed(self, prompts: Sequence[Prompt]) -> LaidOut:
        """Prompts as embeddings, the longest first."""
        rows = [self.row(prompt) for prompt in prompts]
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        positions = None
        if self._config.sections:
            positions = np.concatenate([self._positions(prompts[i], len(rows[i])) for i in order], axis=1)
        return LaidOut(torch.cat([rows[i] for i in order]), [len(rows[i]) for i in order], order, positions)

    def row(self, prompt: Prompt) -> Tensor:
        """One prompt, [L, E]."""
        written = self._info.written(prompt)
        weight = self._embedding.weight
        x_LE = torch.as_tensor(self._embedding(on_device(np.asarray(written.ids, np.int64), weight.device)))
        for block, begin in zip(prompt.blocks, written.places, strict=True):
            part = self._config.parts[SLOT_OF[block.modality]]
            x_TE = take_scale(on_device(block.x_TC, weight.device), part.log_rms)
            x_LE[begin : begin + len(x_TE)] = x_TE.to(x_LE.dtype)
        return x_LE

    def _positions(self, prompt: Prompt, length: int) -> Integers:
        """Of each token of a prompt: in time, row and column, [3, L].

        A picture spans as many positions as the longer side of its grid; fewer tokens are spread over it.
        """
        pieces, begun, position = [], 0, 0
        for block, place in zip(prompt.blocks, self._info.written(prompt).places, strict=True):
            grid = self._config.parts[SLOT_OF[block.modality]].grid
            if grid is None:
                continue
            text = np.arange(place - begun) + position
            position += place - begun
            rows, columns = shape_of(len(block.x_TC), grid)
            down = (np.arange(rows) * grid[0] // rows).repeat(columns)
            across = np.tile(np.arange(columns) * grid[1] // columns, rows)
            pieces += [np.stack([text] * 3), np.stack([0 * down, down, across]) + position]
            position += max(grid)
            begun = place + len(block.x_TC)
        pieces.append(np.stack([np.arange(length - begun) + position] * 3))
        return np.concatenate(pieces, axis=1)


class ServedSplit(CausalRunner, SplitInfo):
    """Implements the engine's ports with :mod:`edge_server.runtime.decoder`.

    Args:
        config: of the model.
        tokenizer: its own.
        network: its language model.
        bundle_hash: of the device bundle whose tokens it understands.
        bfloat16: as for :class:`~edge_server.runtime.model_runner.CausalRunner`.

    Raises:
        ModelError: the language model asks for something that the decoder does not compute.
    """

    def __init__(
        self,
        config: SplitConfig,
        tokenizer: Tokenizer,
        network: PreTrainedModel,
        bundle_hash: str,
        *,
        bfloat16: bool = False,
    ) -> None:
        SplitInfo.__init__(self, config, tokenizer, bundle_hash)
        layout = SplitLayout(self, config, network)
        CausalRunner.__init__(
            self, network, lambda: layout, self.max_positions, bfloat16=bfloat16, sections=config.sections
        )

    def prefill(self, prompts: Sequence[Prompt], state: Running | None = None) -> tuple[Running, list[Step]]:
        """Start answering prompts; see the port."""
        running, steps = super().prefill(prompts, state)
        return running, [_told(step, self._config) for step in steps]

    def decode(self, state: Running) -> tuple[Running, list[Step]]:
        """One more step for every row; see the port."""
        running, steps = super().decode(state)
        return running, [_told(step, self._config) for step in steps]


@dataclass(frozen=True)
class Row:
    """One question that is being answered by the model's own class.

    Attributes:
        cache: whatever the class keeps of it.
        length: positions so far.
        newest: language token that was said last.
        sampler: where it asks for more than the likeliest tokens.
    """

    cache: Any
    length: int
    newest: int
    sampler: Sampler | None


class ServedClass(SplitInfo):
    """Implements the engine's ports with the language model's own class, a question after another.

    Args:
        config: of the model.
        tokenizer: its own.
        network: its language model.
        bundle_hash: of the device bundle whose tokens it understands.
    """

    def __init__(
        self, config: SplitConfig, tokenizer: Tokenizer, network: PreTrainedModel, bundle_hash: str
    ) -> None:
        super().__init__(config, tokenizer, bundle_hash)
        self._network = network.eval()
        self._layout = SplitLayout(self, config, network)

    def prefill(
        self, prompts: Sequence[Prompt], state: list[Row] | None = None
    ) -> tuple[list[Row], list[Step]]:
        """Start answering prompts; see the port."""
        with torch.inference_mode():
            begun = [self._begin(prompt) for prompt in prompts]
        return [*(state or ()), *(row for row, _ in begun)], [step for _, step in begun]

    def decode(self, state: list[Row]) -> tuple[list[Row], list[Step]]:
        """One more step for every row; see the port."""
        with torch.inference_mode():
            gone_on = [self._go_on(row) for row in state]
        return [row for row, _ in gone_on], [step for _, step in gone_on]

    def merge(self, first: list[Row], second: list[Row]) -> list[Row]:
        """Rows of both."""
        return [*first, *second]

    def keep(self, state: list[Row], rows: Sequence[int]) -> list[Row]:
        """Only these rows."""
        return [state[row] for row in rows]

    def _begin(self, prompt: Prompt) -> tuple[Row, Step]:
        x_LE = self._layout.row(prompt)
        cache = DynamicCache(config=self._network.config)
        return self._say(Row(cache, 0, 0, Sampler.of(prompt)), len(x_LE), inputs_embeds=x_LE[None])

    def _go_on(self, row: Row) -> tuple[Row, Step]:
        newest = torch.tensor([[row.newest]], device=self._network.device)
        return self._say(row, 1, input_ids=newest)

    def _say(self, row: Row, count: int, **inputs: Tensor) -> tuple[Row, Step]:
        length = row.length + count
        positions = torch.arange(row.length, length, device=self._network.device)[None]
        out = self._network(
            **inputs, past_key_values=row.cache, position_ids=positions, use_cache=True, logits_to_keep=1
        )
        logits_1V = out.logits[:, -1]
        if row.sampler is None:
            (token,), (probability,) = likeliest(logits_1V).tolist()
            step = Step(int(token), probability)
        else:
            (step,) = draw(logits_1V, [row.sampler])
        sampler = None if row.sampler is None else row.sampler.after(step.token_id)
        return Row(out.past_key_values, length, step.token_id, sampler), _told(step, self._config)


def load_split(
    directory: Path, threads: int, device: str = "cpu", *, bfloat16: bool = True
) -> ServedSplit | ServedClass:
    """Load a split model for serving; arguments and errors as :func:`edge_server.runtime.folders.load`."""
    config, tokenizer = read_split(directory)
    network = _language(directory)
    prepare_process(network, threads, device)
    return serve_split(config, tokenizer, network, bundle_hash_of(directory), bfloat16=bfloat16)


def serve_split(
    config: SplitConfig,
    tokenizer: Tokenizer,
    network: PreTrainedModel,
    bundle_hash: str,
    *,
    bfloat16: bool = False,
) -> ServedSplit | ServedClass:
    """What answers with a language model, as its description says."""
    if config.runner == "class":
        return ServedClass(config, tokenizer, network, bundle_hash)
    return ServedSplit(config, tokenizer, network, bundle_hash, bfloat16=bfloat16)


def _language(directory: Path) -> PreTrainedModel:
    folder = directory / "language"
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        network: PreTrainedModel = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            folder, local_files_only=True, dtype="auto"
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{folder}: the language model cannot be read: {error}") from error
    return network.eval()


def _told(step: Step, config: SplitConfig) -> Step:
    """Any token that ends an answer, as the one that the engine knows."""
    return replace(step, token_id=config.eos_ids[0]) if step.token_id in config.eos_ids else step
