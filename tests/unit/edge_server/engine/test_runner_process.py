"""Runners in processes of their own: real processes, which are really killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess

import psutil
import pytest

from edge_server.engine import (
    BatchLostError,
    Engine,
    EngineConfig,
    InvalidPromptError,
    Prompt,
    Request,
    Step,
    lifeline,
    runner_process,
)
from edge_server.engine.runner_process import HeldState, ModelRunnerProcess, _Pipe
from edge_server.errors import EngineFailureError, ModelError
from tests.waiting import PATIENCE_S, until
from tests.weightless import Row, State, WeightlessModel, ask, default_answer

POISON, BROKEN, WRONG = 66, 77, 88
"""Question ids that kill the process, raise in it, and are found invalid in it."""


def made(prefix: str) -> WeightlessModel:
    def fault(rows: State) -> None:
        for row in rows:
            _misbehave(row)

    return WeightlessModel(answer=lambda prompt: prefix + "a" * len(prompt.question_ids), decode_fault=fault)


def _misbehave(row: Row) -> None:
    if POISON in row.prompt.question_ids:
        os.kill(os.getpid(), signal.SIGKILL)
    if BROKEN in row.prompt.question_ids:
        raise RuntimeError("broken")
    if WRONG in row.prompt.question_ids:
        raise InvalidPromptError("question_ids[0]", "is wrong")


polite = partial(made, "it ")


def impossible() -> WeightlessModel:
    raise ModelError("there are no weights")


def stubborn() -> WeightlessModel:
    model = made("")
    model.gate.close()
    return model


class LongPrefill(WeightlessModel):
    def prefill(self, prompts: Sequence[Prompt], state: State | None = None) -> tuple[State, list[Step]]:
        # Longer than a process may be silent; the interpreter's lock is free meanwhile, as in torch.
        threading.Event().wait(3.0)
        return super().prefill(prompts, state)


def slow() -> WeightlessModel:
    return LongPrefill(answer=lambda prompt: "it")


class Greedy(WeightlessModel):
    """Its step lets go of the interpreter's lock after so much CPU time [s]: no sign of life meanwhile."""

    takes_s = 0.75

    def prefill(self, prompts: Sequence[Prompt], state: State | None = None) -> tuple[State, list[Step]]:
        each_s = sys.getswitchinterval()
        sys.setswitchinterval(1e3)
        until_s = time.process_time() + self.takes_s
        while time.process_time() < until_s:
            pass
        sys.setswitchinterval(each_s)
        return super().prefill(prompts, state)


class Endless(Greedy):
    takes_s = 1e9


def greedy() -> WeightlessModel:
    return Greedy(answer=lambda prompt: "it")


def endless() -> WeightlessModel:
    return Endless(answer=lambda prompt: "it")


