from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from edge_server.engine import Completion, Delta, EngineConfig, Prompt, SilentObserver, Step
from edge_server.engine.detokenizer import Detokenizer, Progress, Publication
from edge_server.engine.ports import RunnerUnavailableError
from edge_server.engine.queue import FairQueue
from edge_server.engine.request import Job, JobState, Priority, Request, Token
from edge_server.engine.sampling import Sampling
from edge_server.engine.scheduler import Scheduler
from edge_server.errors import (
    DeadlineExpiredError,
    EdgeServerError,
    EngineFailureError,
    InvalidQuestionError,
    QuestionCancelledError,
)
from tests.clock import FakeClock
from tests.weightless import State, WeightlessModel, ask


class Bench:
    """A scheduler that is stepped by hand."""

    def __init__(self, model: WeightlessModel, config: EngineConfig | None = None) -> None:
        self.model = model
        self.config = config or EngineConfig(decode_steps_between_prefills=1)
        self.clock = FakeClock()
        self.queue = FairQueue(256, 256)
        self.ends: dict[Job, Completion | EdgeServerError] = {}
        self.said: dict[Job, str] = {}
        self.tokens: dict[Job, tuple[Token, ...]] = {}
        self.told = 0
        self.detokenizer = Detokenizer(model.text, self._publish)
        self.scheduler: Scheduler[State] = Scheduler(
            model, model.eos_id, self.queue, self.config, self.clock, SilentObserver(), self._tell
        )

    def _tell(self, progress: list[Progress]) -> None:
        self.told += 1
        self.detokenizer.put(progress)
        self.detokenizer.step()

    def _publish(self, news: list[Publication]) -> None:
        for job, event in news:
            if isinstance(event, Delta):
                assert job not in self.ends, "a piece came after the end"
                self.said[job] = self.said.get(job, "") + event.text
                self.tokens[job] = (*self.tokens.get(job, ()), *event.tokens)
            else:
                assert job not in self.ends, "a question ended twice"
                self.ends[job] = event

    def ask(
        self,
        prompt: Prompt,
        *,
        new_tokens: int = 100,
        deadline_s: float = 60.0,
        priority: Priority = "interactive",
        whole: bool = False,
        stop: tuple[str, ...] = (),
        tokens: bool = False,
    ) -> Job:
        job = Job(
            Request(prompt, "user", priority=priority, whole=whole, stop=stop, tokens=tokens),
            positions=self.model.check(prompt),
            max_new_tokens=new_tokens,
            deadline_s=deadline_s,
            now=self.clock(),
        )
        self.queue.push(job, 0.0)
        return job

    def run(self, steps: int = 200) -> None:
        for _ in range(steps):
            self.scheduler.step()
            if not self.scheduler.rows and not len(self.queue):
                return

    def answer(self, job: Job) -> str:
        end = self.ends[job]
        assert isinstance(end, Completion), end
        assert self.said.get(job, "") == end.text
        return end.text


def speaks(words: dict[int, str]) -> WeightlessModel:
    """Answers by the first question id."""
    return WeightlessModel(answer=lambda prompt: words[prompt.question_ids[0]])


def fails_for(question_id: int, *, from_token: int = 0):  # type: ignore[no-untyped-def]
    def fault(rows: State) -> None:
        for row in rows:
            if row.prompt.question_ids[0] == question_id and row.said >= from_token:
                raise RuntimeError("a poisoned row")

    return fault


def test_an_answer_with_its_figures() -> None:
    bench = Bench(speaks({1: "violin"}))
    job = bench.ask(ask(1, 2, 3, blocks={"video": 16, "audio": 4}))
    bench.clock.advance(0.5)
    bench.run()
    assert bench.ends[job] == Completion(
        text="violin",
        probability=0.5**6,
        prompt_tokens=23,
        answer_tokens=6,
        queue_s=0.5,
        compute_s=0.0,
        finish_reason="stop",
        first_token_s=0.5,
        logprobs=(math.log(0.5),) * 6,
    )


def test_of_an_answer_that_is_wanted_whole_nothing_is_told_before_its_end() -> None:
    bench = Bench(speaks({1: "violin"}))
    job = bench.ask(ask(1), whole=True)
    bench.run()
    assert bench.answer(job) == "violin"
    assert bench.told == 1


