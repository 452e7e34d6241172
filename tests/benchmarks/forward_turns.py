"""Who reads prompts in turn, each in a process of its own.

``served`` and ``float32`` are ours, with the memory that a serving process keeps; ``hugging_face`` is the
library's class in a process as it comes.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import torch

from edge_server.engine.ports import Prompt
from edge_server.model.link import Link
from edge_server.runtime.allocator import keep_freed_memory
from edge_server.runtime.computing import Precision
from edge_server.runtime.model_runner import Running, ServedLink
from tests.eager_reference import EagerLink

Who: TypeAlias = Literal["served", "float32", "hugging_face"]
#: What is timed: ours as it is served, ours in float32, and theirs.
WHO: tuple[Who, ...] = ("served", "float32", "hugging_face")

Times: TypeAlias = tuple[float, float]
"""Of a prefill, and of each decode step after it [s]."""


class Contestant:
    """One that reads prompts elsewhere.

    Args:
        pipe: to its process.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._pipe.recv()  # it is ready

    def run(self, batch: str) -> Times:
        """Read the prompts of a batch and tell some words."""
        self._pipe.send(batch)
        times: Times = self._pipe.recv()
        return times


@contextmanager
def contestants(
    model: Path,
    batches: Mapping[str, Sequence[Prompt]],
    steps: int,
    threads: int,
    device: torch.device,
) -> Iterator[dict[str, Contestant]]:
    """All of :data:`WHO`, for as long as the context lasts.

    Args:
        model: model folder.
        batches: prompts by name.
        steps: decode steps after each prefill.
        threads: that torch computes with, in each.
        device: where all compute.
    """
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pipes = {}
        for who in WHO:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_compete, args=(theirs, model, who, batches, steps, threads, device), daemon=True
            )
            process.start()
            theirs.close()
            stack.callback(process.join, 10.0)
            stack.callback(ours.close)
            pipes[who] = ours
        yield {who: Contestant(pipe) for who, pipe in pipes.items()}


class _Reader(Protocol):
    def read(self, prompts: Sequence[Prompt]) -> None: ...

    def say(self) -> None: ...


class _Ours:
    def __init__(self, link: Link, *, bfloat16: bool) -> None:
        keep_freed_memory()
        self._link = ServedLink(link, bundle_hash="", precision=Precision(bfloat16=bfloat16))
        self._state: Running | None = None

    def read(self, prompts: Sequence[Prompt]) -> None:
        # As in the engine, a batch that has become empty is the one that the next prompts join.
        empty = None if self._state is None else self._link.keep(self._state, [])
        self._state, _ = self._link.prefill(prompts, empty)

    def say(self) -> None:
        assert self._state is not None
        self._state, _ = self._link.decode(self._state)


class _Theirs:
    def __init__(self, link: Link) -> None:
        link.merge_lora()
        self._link = EagerLink(link)

    def read(self, prompts: Sequence[Prompt]) -> None:
        self._rows = self._link.prefill(prompts)
        _ = self._rows.tokens

    def say(self) -> None:
        self._rows = self._link.decode(self._rows)
        _ = self._rows.tokens


def _compete(
    pipe: Connection,
    model: Path,
    who: Who,
    batches: Mapping[str, Sequence[Prompt]],
    steps: int,
    threads: int,
    device: torch.device,
) -> None:
    torch.set_num_threads(threads)
    link = Link.load(model).to(device)
    reader: _Reader = _Theirs(link) if who == "hugging_face" else _Ours(link, bfloat16=who == "served")
    pipe.send("ready")
    while True:
        try:
            prompts = batches[pipe.recv()]
        except EOFError:
            return
        begin_s = time.perf_counter()
        reader.read(prompts)
        read_s = time.perf_counter()
        for _ in range(steps):
            reader.say()
        pipe.send((read_s - begin_s, (time.perf_counter() - read_s) / steps))