Start = Callable[..., ModelRunnerProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    runners: list[ModelRunnerProcess] = []

    def begin(
        make: Callable[[], WeightlessModel] = polite, silence_s: float = PATIENCE_S
    ) -> ModelRunnerProcess:
        runner = ModelRunnerProcess(make, silence_s=silence_s)
        runners.append(runner)
        runner.start()
        return runner

    yield begin
    for runner in runners:
        runner.close()


def kill(runner: ModelRunnerProcess) -> None:
    assert runner.pid is not None
    process = psutil.Process(runner.pid)
    process.kill()
    process.wait(PATIENCE_S)


def said(runner: ModelRunnerProcess, state: HeldState, steps: int) -> list[bytes]:
    rows: list[list[int]] = []
    for _ in range(steps):
        state, step = runner.decode(state)
        rows.append([each.token_id for each in step])
    return [bytes(row) for row in zip(*rows, strict=True)]


def test_it_computes_what_its_runner_does(start: Start) -> None:
    runner = start()
    first, steps = runner.prefill([ask(1, 2), ask(1, 2, 3)])
    assert [(step.token_id, step.probability) for step in steps] == [
        (step.token_id, step.probability) for step in made("it ").prefill([ask(1, 2), ask(1, 2, 3)])[1]
    ]
    second, _ = runner.prefill([ask(9, blocks={"audio": 4})])
    joined = runner.keep(runner.merge(first, second), [2, 0])
    assert said(runner, joined, 4) == [b"t a\0", b"t aa"]


def test_what_it_holds_is_freed_once_nobody_wants_it(start: Start) -> None:
    runner = start()
    for _ in range(50):
        state, _ = runner.prefill([ask(1, 2)])
        del state
    state, _ = runner.prefill([ask(1, 2)])
    stale = HeldState(1, state.process)
    with pytest.raises(RuntimeError, match="KeyError"):
        runner.decode(stale)


def test_an_error_leaves_its_state_as_it_was(start: Start) -> None:
    runner = start()
    state, _ = runner.prefill([ask(1, 2)])
    with pytest.raises(RuntimeError, match="IndexError") as raised:
        runner.keep(state, [7])
    assert "weightless.py" in "".join(raised.value.__notes__), "where it was raised is lost"
    assert said(runner, state, 2) == [b"t "]


def test_an_invalid_prompt_names_its_field(start: Start) -> None:
    runner = start()
    state, _ = runner.prefill([ask(WRONG)])
    with pytest.raises(InvalidPromptError, match="is wrong") as raised:
        runner.decode(state)
    assert raised.value.field == "question_ids[0]"


def test_killed_it_says_so_and_the_next_call_has_another(start: Start) -> None:
    runner = start()
    before = runner.pid
    state, _ = runner.prefill([ask(1, 2)])
    kill(runner)
    with pytest.raises(BatchLostError, match="-9"):
        runner.decode(state)
    again, _ = runner.prefill([ask(1, 2)])
    assert runner.pid not in (None, before)
    with pytest.raises(BatchLostError, match="has ended"):
        runner.decode(state)
    del state
    assert said(runner, again, 4) == [b"t aa"]


def test_it_lets_the_event_loop_go_first(start: Start) -> None:
    assert psutil.Process(start().pid).nice() == min(psutil.Process().nice() + 5, 19)


class Scheduled(WeightlessModel):
    """Says by its first token how the thread that computes a prefill is scheduled."""

    def prefill(self, prompts: Sequence[Prompt], state: State | None = None) -> tuple[State, list[Step]]:
        made, _ = super().prefill(prompts, state)
        return made, [Step(os.sched_getscheduler(0), 1.0)] * len(made)


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="this system knows no class that gives way")
def test_it_gives_way_for_as_long_as_it_is_told(start: Start) -> None:
    runner = start(partial(Scheduled, answer=default_answer))
    found = []
    for whether in (False, True, False):
        runner.give_way(whether)
        _, (step,) = runner.prefill([ask(1, 2)])
        found.append(step.token_id == os.SCHED_IDLE)
    assert found == [False, True, False]


def test_what_cannot_be_made_says_why() -> None:
    with pytest.raises(ModelError, match="there are no weights"):
        ModelRunnerProcess(impossible).start()


