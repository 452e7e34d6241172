"""Computes the language model of a split model: with the decoder where it can, with its own class elsewhere.

    prompts ─chat─▶ ids, placeholders included ─▶ embeddings, feature tokens in place of placeholders ─▶ steps

The decoder batches the questions of many users into one pass. A class that it does not compute is asked one
question after another, each with a cache of its own: slower by as much as a batch is large, and right for
whatever cache the class has (convolutions, sliding windows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, DynamicCache, PreTrainedModel

from edge_server.engine.ports import Prompt, Step
from edge_server.errors import ModelError
from edge_server.model.foundation_classes import weights_of
from edge_server.model.split.bottleneck import Bottleneck, read_bottlenecks
from edge_server.model.split.description import SplitConfig, read_split
from edge_server.model.split.reduction import shape_of
from edge_server.model.split.scale import take_scale
from edge_server.runtime.computing import EXACT, Computing, Precision
from edge_server.runtime.cuda_graphs import likeliest
from edge_server.runtime.model_info import bundle_hash_of
from edge_server.runtime.model_runner import CausalRunner, Running, in_a_fast_type, prepare_process
from edge_server.runtime.packing import Integers
from edge_server.runtime.prefixes import Followed, Kept, Prefixes, signature_of_block, stacked
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
        bottlenecks: of the slots that have one.
    """

    def __init__(
        self,
        info: SplitInfo,
        config: SplitConfig,
        network: PreTrainedModel,
        bottlenecks: Mapping[str, Bottleneck] = MappingProxyType({}),
    ) -> None:
        self._info, self._config = info, config
        self._embedding = network.get_input_embeddings()
        device = self._embedding.weight.device
        self._bottlenecks = {slot: each.to(device) for slot, each in bottlenecks.items()}

    def embed(self, prompts: Sequence[Prompt]) -> LaidOut:
        """Prompts as embeddings, the longest first."""
        rows = [self.row(prompt) for prompt in prompts]
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        positions = None
        if self._config.sections:
            of_each = (self.positions(prompts[i], len(rows[i])) for i in order)
            positions = np.concatenate([each for each in of_each if each is not None], axis=1)
        return LaidOut(torch.cat([rows[i] for i in order]), [len(rows[i]) for i in order], order, positions)

    def row(self, prompt: Prompt) -> Tensor:
        """One prompt, [L, E]."""
        written = self._info.written(prompt)
        weight = self._embedding.weight
        x_LE = torch.as_tensor(self._embedding(on_device(np.asarray(written.ids, np.int64), weight.device)))
        for block, begin in zip(prompt.blocks, written.places, strict=True):
            slot = SLOT_OF[block.modality]
            x_TE = take_scale(on_device(block.x_TC, weight.device), self._config.parts[slot].log_rms)
            if slot in self._bottlenecks:
                told_1T = on_device(block.told_db(), weight.device)[None]
                x_TE = self._bottlenecks[slot].receive(x_TE[None], told_1T)[0]
            x_LE[begin : begin + len(x_TE)] = x_TE.to(x_LE.dtype)
        return x_LE

    def positions(self, prompt: Prompt, length: int) -> Integers | None:
        """Of each token of a prompt: in time, row and column, [3, L]; None: one after another.

        A picture spans as many positions as the longer side of its grid; fewer tokens are spread over it.
        """
        if not self._config.sections:
            return None
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
        precision: as for :class:`~edge_server.runtime.model_runner.CausalRunner`.
        prefix_bytes: of keys and values that are kept of conversations for their next turn.
        bottlenecks: of the slots that have one.

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
        precision: Precision = EXACT,
        prefix_bytes: int = 0,
        bottlenecks: Mapping[str, Bottleneck] = MappingProxyType({}),
    ) -> None:
        SplitInfo.__init__(self, config, tokenizer, bundle_hash)
        in_a_fast_type(network, network.get_input_embeddings().weight)
        self._split_layout = layout = SplitLayout(self, config, network, bottlenecks)
        CausalRunner.__init__(
            self,
            weights_of(network, self.max_positions),
            network.get_input_embeddings().weight,
            layout,
            self.max_positions,
            precision=precision,
            sections=config.sections,
        )
        self.prefixes = Prefixes(prefix_bytes)

    def prefill(self, prompts: Sequence[Prompt], state: Running | None = None) -> tuple[Running, list[Step]]:
        """Start answering prompts, from where their conversations have been read to; see the port."""
        followed = [self._follow(prompt) for prompt in prompts]
        found = [self._begun(each) for each in followed]
        fresh = [row for row, begun in enumerate(found) if begun is None]
        known = 0 if state is None else len(state.cache_rows)
        running, said = state, dict[int, Step]()
        try:
            if fresh:
                running, steps = super().prefill([prompts[row] for row in fresh], running)
                said.update(zip(fresh, steps, strict=True))
            for row, begun in enumerate(found):
                if begun is not None:
                    running, said[row] = self._resumed(prompts[row], *begun, running)
        except BaseException:
            if running is not None:
                running.cache.free(running.cache_rows[known:])
            raise
        assert running is not None  # noqa: S101 - at least one prompt was given
        # In the order of the prompts: those that go on have come behind the others.
        came = [*fresh, *(row for row, begun in enumerate(found) if begun is not None)]
        order = [*range(known), *(known + came.index(row) for row in range(len(prompts)))]
        joined = Running(
            running.cache,
            tuple(running.cache_rows[place] for place in order),
            tuple(running.samplers[place] for place in order),
            (*running.followed[:known], *followed),
        )
        steps = [said[row] for row in range(len(prompts))]
        _hear(followed, steps)
        return joined, [told(step, self._config) for step in steps]

    def decode(self, state: Running) -> tuple[Running, list[Step]]:
        """One more step for every row; see the port."""
        running, steps = super().decode(state)
        _hear(running.followed, steps)
        return running, [told(step, self._config) for step in steps]

    def keep(self, state: Running, rows: Sequence[int]) -> Running:
        """Only these rows; what the others have read stays for their conversations. See the port."""
        cache = state.cache
        for row in sorted(set(range(len(state.cache_rows))).difference(rows)):
            followed, cache_row = state.followed[row], state.cache_rows[row]
            if followed is None or not cache.is_fit(cache_row):
                continue
            length = int(cache.lengths[cache_row])
            with torch.inference_mode():
                kv = stacked(cache.layers, cache_row, length)
            self.prefixes.keep(followed.conversation, followed.first(length), kv)
        return super().keep(state, rows)

    def _follow(self, prompt: Prompt) -> Followed | None:
        if not prompt.conversation or not self.prefixes.most_bytes:
            return None
        written = self.written(prompt)
        signature_L = np.asarray(written.ids, np.int64)
        for block, place in zip(prompt.blocks, written.places, strict=True):
            signature_L[place : place + len(block.x_TC)] = signature_of_block(block.x_TC)
        return Followed(prompt.conversation, signature_L)

    def _begun(self, followed: Followed | None) -> tuple[Kept, int] | None:
        return None if followed is None else self.prefixes.find(followed.conversation, followed.signature_L)

    def _resumed(
        self, prompt: Prompt, begun: Kept, begin: int, state: Running | None
    ) -> tuple[Running, Step]:
        with torch.inference_mode():
            x_LE = self._split_layout.row(prompt)
            positions_3L = self._split_layout.positions(prompt, len(x_LE))
            return self.resume(x_LE[begin:], begun, begin, Sampler.of(prompt), state, positions_3L)


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
        bottlenecks: of the slots that have one.
    """

    def __init__(
        self,
        config: SplitConfig,
        tokenizer: Tokenizer,
        network: PreTrainedModel,
        bundle_hash: str,
        bottlenecks: Mapping[str, Bottleneck] = MappingProxyType({}),
    ) -> None:
        super().__init__(config, tokenizer, bundle_hash)
        self._network = network.eval()
        self._layout = SplitLayout(self, config, network, bottlenecks)

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
        return Row(out.past_key_values, length, step.token_id, sampler), told(step, self._config)


def load_split(directory: Path, computing: Computing) -> ServedSplit | ServedClass:
    """Load a split model for serving; arguments and errors as :func:`edge_server.runtime.folders.load`."""
    config, tokenizer = read_split(directory)
    network = read_language(directory)
    prepare_process(network, computing.threads, computing.device)
    hash_of_bundle = bundle_hash_of(directory)
    return serve_split(
        config,
        tokenizer,
        network,
        hash_of_bundle,
        precision=computing.precision,
        prefix_bytes=computing.prefix_bytes,
        bottlenecks=read_bottlenecks(directory),
    )


def serve_split(
    config: SplitConfig,
    tokenizer: Tokenizer,
    network: PreTrainedModel,
    bundle_hash: str,
    *,
    precision: Precision = EXACT,
    prefix_bytes: int = 0,
    bottlenecks: Mapping[str, Bottleneck] = MappingProxyType({}),
) -> ServedSplit | ServedClass:
    """What answers with a language model, as its description says."""
    if config.runner == "class":
        return ServedClass(config, tokenizer, network, bundle_hash, bottlenecks)
    return ServedSplit(
        config,
        tokenizer,
        network,
        bundle_hash,
        precision=precision,
        prefix_bytes=prefix_bytes,
        bottlenecks=bottlenecks,
    )


def read_language(directory: Path) -> PreTrainedModel:
    """The language model of a model folder.

    Raises:
        ModelError: it cannot be read.
    """
    folder = directory / "language"
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        network: PreTrainedModel = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            folder, local_files_only=True, dtype="auto"
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{folder}: the language model cannot be read: {error}") from error
    return network.eval()


def _hear(followed: Sequence[Followed | None], steps: Sequence[Step]) -> None:
    """Remember what was said in rows that are followed."""
    for each, step in zip(followed, steps, strict=True):
        if each is not None:
            each.said.append(step.token_id)


def told(step: Step, config: SplitConfig) -> Step:
    """Any token that ends an answer, as the one that the engine knows."""
    return replace(step, token_id=config.eos_ids[0]) if step.token_id in config.eos_ids else step