@pytest.mark.parametrize("whole", [False, True])
def test_a_text_that_ends_an_answer_frees_its_row(whole: bool) -> None:
    bench = Bench(speaks({1: "a violin and then a drum", 2: "yes"}))
    stops = bench.ask(ask(1), whole=whole, stop=("and", "drum"), tokens=True)
    other = bench.ask(ask(2), whole=whole, tokens=True)
    bench.run()
    assert bench.answer(stops) == "a violin "
    end = bench.ends[stops]
    assert isinstance(end, Completion)
    assert end.finish_reason == "stop"
    # What the text spells; the last blank's text came with a token that belongs to what ended it.
    assert bytes(token.token_id for token in end.tokens) == b"a violin "
    assert bench.tokens[stops] == end.tokens
    assert (end.answer_tokens, len(end.logprobs)) == (12, 12)
    assert bytes(token.token_id for token in bench.tokens[other]) == bench.answer(other).encode()
    assert not bench.scheduler.rows
    assert sum(bench.model.decodes) < 12 + 4 + 3


def test_a_text_that_comes_with_the_last_token_ends_the_answer_too() -> None:
    bench = Bench(speaks({1: "a drum", 2: "a drum"}))
    cut = bench.ask(ask(1), new_tokens=6, stop=("um",))
    ended = bench.ask(ask(2), stop=("um",), whole=True)
    bench.run()
    assert [bench.answer(job) for job in (cut, ended)] == ["a dr", "a dr"]
    assert [bench.ends[job].finish_reason for job in (cut, ended)] == ["stop", "stop"]  # type: ignore[union-attr]


def test_tokens_are_told_with_the_text_that_they_spell() -> None:
    bench = Bench(speaks({1: "é la", 2: "é la"}))
    prompt = replace(ask(1), sampling=Sampling(alternatives=2))
    streamed, whole = bench.ask(prompt, tokens=True), bench.ask(replace(prompt), tokens=True, whole=True)
    plain = bench.ask(ask(2))
    bench.run()
    for job in (streamed, whole):
        assert bytes(token.token_id for token in bench.tokens[job]) == "é la".encode()
        assert all(token.logprob == math.log(0.5) for token in bench.tokens[job])
        assert [token.alternatives[1] for token in bench.tokens[job]] == [(ord("x"), math.log(0.25))] * 5
    assert bench.tokens[plain] == ()
    assert bench.ends[plain].tokens == ()  # type: ignore[union-attr]


def test_an_answer_is_cut_at_max_new_tokens() -> None:
    bench = Bench(speaks({1: "saxophone"}))
    job = bench.ask(ask(1), new_tokens=3)
    bench.run()
    end = bench.ends[job]
    assert isinstance(end, Completion)
    assert (end.text, end.finish_reason, end.answer_tokens) == ("sax", "length", 3)


def test_questions_join_and_leave_between_steps() -> None:
    bench = Bench(speaks({1: "a long caption of the stage", 2: "yes"}))
    caption = bench.ask(ask(1))
    bench.scheduler.step()
    short = bench.ask(ask(2))
    for _ in range(4):
        bench.scheduler.step()
    assert bench.answer(short) == "yes"
    assert caption not in bench.ends
    assert max(bench.model.decodes) == 2
    bench.run()
    assert bench.answer(caption) == "a long caption of the stage"


def test_prompts_of_any_length_and_modality_share_a_prefill() -> None:
    bench = Bench(WeightlessModel())
    jobs = [
        bench.ask(ask(1)),
        bench.ask(ask(1, 2, 3, blocks={"image": 1})),
        bench.ask(ask(1, blocks={"video": 32, "audio": 8})),
    ]
    bench.run()
    assert bench.model.prefills == [3]
    assert [bench.answer(job) for job in jobs] == ["1", "3+image:1", "1+video:32+audio:8"]


def test_the_batch_is_bounded_in_rows() -> None:
    bench = Bench(WeightlessModel(), EngineConfig(max_batch=3))
    jobs = [bench.ask(ask(1)) for _ in range(8)]
    bench.run()
    assert max(bench.model.decodes) == 3
    assert len([bench.answer(job) for job in jobs]) == 8


