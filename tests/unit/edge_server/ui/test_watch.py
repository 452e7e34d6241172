from __future__ import annotations

import math
import threading

from edge_server.engine import Completion, Request
from edge_server.ui.watch import WINDOW_S, WatchedMetrics
from edge_server.ui.window import Quantiles, Window
from tests.clock import FakeClock
from tests.weightless import ask

ANSWER = Completion("yes", 0.9, 10, 1, 0.2, 0.4, "stop")


def test_quantiles_are_values_that_were_seen() -> None:
    window = Window(10.0, 1000, FakeClock())
    for value in range(1, 101):
        window.observe(float(value))
    assert window.quantiles() == Quantiles(100, 50.0, 99.0)
    window.observe(math.nan)
    assert window.quantiles().count == 100


def test_an_empty_window_has_no_quantiles() -> None:
    empty = Window(10.0, 10, FakeClock()).quantiles()
    assert empty.count == 0
    assert math.isnan(empty.p50)
    assert math.isnan(empty.p99)


def test_what_is_old_or_too_much_does_not_count() -> None:
    clock = FakeClock()
    window = Window(10.0, 3, clock)
    window.observe(1.0)
    clock.advance(6.0)
    window.observe(2.0)
    assert window.values() == [1.0, 2.0]
    clock.advance(6.0)
    assert window.values() == [2.0]
    for value in (3.0, 4.0, 5.0):
        window.observe(value)
    assert window.values() == [3.0, 4.0, 5.0]


def test_counts_per_second_end_with_the_present_one() -> None:
    clock = FakeClock(100.2)
    window = Window(60.0, 100, clock)
    window.observe(1.0)
    clock.now = 102.9
    window.observe(1.0)
    window.observe(1.0)
    assert window.per_second(4) == [0, 1, 0, 2]


def test_a_window_is_read_while_it_is_written() -> None:
    window = Window(1e9, 50, FakeClock())
    writers = [
        threading.Thread(target=lambda: [window.observe(float(n)) for n in range(20_000)]) for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert window.quantiles().count <= 50
        window.per_second(5)
    assert window.quantiles().count == 50


def test_what_is_counted_for_prometheus_is_seen_too() -> None:
    clock = FakeClock()
    watched = WatchedMetrics(clock=clock)
    watched.name_of = {"session-secret": "camera"}.__getitem__
    request = Request(ask(7, 8, blocks={"video": 4, "audio": 4}), "session-secret")
    watched.watch(
        ready=lambda: True,
        draining=lambda: False,
        waiting=lambda: 3,
        running=lambda: 1,
        queue_capacity=8,
        max_sessions=8,
    )
    for rows in (2, 2, 1):
        watched.decoded(rows, 0.01)
    watched.first_token(0.2, 0.3)
    watched.block("video", 4, 0.001, 9.0)
    watched.block("audio", 4, math.nan, 9.0)
    watched.answered(request, ANSWER)
    watched.ended("answered", 1, 0.6)
    watched.ended("cancelled", 0, 0.1)
    watched.rejected("queue")
    view = watched.view()
    assert (view.queue_depth, view.batch_rows, view.answered) == (3, 1, 1)
    assert view.outcomes == {"answered": 1, "cancelled": 1}
    assert view.refusals == {"queue": 1}
    assert view.batch_sizes == {1: 1, 2: 2}
    assert (view.queue, view.airtime, view.inference) == (
        Quantiles(1, 0.2, 0.2),
        Quantiles(1, 0.001, 0.001),
        Quantiles(1, 0.4, 0.4),
    )
    (answer,) = view.recent
    assert (answer.asker, answer.question_ids, answer.text) == ("camera", (7, 8), "yes")
    assert answer.blocks == (("video", 4), ("audio", 4))
    exposed = watched.exposition().decode()
    for line in (
        'tokenlink_rejections_total{kind="overload",reason="queue"} 1.0',
        "tokenlink_queue_depth 3.0",
        "tokenlink_inference_seconds_count 1.0",
        'tokenlink_questions_total{outcome="answered"} 1.0',
    ):
        assert line in exposed
    clock.advance(WINDOW_S + 1)
    later = watched.view()
    assert later.inference.count == 0
    assert later.answered == 1, "what is since start does not age"


def test_many_viewers_look_once() -> None:
    clock = FakeClock()
    watched = WatchedMetrics(clock=clock)
    first = watched.view()
    watched.rejected("queue")
    assert watched.view() is first
    clock.advance(0.6)
    assert watched.view().refusals == {"queue": 1}
