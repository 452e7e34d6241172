"""A runner in a process of its own.

    batch thread ──▶ ModelRunnerProcess ══ pipe ══▶ the process: ModelRunner ──▶ model
                                                │
    interpreter lock of the server              └── an interpreter lock and memory of its own

Each batch then computes without the event loop's interpreter lock. Where native code crashes, or the system
kills a process for its memory, one batch is lost, and its questions are run again.

While a process computes it says every second that it lives. One that says nothing for long is stopped, or
stuck in native code: it is killed, its batch is lost, and its questions are run again by another.

Processes are forked from a server that has imported what they need and has no threads, so that a new one is
there at once. What goes over the pipe stays on this machine and comes from this program alone.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import pickle
import select
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeAlias
from weakref import finalize

from edge_server.engine.aside import Aside
from edge_server.engine.lifeline import FORK_SERVER, Lifeline
from edge_server.engine.ports import (
    BatchLostError,
    InvalidPromptError,
    ModelRunner,
    Prompt,
    RunnerUnavailableError,
    Step,
)
from edge_server.errors import ModelError

logger = logging.getLogger(__name__)

_Sent: TypeAlias = tuple[int, float] | tuple[int, float, tuple[tuple[int, float], ...], float]
"""A step as it goes over the pipe: plain values, of which there are many."""
_ENDS_WITHIN_S = 2.0
_NICENESS = 5
"""Of the processes, above the server's own. When all cores are full the event loop still gets to read, refuse
and answer at once: it needs little, and else every question on its way would wait for it."""
_ALIVE = "alive"
"""Said on the pipe between what is asked and what is answered."""
_ALIVE_EACH_S = 1.0
SILENCE_S = 5.0
"""A process that said nothing for so long while it computed is killed. Several times the interval: a machine
that is busy with something else keeps a nice process waiting. One that would compute then, had it a core, has
until it has computed for twice as long, and :data:`_STARVED_S` at most."""
_STARVED_S = 60.0
_SPEAKS_WITHIN_S = 60.0
"""Until the first process of a runner says something: it comes up beside a server that loads, and others.
Later ones speak once they are forked, before they import or load anything; the usual silence will do."""
_TRY_AGAIN_S = 2.0
"""Where a process could not be started: before the next try."""


class HeldState:
    """A running batch that a process holds; the process frees it once nobody holds this any more."""

    __slots__ = ("__weakref__", "key", "process")

    def __init__(self, key: int, process: BaseProcess) -> None:
        self.key = key
        self.process = process


class _Pipe:
    """One end of a pipe that is waited at with every step: what it is waited with is made once.

    :meth:`multiprocessing.connection.Connection.poll` makes a selector at each call, which takes longer than
    the rest of asking.
    """

    def __init__(self, end: Connection) -> None:
        self._end = end
        self.send, self.recv = end.send, end.recv
        self._waiting = select.poll()
        self._waiting.register(end.fileno(), select.POLLIN)

    def poll(self, within_s: float) -> bool:
        """Whether there is something to receive, or the other end is gone, in time [s]."""
        return bool(self._waiting.poll(1e3 * within_s))

    def close(self) -> None:
        """Close it; the other end is told."""
        self._end.close()


class ModelRunnerProcess:
    """Implements :class:`edge_server.engine.ports.ModelRunner` with one that is made and called in a process.

    Args:
        make: makes the runner there. Goes over a pipe: a function of a module, with what it is called with.
        preload: modules that it needs.
        silence_s: a process that says nothing for so long while it computes is killed [s].
    """

    def __init__(
        self,
        make: Callable[[], ModelRunner[Any]],
        preload: Sequence[str] = (),
        *,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._make = make
        self._silence_s = silence_s
        self._context = multiprocessing.get_context("forkserver")
        # Itself as well: what a process does first waits for no import.
        self._context.set_forkserver_preload([__name__, *preload])
        self._process: BaseProcess | None = None
        self._lifeline: Lifeline | None = None
        self._pipe: _Pipe | None = None
        self._dropped: deque[tuple[BaseProcess, int]] = deque()
        self._no_try_before = 0.0
        self._closed = False
        self._gives_way = False

    def start(self) -> None:
        """Start the process and wait until its runner is made.

        Raises:
            ModelError: it cannot be made.
        """
        self._start(_SPEAKS_WITHIN_S)

    def _start(self, speaks_within_s: float) -> None:
        end, theirs = self._context.Pipe()
        made = bytes(ForkingPickler.dumps(self._make))
        process = self._context.Process(target=_compute, args=(theirs, made), daemon=True)
        process.start()
        theirs.close()
        ours = _Pipe(end)
        self._process, self._pipe, self._lifeline = process, ours, Lifeline(process)
        atexit.register(self.close)
        if self._closed:
            self._lifeline.kill()
        try:
            if ours.poll(speaks_within_s) or self._heard_late(ours, speaks_within_s):
                fault = self._answer(ours, self._silence_s)
            else:
                raise TimeoutError(f"it said nothing for {speaks_within_s:g} s")
        except TimeoutError as error:
            fault = f"its process did not start: {error}"
        except (EOFError, OSError):
            fault = "its process ended at once"
        if fault is not None:
            self._end()
            raise ModelError(str(fault))

    def close(self) -> None:
        """End the process, for good."""
        self._closed = True
        self._end()
        atexit.unregister(self.close)

    def call_off(self) -> None:
        """End the process at once, for good, while another thread waits for it: that one is told it ended."""
        self._closed = True
        lifeline = self._lifeline
        if lifeline is not None:
            lifeline.kill()

    @property
    def pid(self) -> int | None:
        """Number of the process; None: there is none."""
        return None if self._process is None else self._process.pid

    @property
    def started(self) -> bool:
        """Whether there is a process that lives."""
        lifeline = self._lifeline
        return lifeline is not None and lifeline.alive

    def ensure_started(self) -> bool:
        """Whether there is a process; starts one where there is none. See the port."""
        if self._closed:
            return True  # a call says that the model is no longer served
        FORK_SERVER.keep()
        if self._lifeline is not None and not self._lifeline.alive:
            self._end()
        try:
            self._running()
        except RunnerUnavailableError:
            return False
        return True

    def give_way(self, whether: bool) -> None:
        """Compute only with what everything else leaves of the processor; see the port."""
        self._gives_way = whether

    def prefill(
        self, prompts: Sequence[Prompt], state: HeldState | None = None
    ) -> tuple[HeldState, list[Step]]:
        """Start answering prompts; see the port."""
        return self._steps("prefill", prompts, state)

    def decode(self, state: HeldState) -> tuple[HeldState, list[Step]]:
        """One more step for every row; see the port."""
        return self._steps("decode", state)

    def merge(self, first: HeldState, second: HeldState) -> HeldState:
        """Rows of both; see the port."""
        return self._call("merge", first, second)[0]

    def keep(self, state: HeldState, rows: Sequence[int]) -> HeldState:
        """Only these rows; see the port."""
        return self._call("keep", state, rows)[0]

    def _steps(self, name: str, *arguments: object) -> tuple[HeldState, list[Step]]:
        held, steps = self._call(name, *arguments)
        return held, [Step(*step) for step in steps]

    def _call(self, name: str, *arguments: object) -> tuple[HeldState, list[_Sent]]:
        pipe, process = self._running()
        dropped = [self._dropped.popleft() for _ in range(len(self._dropped))]
        # Keys that a process before this one gave mean something else to it.
        forgotten = [key for of, key in dropped if of is process]
        known = [self._known(each) for each in arguments]
        try:
            pipe.send((name, known, forgotten, self._gives_way))
            found = self._answer(pipe, self._silence_s)
        except (EOFError, OSError) as error:
            code = self._end()
            raise BatchLostError(f"the process that computed it ended with {code}") from error
        if isinstance(found, _Fault):
            raise found.error()
        key, steps = found
        held = HeldState(key, process)
        finalize(held, self._dropped.append, (process, key)).atexit = False
        return held, steps

    def _answer(self, pipe: _Pipe, silence_s: float) -> Any:
        """What comes over the pipe next, but for signs of life, which may be so far apart [s].

        Raises:
            TimeoutError: there were none.
        """
        while True:
            if not pipe.poll(silence_s) and not self._heard_late(pipe, silence_s):
                if self._lifeline is not None:
                    self._lifeline.kill()
                raise TimeoutError(f"it said nothing for {silence_s:g} s")
            found = pipe.recv()
            if found != _ALIVE:
                return found

    def _heard_late(self, pipe: _Pipe, silence_s: float) -> bool:
        """Whether a silent process speaks after all: one that waits for a core does once it has had it."""
        began_s = time.monotonic()
        first_s = computed_s = None if self._lifeline is None else self._lifeline.computing_s
        while first_s is not None and computed_s is not None:
            if computed_s - first_s > 2 * silence_s or time.monotonic() - began_s > _STARVED_S:
                return False
            if pipe.poll(min(silence_s, _ALIVE_EACH_S)):
                return True
            computed_s = None if self._lifeline is None else self._lifeline.computing_s
        return False

    def _known(self, argument: object) -> object:
        """As the process knows it."""
        if not isinstance(argument, HeldState):
            return argument
        if argument.process is not self._process:
            raise BatchLostError("the process that held it has ended")
        return _Key(argument.key)

    def _running(self) -> tuple[_Pipe, BaseProcess]:
        if self._pipe is not None and self._process is not None:
            return self._pipe, self._process
        if self._closed:
            raise BatchLostError("the model is no longer served")
        if time.monotonic() < self._no_try_before:
            raise RunnerUnavailableError("its process could not be started a moment ago")
        try:
            self._start(self._silence_s)
        except (ModelError, OSError) as error:
            self._no_try_before = time.monotonic() + _TRY_AGAIN_S
            logger.error("a process that computes cannot be started: %s", error)
            raise RunnerUnavailableError("its process cannot be started") from error
        return self._running()

    def _end(self) -> int | None:
        """End the process, whatever it is at; how it ended."""
        process, self._process = self._process, None
        pipe, self._pipe = self._pipe, None
        lifeline, self._lifeline = self._lifeline, None
        if pipe is not None:
            pipe.close()  # an idle process ends with it
        if process is None or lifeline is None:
            return None
        if not lifeline.ended_within(_ENDS_WITHIN_S):
            lifeline.kill()
            lifeline.ended_within(_ENDS_WITHIN_S)
        lifeline.close()
        process.join(_ENDS_WITHIN_S)
        return process.exitcode


_MAKE_STEPS = ("prefill", "decode")


class _Key(int):
    """A state, by its key, among the arguments of a call."""


def _compute(pipe: Connection, made: bytes) -> None:
    """What the process does: call after call, until nobody is left who could make one.

    Args:
        pipe: to whoever calls.
        made: what makes the runner, pickled by the process that started this one: whatever has to be imported
            for it is imported between signs of life.
    """
    # Whoever ends the server ends its whole group; questions that it has accepted are answered first.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    signs = _SignsOfLife(pipe)
    with contextlib.suppress(EOFError, OSError, BatchLostError):
        try:
            with signs:
                make: Callable[[], ModelRunner[Any]] = pickle.loads(made)  # noqa: S301 - our own, see above
                runner = make()
        except Exception as error:
            pipe.send(str(error) or type(error).__name__)
            return
        pipe.send(None)
        calls, aside = _Calls(runner), Aside()
        while True:
            name, arguments, forgotten, gives_way = pipe.recv()
            with signs:
                answer_to = partial(calls.answer, name, arguments, forgotten)
                answer = aside.run(answer_to) if gives_way else answer_to()
            pipe.send(answer)


class _SignsOfLife:
    """Says on a pipe that this process lives, at first and for as long as it is entered; from its own thread.

    A computation that holds the interpreter's lock, or a process that is stopped, says nothing.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._busy = threading.Event()
        self._turn = threading.Lock()
        pipe.send(_ALIVE)
        threading.Thread(target=self._say, name="tokenlink-signs-of-life", daemon=True).start()

    def __enter__(self) -> None:
        self._busy.set()

    def __exit__(self, *_: object) -> None:
        # Once the lock is free nothing is being written: the pipe is the answer's.
        with self._turn:
            self._busy.clear()

    def _say(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._busy.wait()
                time.sleep(_ALIVE_EACH_S)
                with self._turn:
                    if self._busy.is_set():
                        self._pipe.send(_ALIVE)


@dataclass(frozen=True)
class _Fault:
    """What a call raised, as it goes over the pipe.

    Attributes:
        field: of a prompt that was at fault; None: none was.
        message: what was wrong.
        trace: where.
    """

    field: str | None
    message: str
    trace: str

    def error(self) -> Exception:
        """To be raised again."""
        error: Exception = RuntimeError(self.message)
        if self.field is not None:
            error = InvalidPromptError(self.field, self.message)
        error.add_note(self.trace)
        return error


class _Calls:
    """The states of one runner, and what is done to them."""

    def __init__(self, runner: ModelRunner[Any]) -> None:
        self._runner = runner
        self._states: dict[int, Any] = {}
        self._next_key = 0

    def answer(
        self, name: str, arguments: Sequence[object], forgotten: Iterable[int]
    ) -> tuple[int, list[_Sent]] | _Fault:
        """Make one call: the key of the state that came of it, and its steps, if it makes any."""
        for key in forgotten:
            self._states.pop(key, None)
        try:
            known = [self._states[each] if isinstance(each, _Key) else each for each in arguments]
            made = getattr(self._runner, name)(*known)
        except BatchLostError:
            # Whoever reads the pipe is told by its end, and starts another.
            raise
        except InvalidPromptError as error:
            return _Fault(error.field, str(error), traceback.format_exc())
        except Exception as error:
            return _Fault(None, f"{type(error).__name__}: {error}", traceback.format_exc())
        state, steps = made if name in _MAKE_STEPS else (made, ())
        # What it was made from is used up.
        for each in arguments:
            if isinstance(each, _Key):
                del self._states[each]
        self._next_key += 1
        self._states[self._next_key] = state
        return self._next_key, [_sent(step) for step in steps]


def _sent(step: Step) -> _Sent:
    if step.alternatives or step.doubt:
        return step.token_id, step.probability, step.alternatives, step.doubt
    return step.token_id, step.probability
