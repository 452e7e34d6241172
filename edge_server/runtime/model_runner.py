"""The link and its foundation behind the engine's ports.

    prompts ─check─▶ receivers, one pass per slot ─▶ embeddings, packed
            ─prefill─▶ Running ─decode─▶ Running ─ ... rows join (prefill, merge) and leave (keep) ...

A running batch owns one cache with a row for each question (:mod:`edge_server.runtime.kv_cache`); what
computes is :mod:`edge_server.runtime.decoder`. Rows know nothing of each other: an answer does not depend on
neighbours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from edge_server.engine.calibration import UNSURE
from edge_server.engine.ports import Prompt, Step
from edge_server.errors import ModelError
from edge_server.model import tokenizer as tk
from edge_server.model.answering import AnsweringHalf, AnswersWith
from edge_server.model.decoder_weights import DecoderWeights
from edge_server.model.modality import place_of
from edge_server.runtime.allocator import keep_freed_memory
from edge_server.runtime.answering import load_answering
from edge_server.runtime.computing import EXACT, Computing, Precision
from edge_server.runtime.cuda_graphs import GreedySteps, likeliest
from edge_server.runtime.decoder import Decoder
from edge_server.runtime.integers import has_integers
from edge_server.runtime.kv_cache import KeyValueCache
from edge_server.runtime.model_info import ModelInfo, bundle_hash_of
from edge_server.runtime.packing import Integers
from edge_server.runtime.prefix_cache import Prefix, PrefixCache
from edge_server.runtime.prefixes import Followed, Kept
from edge_server.runtime.prompt_layout import LaidOut, PromptLayout
from edge_server.runtime.sampling import Sampler, draw

if TYPE_CHECKING:
    from edge_server.model.link import Link


@dataclass(frozen=True)
class Running:
    """A running batch. Used up by what makes another from it: the cache goes on to that one.

    Attributes:
        cache: keys and values.
        cache_rows: where each row's are.
        samplers: of rows that ask for more than the likeliest tokens.
        followed: of rows whose conversation may go on; those that nobody follows have none.
    """

    cache: KeyValueCache
    cache_rows: tuple[int, ...]
    samplers: tuple[Sampler | None, ...]
    followed: tuple[Followed | None, ...]


class Layout(Protocol):
    """Lays prompts out for a language model."""

    def embed(self, prompts: Sequence[Prompt]) -> LaidOut:
        """Prompts as embeddings."""


@runtime_checkable
class AsksApart(Layout, Protocol):
    """One whose questions come last, so that what goes before can be kept."""

    def embed_question(self, prompt: Prompt) -> Tensor:
        """The part of a prompt that asks, [S, E]."""


class CausalRunner:
    """Computes answers with a language model that the decoder computes.

    Args:
        weights: of a language model, its LoRA merged or beside its projections; brought to a type that the
            device computes fast (:func:`in_a_fast_type`).
        embedding_VE: of its language tokens.
        layout: makes prompts into embeddings.
        max_positions: longest prompt with its answer.
        precision: of products.
        sections: as for :class:`~edge_server.runtime.decoder.Decoder`.
        unsaid: as for it.
        doubt_id: the language token with which the model begins to say that it is not sure; its probability
            is told with each answer's first token. None: nothing is told.
        adapts: whether a prompt is answered with the LoRA that is beside the projections; None: none is.
    """

    def __init__(
        self,
        weights: DecoderWeights,
        embedding_VE: Tensor,
        layout: Layout,
        max_positions: int,
        *,
        precision: Precision = EXACT,
        sections: Sequence[int] = (),
        unsaid: Sequence[int] = (),
        doubt_id: int | None = None,
        adapts: Callable[[Prompt], bool] | None = None,
    ) -> None:
        self._layout, self._doubt_id = layout, doubt_id
        device = embedding_VE.device
        # On a GPU it is the foundation's own type that says what is computed in.
        rounded = precision.bfloat16 and has_bfloat16(device) is True and device.type == "cpu"
        self._decoder = Decoder(
            weights,
            max_positions,
            bfloat16=rounded,
            integers=precision.integers and has_integers(device),
            sections=sections,
            unsaid=unsaid,
        )
        self._adapts = adapts if adapts is not None and self._decoder.adapts else _never
        self._prefixes = PrefixCache(time.monotonic)
        on_a_gpu = device.type == "cuda"
        self._steps = GreedySteps(embedding_VE.detach(), self._decoder, record=on_a_gpu)

    def prefill(self, prompts: Sequence[Prompt], state: Running | None = None) -> tuple[Running, list[Step]]:
        """Start answering prompts; see the port. Of what is known already, only the question is read."""
        with torch.inference_mode():
            known, fresh = self._known(prompts)
            laid_out = self._layout.embed([prompts[row] for row in fresh]) if fresh else None
            questions = {row: self._question(prompts[row]) for row in known}
            cache = self._decoder.new_cache() if state is None else state.cache
            lengths = [] if laid_out is None else list(laid_out.lengths)
            lengths += [prefix.length + len(questions[row]) for row, prefix in known.items()]
            order = [] if laid_out is None else [fresh[row] for row in laid_out.order]
            order += known
            cache_rows = cache.take(lengths)
            try:
                logits = []
                if laid_out is not None:
                    rows = cache_rows[: len(fresh)]
                    logits.append(
                        self._decoder.prefill(
                            laid_out.x_NE,
                            laid_out.lengths,
                            cache,
                            rows,
                            laid_out.positions_3N,
                            [self._adapts(prompts[row]) for row in order[: len(fresh)]],
                        )
                    )
                    self._keep(prompts, order[: len(fresh)], cache, rows)
                for (row, prefix), cache_row in zip(known.items(), cache_rows[len(fresh) :], strict=True):
                    cache.write(cache_row, prefix.layers)
                    x_SE, adapted = questions[row], self._adapts(prompts[row])
                    logits.append(
                        self._decoder.extend(x_SE, prefix.length, cache, cache_row, adapted=adapted)
                    )
                logits_BV = torch.cat(logits) if len(logits) > 1 else logits[0]
                said_2B = likeliest(logits_BV)
                cache.remember(cache_rows, said_2B[0])
                told = said_2B if self._doubt_id is None else self._with_doubts(said_2B, logits_BV)
                said = _say(told, cache, cache_rows)
                doubts = [step.doubt for step in said]
                samplers = [Sampler.of(prompts[row]) for row in order]
                _sample(said, samplers, logits_BV, range(len(said)), cache, cache_rows)
                if any(samplers):  # what is drawn knows nothing of it
                    said = [replace(step, doubt=doubt) for step, doubt in zip(said, doubts, strict=True)]
            except BaseException:
                cache.free(cache_rows)
                raise
            before = Running(cache, (), (), ()) if state is None else state
            place_of = dict(zip(order, range(len(prompts)), strict=True))
            places = [place_of[row] for row in range(len(prompts))]
            joined = Running(
                cache,
                (*before.cache_rows, *(cache_rows[place] for place in places)),
                (*before.samplers, *(samplers[place] for place in places)),
                (*before.followed, *(None for _ in places)),
            )
            return joined, [said[place] for place in places]

    def resume(
        self,
        x_NE: Tensor,
        begun: Kept,
        begin: int,
        sampler: Sampler | None,
        state: Running | None,
        positions_3L: Integers | None,
    ) -> tuple[Running, Step]:
        """Start answering a prompt whose beginning was read before.

        Args:
            x_NE: embeddings of what comes behind it; overwritten.
            begun: keys and values of the beginning.
            begin: how many positions of these are the prompt's.
            sampler: where it asks for more than the likeliest tokens.
            state: as for :meth:`prefill`.
            positions_3L: in time, row and column, of the whole prompt; None: one after another.
        """
        with torch.inference_mode():
            cache = self._decoder.new_cache() if state is None else state.cache
            cache_rows = cache.take([begin + len(x_NE)])
            try:
                for layer, kv in zip(cache.layers, begun.kv, strict=True):
                    layer[:, cache_rows[0], :, :begin] = kv[:, :, :begin]
                logits_1V = self._decoder.extend(x_NE, begin, cache, cache_rows[0], positions_3L)
                said_21 = likeliest(logits_1V)
                cache.remember(cache_rows, said_21[0])
                said, samplers = _say(said_21, cache, cache_rows), [sampler]
                _sample(said, samplers, logits_1V, range(1), cache, cache_rows)
            except BaseException:
                cache.free(cache_rows)
                raise
            before = Running(cache, (), (), ()) if state is None else state
            joined = Running(
                cache,
                (*before.cache_rows, *cache_rows),
                (*before.samplers, *samplers),
                (*before.followed, None),
            )
            return joined, said[0]

    def _with_doubts(self, said_2B: Tensor, logits_BV: Tensor) -> Tensor:
        """Below what is likeliest, the probability of each row that it begins with ``doubt_id``, [3, B].

        Together, so that all is fetched from a GPU at once.
        """
        most_B = logits_BV.gather(1, said_2B[0].long()[:, None])[:, 0].float()
        doubts_B = said_2B[1] * (logits_BV[:, self._doubt_id].float() - most_B).exp()
        return torch.cat([said_2B, doubts_B[None]])

    def _known(self, prompts: Sequence[Prompt]) -> tuple[dict[int, Prefix], list[int]]:
        """What is kept of prompts, by their rows, and the rows of the others."""
        known: dict[int, Prefix] = {}
        if isinstance(self._layout, AsksApart):
            for row, prompt in enumerate(prompts):
                prefix = self._prefixes.find(self._kept_as(prompt)) if prompt.kept_as else None
                if prefix is not None:
                    known[row] = prefix
        return known, [row for row in range(len(prompts)) if row not in known]

    def _question(self, prompt: Prompt) -> Tensor:
        assert isinstance(self._layout, AsksApart)  # noqa: S101 - else nothing is known
        return self._layout.embed_question(prompt)

    def _keep(
        self, prompts: Sequence[Prompt], order: Sequence[int], cache: KeyValueCache, cache_rows: Sequence[int]
    ) -> None:
        """Keep what was read of prompts that will be asked about again."""
        if not isinstance(self._layout, AsksApart):
            return
        for row, cache_row in zip(order, cache_rows, strict=True):
            prompt = prompts[row]
            if prompt.kept_as and prompt.question_ids:
                count = int(cache.lengths[cache_row]) - len(self._layout.embed_question(prompt))
                self._prefixes.keep(
                    self._kept_as(prompt), [layer[:, cache_row, :, :count] for layer in cache.layers]
                )

    def _kept_as(self, prompt: Prompt) -> str:
        """What was read with the LoRA is nothing to a prompt that is read without."""
        return f"{'media' if self._adapts(prompt) else 'text'} {prompt.kept_as}"

    def decode(self, state: Running) -> tuple[Running, list[Step]]:
        """One more step for every row; see the port."""
        with torch.inference_mode():
            cache = state.cache
            cache_rows = cache.compact(state.cache_rows)
            told = self._steps(cache, len(cache_rows))
            said = _say(told.said_2B, cache, range(len(cache_rows)))
            steps = [said[cache_row] for cache_row in cache_rows]
            samplers = list(state.samplers)
            _sample(steps, samplers, told.logits_BV, cache_rows, cache, cache_rows)
            return Running(cache, tuple(cache_rows), tuple(samplers), state.followed), steps

    def merge(self, first: Running, second: Running) -> Running:
        """Rows of both; those of the second are copied."""
        with torch.inference_mode():
            cache_rows = first.cache.take([int(n) for n in second.cache.lengths[list(second.cache_rows)]])
            first.cache.copy_from(second.cache, second.cache_rows, cache_rows)
            return Running(
                first.cache,
                (*first.cache_rows, *cache_rows),
                (*first.samplers, *second.samplers),
                (*first.followed, *second.followed),
            )

    def keep(self, state: Running, rows: Sequence[int]) -> Running:
        """Only these rows; the others' cache rows are free."""
        with torch.inference_mode():
            cache_rows = tuple(state.cache_rows[row] for row in rows)
            state.cache.free(sorted(set(state.cache_rows).difference(cache_rows)))
            samplers = tuple(state.samplers[row] for row in rows)
            return Running(state.cache, cache_rows, samplers, tuple(state.followed[row] for row in rows))