def test_the_batch_is_bounded_in_positions() -> None:
    bench = Bench(WeightlessModel(), EngineConfig(max_batch_positions=100))
    jobs = [bench.ask(ask(1, blocks={"video": 32}), new_tokens=10) for _ in range(5)]
    bench.run()
    assert max(bench.model.decodes) == 2
    assert len([bench.answer(job) for job in jobs]) == 5


def test_while_answers_are_under_way_a_step_reads_only_so_many_prompts() -> None:
    bench = Bench(
        speaks({1: "x" * 40, 2: "yes"}),
        EngineConfig(max_prefill_positions=50, decode_steps_between_prefills=1),
    )
    caption = bench.ask(ask(1))
    bench.scheduler.step()
    questions = [bench.ask(ask(2, blocks={"video": 16})) for _ in range(10)]
    long = bench.ask(ask(2, blocks={"video": 200}))
    bench.scheduler.step()
    # 17 positions each: the third begins below the bound and ends above it.
    assert bench.model.prefills == [1, 3]
    assert len(bench.said[caption]) == 3
    bench.run()
    assert [bench.answer(job) for job in (*questions, long)] == ["yes"] * 11
    # Longer than the bound: read alone, not never.
    assert bench.model.prefills == [1, 3, 3, 3, 2]


def test_with_nobody_to_keep_waiting_all_prompts_are_read_at_once() -> None:
    bench = Bench(speaks({2: "yes"}), EngineConfig(max_prefill_positions=50))
    for _ in range(10):
        bench.ask(ask(2, blocks={"video": 16}))
    bench.scheduler.step()
    assert bench.model.prefills == [10]


def test_after_a_prefill_answers_get_some_words_further_before_the_next() -> None:
    bench = Bench(speaks({1: "x" * 40, 2: "yes"}), EngineConfig(decode_steps_between_prefills=4))
    caption = bench.ask(ask(1))
    for _ in range(6):
        bench.scheduler.step()
    assert len(bench.said[caption]) == 7
    # Nobody came for a while: who comes now need not wait.
    first = bench.ask(ask(2))
    bench.scheduler.step()
    assert bench.model.prefills == [1, 1]
    others = [bench.ask(ask(2)) for _ in range(3)]
    for _ in range(3):
        bench.scheduler.step()
        assert bench.model.prefills == [1, 1]
    assert bench.answer(first) == "yes"
    bench.scheduler.step()
    assert bench.model.prefills == [1, 1, 3]
    bench.run()
    assert [bench.answer(job) for job in others] == ["yes"] * 3


def test_with_no_answer_under_way_nobody_waits_for_words() -> None:
    bench = Bench(speaks({2: "y"}), EngineConfig(decode_steps_between_prefills=4))
    for count in range(1, 6):
        job = bench.ask(ask(2))
        bench.run()
        assert bench.answer(job) == "y"
        assert bench.model.prefills == [1] * count


def test_one_word_answers_pass_long_captions() -> None:
    bench = Bench(speaks({1: "x" * 90, 2: "y"}), EngineConfig(max_batch=9, decode_steps_between_prefills=1))
    captions = [bench.ask(ask(1)) for _ in range(8)]
    bench.scheduler.step()
    for _ in range(20):
        short = bench.ask(ask(2))
        bench.scheduler.step()
        assert bench.answer(short) == "y"
    assert not any(job in bench.ends for job in captions)


def test_background_leaves_rows_to_those_who_are_waited_for() -> None:
    bench = Bench(speaks({1: "x" * 50, 2: "yes"}), EngineConfig(max_batch=4, decode_steps_between_prefills=1))
    background = [bench.ask(ask(1), priority="background") for _ in range(6)]
    bench.scheduler.step()
    assert bench.scheduler.rows == 3
    short = bench.ask(ask(2))
    for _ in range(3):
        bench.scheduler.step()
    assert bench.answer(short) == "yes"
    bench.run()
    assert [bench.answer(job) for job in background] == ["x" * 50] * 6


