"""Greedy decoding, a step of all rows at a time. On a GPU, steps are recorded and played again.

A decode step of a small model is many short kernels: a GPU ends each before the next is launched. Recorded
as a CUDA graph, all are launched at once. A recording is of one number of rows and of positions, over
one piece of memory, so both are rounded up to a few sizes; rows without a question compute along, in cache
rows that are free.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edge_server.runtime.decoder import Decoder
from edge_server.runtime.kv_cache import KeyValueCache
from edge_server.runtime.packing import Integers
from edge_server.runtime.transfer import on_device

_FEWEST_ROWS, _FEWEST_POSITIONS = 8, 64


def likeliest(logits_BV: Tensor) -> Tensor:
    """The likeliest language token of each row and its probability, [2, B] in float32."""
    logits_BV = logits_BV.float()
    most_B, tokens_B = logits_BV.max(-1)
    probabilities_B = most_B.sub_(logits_BV.logsumexp(-1)).exp_()
    # Together, so that they are fetched from a GPU at once; float32 counts to 16 million.
    return torch.stack([tokens_B.float(), probabilities_B])


class Told(NamedTuple):
    """What a step tells, to be read before the next.

    Attributes:
        said_2B: as :func:`likeliest`.
        logits_BV: which it was found in.
    """

    said_2B: Tensor
    logits_BV: Tensor


class GreedySteps:
    """Decode steps of running batches.

    Args:
        embedding_VE: of language tokens.
        decoder: with the foundation's weights.
        record: record steps; only a GPU can.
    """

    def __init__(self, embedding_VE: Tensor, decoder: Decoder, *, record: bool) -> None:
        self._embedding_VE = embedding_VE
        self._decoder = decoder
        self._record = record

    def __call__(self, cache: KeyValueCache, rows: int) -> Told:
        """One more step for the rows in the cache rows 0 to B - 1, which remember their likeliest tokens."""
        longest = cache.room_for_one_more(rows)
        lengths = cache.lengths[:rows]
        if self._record:
            recorded = self._recorded(lengths, cache, *_sizes(rows, longest, cache))
            told = Told(recorded.said_2B[:, :rows], recorded.logits_BV[:rows])
        else:
            told = self._compute(on_device(lengths, self._decoder.device), cache, longest)
        cache.lengths[:rows] += 1
        return told

    def _compute(self, positions_B: Tensor, cache: KeyValueCache, longest: int) -> Told:
        newest_B = cache.last_R[: len(positions_B)]
        x_BE = self._embedding_VE.index_select(0, newest_B)
        logits_BV = self._decoder.decode(x_BE, positions_B, cache, longest)
        said_2B = likeliest(logits_BV)
        newest_B.copy_(said_2B[0])
        return Told(said_2B, logits_BV)

    def _recorded(self, lengths: Integers, cache: KeyValueCache, rows: int, longest: int) -> Told:
        # Rows beyond are of free cache rows; what they write there is overwritten by who comes.
        positions = np.zeros(rows, np.int64)
        positions[: len(lengths)] = lengths
        positions_B = on_device(positions, self._decoder.device)
        sizes = rows, longest
        known: _Known | None = cache.recorded.get(sizes)
        if known is None:
            # Once as it is: most sizes come again, some do not, and what it needs is loaded then.
            cache.recorded[sizes] = _Known()
            return self._compute(positions_B, cache, longest)
        if not known.tried:
            # Before it is: a step that fails at this is run again, and then as it is.
            known.tried = True
            known.recording = _Recording(self, positions_B, cache, longest)
        if known.recording is None:  # it could not be recorded
            return self._compute(positions_B, cache, longest)
        return known.recording.play(positions_B)


class _Known:
    """Sizes that have been asked for."""

    recording: _Recording | None = None
    tried = False


class _Recording:
    """A step as a CUDA graph."""

    def __init__(self, steps: GreedySteps, positions_B: Tensor, cache: KeyValueCache, longest: int) -> None:
        self._positions_B = positions_B.clone()
        self._graph = torch.cuda.CUDAGraph()
        others = [known.recording for known in cache.recorded.values() if known.recording is not None]
        # They are played one at a time, and what one says is read before the next: they share memory.
        pool = others[0]._graph.pool() if others else None
        # Another thread of this process may be computing as well.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._told = steps._compute(self._positions_B, cache, longest)

    def play(self, positions_B: Tensor) -> Told:
        """Take the step."""
        self._positions_B.copy_(positions_B)
        self._graph.replay()
        return self._told


def _sizes(rows: int, longest: int, cache: KeyValueCache) -> tuple[int, int]:
    """Rows and positions of a recording that these fit in."""
    return (
        min(_rounded_up(rows, _FEWEST_ROWS), cache.rows),
        min(_rounded_up(longest, _FEWEST_POSITIONS), cache.positions),
    )


def _rounded_up(number: int, least: int) -> int:
    """To a power of two, or one and a half of it."""
    size = max(1 << (number - 1).bit_length(), least)
    return size * 3 // 4 if number <= size * 3 // 4 and size > least else size