class ServedLink(CausalRunner, ModelInfo):
    """Implements the engine's ports, :class:`edge_server.engine.ports.ModelRunner` too.

    Args:
        link: a trained link, whose LoRA is merged into the foundation unless it is for media only; or the
            half of one that answers.
        bundle_hash: of the device bundle whose tokens it understands.
        precision: as for :class:`CausalRunner`.

    Raises:
        ModelError: its foundation asks for something that is not served.
    """

    def __init__(
        self,
        link: Link | AnsweringHalf,
        bundle_hash: str,
        *,
        precision: Precision = EXACT,
    ) -> None:
        ModelInfo.__init__(self, link.config, link.tokenizer, bundle_hash)
        in_a_fast_type(link if isinstance(link, AnsweringHalf) else link.foundation, link.embedding.weight)
        self._link: AnswersWith = link.eval()
        CausalRunner.__init__(
            self,
            link.weights if isinstance(link, AnsweringHalf) else _weights_of(link),
            link.embedding.weight,
            PromptLayout(link),
            self.max_positions,
            precision=precision,
            unsaid=link.special.marks,
            doubt_id=tk.encode(link.tokenizer, link.config.unsure or UNSURE)[0],
            adapts=self._is_about_media,
        )

    def _is_about_media(self, prompt: Prompt) -> bool:
        return any(place_of(block.modality) in self._link.slots for block in prompt.blocks)

    @property
    def link(self) -> AnswersWith:
        """What is served, its LoRA merged where every question is answered with it."""
        return self._link