@dataclass
class Yielding(WeightlessModel):
    """Knows which of its prefills were to give way, and what was asked in each."""

    yields: bool = False
    asked: list[tuple[bool, int]] = field(default_factory=list)

    def give_way(self, whether: bool) -> None:
        self.yields = whether

    def prefill(self, prompts: Sequence[Prompt], state: State | None = None) -> tuple[State, list[Step]]:
        self.asked.append((self.yields, prompts[0].question_ids[0]))
        return super().prefill(prompts, state)


def test_what_nobody_waits_for_gives_way_while_others_ask() -> None:
    model = Yielding(answer=lambda prompt: "ok")
    bench = Bench(model, EngineConfig(batches=2))
    for question, priority in ((1, "background"), (2, "interactive"), (3, "background")):
        bench.ask(ask(question), priority=priority)  # type: ignore[arg-type]
        bench.run()
    # Before anybody had asked, all of the machine was free for it.
    assert model.asked == [(False, 1), (False, 2), (True, 3)]


def test_with_one_batch_nothing_gives_way() -> None:
    model = Yielding(answer=lambda prompt: "ok")
    bench = Bench(model, EngineConfig(batches=1))
    for question, priority in ((2, "interactive"), (3, "background")):
        bench.ask(ask(question), priority=priority)  # type: ignore[arg-type]
        bench.run()
    assert model.asked == [(False, 2), (False, 3)]


def test_an_empty_batch_is_given_the_next_prompts() -> None:
    given: list[State | None] = []

    class Watched(WeightlessModel):
        def prefill(self, prompts: Sequence[Prompt], state: State | None = None) -> tuple[State, list[Step]]:
            given.append(state)
            return super().prefill(prompts, state)

    bench = Bench(Watched(answer=lambda prompt: "ok"))
    for _ in range(2):
        bench.ask(ask(1))
        bench.run()
    assert given == [None, ()]


def test_cancelled_and_expired_questions_cost_no_compute() -> None:
    bench = Bench(WeightlessModel())
    cancelled, expired, kept = bench.ask(ask(1)), bench.ask(ask(2), deadline_s=1.0), bench.ask(ask(3))
    cancelled.advance(JobState.CANCELLED)
    bench.clock.advance(2.0)
    bench.run()
    assert isinstance(bench.ends[cancelled], QuestionCancelledError)
    assert isinstance(bench.ends[expired], DeadlineExpiredError)
    assert bench.answer(kept) == "1"
    assert bench.model.prefills == [1]


@pytest.mark.parametrize("how", ["cancel", "expire"])
def test_a_running_row_leaves_within_one_step(how: str) -> None:
    bench = Bench(speaks({1: "x" * 50, 2: "y" * 50}))
    leaves, stays = bench.ask(ask(1), deadline_s=5.0), bench.ask(ask(2))
    bench.scheduler.step()
    if how == "cancel":
        leaves.advance(JobState.CANCELLED)
    else:
        bench.clock.advance(6.0)
    bench.scheduler.step()
    assert bench.scheduler.rows == 1
    assert bench.model.decodes == [2, 1]
    assert leaves in bench.ends
    bench.run()
    assert bench.answer(stays) == "y" * 50


@pytest.mark.parametrize("from_token", [0, 1, 3])
def test_of_a_failing_batch_only_the_culprit_fails(from_token: int) -> None:
    model = speaks({1: "violin", 2: "poison", 3: "drum"})
    model.prefill_fault = model.decode_fault = fails_for(2, from_token=from_token)
    bench = Bench(model)
    first, culprit, third = bench.ask(ask(1)), bench.ask(ask(2)), bench.ask(ask(3))
    bench.run()
    assert bench.answer(first) == "violin"
    assert bench.answer(third) == "drum"
    assert isinstance(bench.ends[culprit], EngineFailureError)
    assert "poisoned" in str(bench.ends[culprit])


def test_a_failure_that_passes_leaves_no_trace_in_the_answers() -> None:
    model = speaks({1: "violin", 2: "trumpet"})
    failures = iter([None, None, RuntimeError("a passing cloud")])

    def fault(rows: State) -> None:
        failure = next(failures, None)
        if failure is not None:
            raise failure

    model.decode_fault = fault
    bench = Bench(model)
    jobs = [bench.ask(ask(1)), bench.ask(ask(2))]
    bench.run()
    assert [bench.answer(job) for job in jobs] == ["violin", "trumpet"]