def test_one_that_cannot_be_started_again_is_not_tried_at_every_question(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = start()
    kill(runner)
    tries = 0

    def fail(speaks_within_s: float) -> None:
        nonlocal tries
        tries += 1
        raise ModelError("gone")

    monkeypatch.setattr(runner, "_start", fail)
    for _ in range(5):
        with pytest.raises(BatchLostError):
            runner.prefill([ask(1)])
    assert tries == 1


def test_a_process_that_is_stopped_is_killed_and_the_next_call_has_another(start: Start) -> None:
    runner = start()
    state, _ = runner.prefill([ask(1, 2)])
    assert runner.pid is not None
    process = psutil.Process(runner.pid)
    process.suspend()
    runner._silence_s = 0.5
    with pytest.raises(BatchLostError, match="-9"):
        runner.decode(state)
    assert not process.is_running()
    runner._silence_s = PATIENCE_S
    again, _ = runner.prefill([ask(1, 2)])
    assert said(runner, again, 4) == [b"t aa"]


def test_a_silent_process_that_still_computes_has_until_it_has_had_its_time(start: Start) -> None:
    """On a machine that is busy with something else, silence is no fault of its own."""
    runner = start(greedy)
    runner._silence_s = 0.5
    _, steps = runner.prefill([ask(1, 2)])
    assert len(steps) == 1


def test_a_process_that_computes_without_end_is_killed(start: Start) -> None:
    runner = start(endless)
    runner._silence_s = 0.5
    with pytest.raises(BatchLostError, match="-9"):
        runner.prefill([ask(1, 2)])


def test_a_process_that_is_stopped_before_it_says_anything_is_killed_and_another_tried(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions wait for it no longer than for a process that computes."""
    runner = start()
    runner._silence_s = 0.5
    born: list[psutil.Process] = []

    class StandsStill(lifeline.Lifeline):
        def __init__(self, process: BaseProcess) -> None:
            super().__init__(process)
            born.append(psutil.Process(process.pid))
            born[-1].suspend()

    # Stopped as soon as it is there: fast enough, or it has said so much; then it does not say the next.
    monkeypatch.setattr(runner_process, "Lifeline", StandsStill)
    kill(runner)
    assert not runner.ensure_started()
    assert [process.is_running() for process in born] == [False]
    monkeypatch.undo()
    monkeypatch.setattr(runner, "_no_try_before", 0.0)
    runner._silence_s = PATIENCE_S
    state, _ = runner.prefill([ask(1, 2)])
    assert said(runner, state, 4) == [b"t aa"]


def kill_fork_server() -> None:
    """The process that runners are forked from."""
    server = psutil.Process(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
    server.kill()
    # Waited for where multiprocessing looks, which has to find its end itself.
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)


def test_it_outlives_the_process_that_it_was_forked_from(start: Start) -> None:
    runner = start()
    before = runner.pid
    state, _ = runner.prefill([ask(1, 2)])
    kill_fork_server()
    assert runner.ensure_started()
    assert runner.pid == before
    assert said(runner, state, 4) == [b"t aa"]


def test_another_is_started_before_it_is_needed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = start()
    kill_fork_server()
    monkeypatch.setattr(lifeline, "_LOOK_EACH_S", 0.0)
    assert runner.ensure_started()
    assert psutil.pid_exists(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
    kill(runner)
    assert runner.ensure_started()
    state, _ = runner.prefill([ask(1, 2)])
    assert said(runner, state, 4) == [b"t aa"]


def test_one_that_is_stopped_ends_even_if_that_has_died(start: Start) -> None:
    runner = start()
    assert runner.pid is not None
    process = psutil.Process(runner.pid)
    process.suspend()
    kill_fork_server()
    runner.close()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


class Heard:
    """A pipe, and how often a sign of life came over it."""

    def __init__(self, pipe: _Pipe | None) -> None:
        assert pipe is not None
        self._pipe = pipe
        self.send, self.close = pipe.send, pipe.close
        self.signs = 0
        self.waited_s: list[float] = []

    def poll(self, timeout_s: float) -> bool:
        self.waited_s.append(timeout_s)
        return self._pipe.poll(timeout_s)

    def recv(self) -> object:
        found = self._pipe.recv()
        self.signs += found == "alive"
        return found


def test_a_long_step_says_that_it_goes_on(start: Start) -> None:
    runner = start(slow)
    pipe = Heard(runner._pipe)
    runner._pipe = pipe  # type: ignore[assignment]
    _, steps = runner.prefill([ask(1, 2)])
    assert len(steps) == 1
    # And after each it is waited for anew.
    assert pipe.signs >= 2
    assert pipe.waited_s == [PATIENCE_S] * (pipe.signs + 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_does_not_end_it(start: Start, number: signal.Signals) -> None:
    runner = start()
    assert runner.pid is not None
    os.kill(runner.pid, number)
    state, _ = runner.prefill([ask(1, 2)])
    assert said(runner, state, 4) == [b"t aa"]


def test_closed_it_is_gone_even_from_the_middle_of_a_step(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = start(stubborn)
    state, _ = runner.prefill([ask(1, 2)])
    assert runner.pid is not None
    process = psutil.Process(runner.pid)

    asked = threading.Event()
    answer = runner._answer

    def waits(pipe: _Pipe, silence_s: float) -> object:
        asked.set()
        return answer(pipe, silence_s)

    monkeypatch.setattr(runner, "_answer", waits)

    async def close_meanwhile() -> None:
        stuck = asyncio.create_task(asyncio.to_thread(runner.decode, state))
        await asyncio.to_thread(asked.wait, PATIENCE_S)
        await asyncio.to_thread(runner.close)
        with pytest.raises(BatchLostError):
            await stuck

    asyncio.run(close_meanwhile())
    assert not process.is_running()
    with pytest.raises(BatchLostError, match="no longer served"):
        runner.prefill([ask(1)])


async def test_one_that_dies_while_nobody_asks_is_there_again(start: Start) -> None:
    runner = start()
    before = runner.pid
    engine: Engine[HeldState] = Engine(made("it "), EngineConfig(batches=1), runner_of=lambda _: runner)
    await engine.start()
    try:
        kill(runner)
        await until(lambda: runner.started and runner.pid != before)
        assert await answer_of(engine, ask(1, 2)) == "it aa"
    finally:
        await engine.stop()


async def answer_of(engine: Engine[HeldState], prompt: Prompt) -> str:
    return (await engine.submit(Request(prompt, "user")).completion()).text


async def test_of_a_batch_whose_process_is_killed_every_question_is_answered(start: Start) -> None:
    runners = [start(partial(made, "x" * 400)) for _ in range(2)]
    config = EngineConfig(batches=2, max_batch=8, default_new_tokens=256)
    engine: Engine[HeldState] = Engine(made("x" * 400), config, runner_of=runners.__getitem__)
    await engine.start()
    try:
        asking = [asyncio.create_task(answer_of(engine, ask(n))) for n in range(1, 13)]
        for runner in runners:
            await until(lambda: engine.running > 0)
            kill(runner)
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.gather(*asking) == ["x" * 256] * 12
    finally:
        await engine.stop()


async def test_a_question_that_kills_its_process_fails_alone(start: Start) -> None:
    runner = start()
    engine: Engine[HeldState] = Engine(made("it "), EngineConfig(), runner_of=lambda _: runner)
    await engine.start()
    try:
        good = [asyncio.create_task(answer_of(engine, ask(1, n))) for n in range(1, 6)]
        bad = engine.submit(Request(ask(POISON), "user"))
        broken = engine.submit(Request(ask(BROKEN), "user"))
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.gather(*good) == ["it aa"] * 5
            with pytest.raises(EngineFailureError, match="lost while this question"):
                await bad.completion()
            with pytest.raises(EngineFailureError, match="broken"):
                await broken.completion()
            assert await answer_of(engine, ask(1, 2, 3)) == "it aaa"
    finally:
        await engine.stop()


async def test_beside_a_process_that_cannot_be_started_every_question_is_answered(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners = [start(), start()]

    def fail(speaks_within_s: float) -> None:
        raise ModelError("/models/secret is gone")

    monkeypatch.setattr(runners[0], "_start", fail)
    kill(runners[0])
    config = EngineConfig(batches=2, max_batch=2)
    engine: Engine[HeldState] = Engine(made("it "), config, runner_of=runners.__getitem__)
    await engine.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            answers = await asyncio.gather(*(answer_of(engine, ask(1, n)) for n in range(1, 41)))
        assert answers == ["it aa"] * 40
        assert (engine.runners, engine.ready) == ((1, 2), True)
        monkeypatch.undo()
        monkeypatch.setattr(runners[0], "_no_try_before", 0.0)
        while engine.runners != (2, 2):
            await answer_of(engine, ask(1))
    finally:
        await engine.stop()