def _weights_of(link: Link) -> DecoderWeights:
    """A whole link's, its LoRA merged for good unless it is for media only.

    Raises:
        ModelError: its foundation asks for something that is not served.
    """
    # It takes seconds to import, and whoever has a whole link has done so.
    from edge_server.model.foundation_classes import weights_of

    apart = link.keeps_lora_apart
    if not apart:
        link.merge_lora()
    weights = weights_of(link.causal, link.config.foundation.max_positions)
    if apart and not any(block.lora for block in weights.blocks):
        kind = link.causal.config.model_type
        raise ModelError(
            f"lora.applies_to is 'media', but a LoRA of {kind!r} cannot be kept apart from its weights"
        )
    return weights


def in_a_fast_type(model: nn.Module, embedding_VE: Tensor) -> None:
    """Bring a model in bfloat16 to float32 where the processor has no instructions for bfloat16.

    Twice the memory, several times the speed.

    Args:
        model: whose weights are to be computed with.
        embedding_VE: of its language tokens.
    """
    if embedding_VE.dtype == torch.bfloat16 and has_bfloat16(embedding_VE.device) is False:
        model.float()


def _never(prompt: Prompt) -> bool:
    return False


def _say(told: Tensor, cache: KeyValueCache, cache_rows: Sequence[int]) -> list[Step]:
    """What :func:`~edge_server.runtime.cuda_graphs.likeliest` found, fetched from where it was computed.

    Args:
        told: [2, B], or [3, B] with a doubt for each row.
        cache: is told of rows whose probability is no number.
        cache_rows: of each row.
    """
    tokens, probabilities, *doubts = told.tolist()
    for cache_row, probability in zip(cache_rows, probabilities, strict=True):
        if not math.isfinite(probability):
            cache.mark_nonfinite(cache_row)
    doubt_of = doubts[0] if doubts else [0.0] * len(tokens)
    return [
        Step(int(token), probability, (), doubt)
        for token, probability, doubt in zip(tokens, probabilities, doubt_of, strict=True)
    ]