def test_a_model_that_always_fails_fails_every_question_and_nothing_hangs() -> None:
    def fault(rows: State) -> None:
        raise MemoryError("out of memory")

    bench = Bench(WeightlessModel(prefill_fault=fault))
    jobs = [bench.ask(ask(1)) for _ in range(5)]
    bench.run()
    assert all(isinstance(bench.ends[job], EngineFailureError) for job in jobs)
    assert bench.scheduler.rows == 0
    bench.model.prefill_fault = lambda rows: None
    after = bench.ask(ask(1))
    bench.run()
    assert bench.answer(after) == "1"


def test_rows_that_cannot_be_joined_end_instead_of_going_round_for_ever() -> None:
    def fault(rows: State) -> None:
        raise RuntimeError("no room")

    bench = Bench(speaks({1: "first", 2: "second"}))
    bench.model.merge_fault = fault
    first = bench.ask(ask(1))
    bench.scheduler.step()
    second = bench.ask(ask(2))
    bench.run()
    assert {type(bench.ends[first]), type(bench.ends[second])} == {Completion, EngineFailureError}


def test_an_answer_that_changes_when_run_again_is_cut_off_not_mixed() -> None:
    answers = iter(["violin", "drum"])
    model = WeightlessModel(answer=lambda prompt: next(answers))
    model.decode_fault = fails_for(1, from_token=2)
    bench = Bench(model)
    job = bench.ask(ask(1))
    bench.run()
    assert isinstance(bench.ends[job], EngineFailureError)
    assert bench.said[job] == "vi"


def test_of_an_answer_that_is_wanted_whole_nobody_has_heard_and_it_begins_anew() -> None:
    answers = iter(["violin", "drum"])
    model = WeightlessModel(answer=lambda prompt: next(answers))

    def fault(rows: State) -> None:
        model.decode_fault = lambda rows: None
        raise RuntimeError("once")

    bench = Bench(model)
    job = bench.ask(ask(1), whole=True, tokens=True)
    bench.scheduler.step()
    model.decode_fault = fault
    bench.run()
    assert bench.answer(job) == "drum"
    end = bench.ends[job]
    assert isinstance(end, Completion)
    assert (end.probability, end.answer_tokens, len(end.tokens)) == (0.5**4, 4, 4)


def test_a_model_that_loses_rows_is_caught() -> None:
    class Forgetful(WeightlessModel):
        def decode(self, state: State) -> tuple[State, list[Step]]:
            state, steps = super().decode(state)
            return state, steps[:1]

    bench = Bench(Forgetful())
    jobs = [bench.ask(ask(1, blocks={"audio": 2})), bench.ask(ask(1, blocks={"audio": 4}))]
    bench.run()
    ends = [bench.ends[job] for job in jobs]
    assert all(
        end.text.startswith("1+audio:")
        if isinstance(end, Completion)
        else isinstance(end, EngineFailureError)
        for end in ends
    )


def test_a_probability_that_is_none_fails_its_own_row_only() -> None:
    class Doubtful(WeightlessModel):
        def _step(self, rows: State) -> tuple[State, list[Step]]:
            state, steps = super()._step(rows)
            return state, [
                Step(step.token_id, float("nan")) if row.prompt.question_ids[0] == 2 else step
                for step, row in zip(steps, rows, strict=True)
            ]

    bench = Bench(Doubtful())
    good, bad = bench.ask(ask(1)), bench.ask(ask(2))
    bench.run()
    assert bench.answer(good) == "1"
    assert isinstance(bench.ends[bad], EngineFailureError)


def test_tokens_that_spell_no_text_fail_their_own_row_only() -> None:
    class Mute(WeightlessModel):
        def text(self, token_ids: Sequence[int]) -> str:
            if ord("!") in token_ids:
                raise KeyError("!")
            return super().text(token_ids)

    bench = Bench(Mute(answer=lambda prompt: {1: "fine", 2: "wrong!"}[prompt.question_ids[0]]))
    good, bad = bench.ask(ask(1)), bench.ask(ask(2))
    bench.run()
    assert bench.answer(good) == "fine"
    assert isinstance(bench.ends[bad], EngineFailureError)