def _sample(
    steps: list[Step],
    samplers: list[Sampler | None],
    logits_BV: Tensor,
    places: Sequence[int],
    cache: KeyValueCache,
    cache_rows: Sequence[int],
) -> None:
    """Put the steps of rows that sample in the place of the likeliest ones.

    Args:
        steps: of each row; changed.
        samplers: of each row; changed to what they are after the step.
        logits_BV: of all rows.
        places: where each row's are among them.
        cache: remembers what was said.
        cache_rows: of each row.
    """
    if not any(samplers):
        return
    rows = {row: sampler for row, sampler in enumerate(samplers) if sampler is not None}
    device = logits_BV.device
    where = torch.tensor([places[row] for row in rows], device=device)
    drawn = draw(logits_BV.index_select(0, where), list(rows.values()))
    tokens = torch.tensor([step.token_id for step in drawn], device=device)
    cache.remember([cache_rows[row] for row in rows], tokens)
    for (row, sampler), step in zip(rows.items(), drawn, strict=True):
        steps[row], samplers[row] = step, sampler.after(step.token_id)


def has_bfloat16(device: torch.device) -> bool | None:
    """Whether a device multiplies in bfloat16 faster than in float32; None: it does not tell."""
    if device.type != "cpu":
        return True
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if "avx512_bf16" not in features:
        return None
    return bool(features["avx512_bf16"] or features.get("amx_bf16"))


def load(directory: Path, computing: Computing) -> ServedLink:
    """Load a model folder for serving. From here on the process keeps memory that it has freed.

    Args:
        directory: the model folder, with its device bundle in ``bundle/``.
        computing: how; of conversations, a link keeps nothing.

    Raises:
        ModelError: the folder, or its bundle's manifest, cannot be read, or there is no such device.
    """
    link = load_answering(directory)
    prepare_process(link, computing.threads, computing.device)
    return ServedLink(link, bundle_hash_of(directory), precision=computing.precision)


def prepare_process(model: nn.Module, threads: int, device: str) -> None:
    """Bring a model to a device; from here on the process keeps memory that it has freed.

    Raises:
        ModelError: there is no such device.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    try:
        model.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:  # what torch raises without CUDA is an AssertionError
        raise ModelError(f"device is {device!r}: {str(error).splitlines()[0]}") from error