def test_a_prompt_that_is_found_invalid_only_when_run_names_its_field() -> None:
    from edge_server.engine import InvalidPromptError

    def fault(rows: State) -> None:
        if any(row.prompt.question_ids[0] == 2 for row in rows):
            raise InvalidPromptError("payloads[0].data", "is absurd")

    bench = Bench(WeightlessModel(prefill_fault=fault))
    good, bad = bench.ask(ask(1)), bench.ask(ask(2))
    bench.run()
    assert bench.answer(good) == "1"
    end = bench.ends[bad]
    assert isinstance(end, InvalidQuestionError)
    assert end.field == "payloads[0].data"


class Restarted(WeightlessModel):
    """A runner that may be without its process."""

    up = True

    @property
    def started(self) -> bool:
        return self.up

    def ensure_started(self) -> bool:
        return self.up

    def lose(self) -> None:
        """Its process is gone, and there is no other to be had."""
        self.up = False

        def lost(rows: State) -> None:
            raise RunnerUnavailableError("its process cannot be started")

        self.prefill_fault = self.decode_fault = lost


def restarted(words: dict[int, str]) -> Restarted:
    return Restarted(answer=lambda prompt: words[prompt.question_ids[0]])


def test_while_there_is_no_runner_nothing_is_taken_and_nothing_fails() -> None:
    model = restarted({1: "violin"})
    bench = Bench(model)
    model.up = False
    job = bench.ask(ask(1))
    bench.scheduler.step()
    assert (len(bench.queue), bench.ends, bench.scheduler.available) == (1, {}, False)
    model.up = True
    bench.run()
    assert bench.answer(job) == "violin"


def test_what_a_batch_began_whose_runner_is_gone_is_gone_on_with_by_another() -> None:
    model = restarted({1: "violin", 2: "a long caption"})
    bench = Bench(model)
    jobs = [bench.ask(ask(1)), bench.ask(ask(2))]
    for _ in range(3):
        bench.scheduler.step()
    said = dict(bench.said)
    assert all(said.values())
    model.lose()
    bench.scheduler.step()
    assert (bench.scheduler.rows, len(bench.queue)) == (0, 2)
    other = speaks({1: "violin", 2: "a long caption"})
    bench.scheduler = Scheduler(
        other, other.eos_id, bench.queue, bench.config, bench.clock, SilentObserver(), bench._tell
    )
    bench.run()
    assert [bench.answer(job) for job in jobs] == ["violin", "a long caption"]


def test_what_a_dead_runner_began_is_in_the_queue_while_it_is_started_again() -> None:
    model = restarted({1: "violin"})
    bench = Bench(model)
    job = bench.ask(ask(1))
    bench.scheduler.step()
    assert (bench.scheduler.rows, len(bench.queue)) == (1, 0)
    model.up = False
    seen: list[tuple[int, bool]] = []

    def start() -> bool:
        seen.append((len(bench.queue), bench.scheduler.available))
        model.up = True
        return True

    model.ensure_started = start  # type: ignore[method-assign]
    bench.scheduler.step()
    assert seen[0] == (1, False)
    bench.run()
    assert bench.answer(job) == "violin"


def test_a_runner_that_is_lost_between_two_looks_costs_no_question() -> None:
    model = restarted({1: "violin"})
    bench = Bench(model)
    job = bench.ask(ask(1))
    model.lose()
    model.up = True  # it is found gone only by the call
    bench.scheduler.step()
    assert (bench.ends, len(bench.queue)) == ({}, 1)
    model.prefill_fault = model.decode_fault = lambda rows: None
    bench.run()
    assert bench.answer(job) == "violin"


def test_a_deadline_holds_while_there_is_no_runner() -> None:
    model = restarted({1: "violin"})
    bench = Bench(model)
    model.up = False
    job = bench.ask(ask(1), deadline_s=5.0)
    bench.clock.advance(6.0)
    bench.scheduler.step()
    assert isinstance(bench.ends[job], DeadlineExpiredError)
