from __future__ import annotations

import threading

import pytest

from edge_server.engine.queue import FairQueue
from edge_server.engine.request import Job, Priority, Request
from edge_server.errors import EngineOverloadedError
from tests.waiting import PATIENCE_S
from tests.weightless import ask

ROOM = 10**6


def job(
    user: str,
    *,
    positions: int = 10,
    deadline_at: float = 100.0,
    new_tokens: int = 5,
    priority: Priority = "interactive",
) -> Job:
    return Job(
        Request(ask(), user, priority=priority),
        positions=positions,
        max_new_tokens=new_tokens,
        deadline_s=deadline_at,
        now=0.0,
    )


def order(queue: FairQueue) -> list[str]:
    users = []
    while (popped := queue.pop(ROOM)) is not None:
        users.append(popped.request.user)
    return users


def test_a_user_with_a_hundred_waiting_does_not_delay_one_with_one() -> None:
    queue = FairQueue(256, 256)
    for _ in range(100):
        queue.push(job("heavy"), 0.0)
    for _ in range(5):
        queue.pop(ROOM)
    queue.push(job("light"), 0.0)
    assert "light" in order(queue)[:2]


def test_users_with_equal_questions_take_turns() -> None:
    queue = FairQueue(64, 64)
    for user in ("a", "b", "c"):
        for _ in range(4):
            queue.push(job(user), 0.0)
    served = order(queue)
    for turn in range(4):
        assert sorted(served[3 * turn : 3 * turn + 3]) == ["a", "b", "c"]


def test_long_prompts_cost_more_of_the_share_than_short_ones() -> None:
    queue = FairQueue(64, 64)
    for _ in range(10):
        queue.push(job("long", positions=40), 0.0)
        queue.push(job("short", positions=10), 0.0)
    assert order(queue)[:10].count("short") == 8


def test_decoded_tokens_are_charged() -> None:
    queue = FairQueue(64, 64)
    for user in ("talker", "listener"):
        for _ in range(3):
            queue.push(job(user), 0.0)
    queue.charge_tokens([job("talker")] * 50)
    assert order(queue)[:3] == ["listener"] * 3


def test_absence_is_no_credit() -> None:
    queue = FairQueue(256, 256)
    for _ in range(50):
        queue.push(job("busy"), 0.0)
    for _ in range(30):
        queue.pop(ROOM)
    for _ in range(20):
        queue.push(job("newcomer"), 0.0)
    # Were the newcomer's counter zero, it would have the next thirty turns to itself.
    assert 4 <= order(queue)[:10].count("newcomer") <= 6


def test_a_user_comes_back_after_its_questions_were_taken_out() -> None:
    queue = FairQueue(8, 8)
    first = job("a")
    queue.push(first, 0.0)
    queue.push(job("b"), 0.0)
    assert queue.remove(first)
    assert not queue.remove(first)
    again = job("a")
    queue.push(again, 0.0)
    assert sorted(order(queue)) == ["a", "b"]
    assert len(queue) == 0


def test_a_full_queue_refuses_with_a_delay_that_follows_the_pace() -> None:
    queue = FairQueue(4, 4)
    for _ in range(2):
        queue.push(job("a"), 0.0)
        queue.push(job("b"), 0.0)
    with pytest.raises(EngineOverloadedError) as refused:
        queue.push(job("a"), 0.5)
    assert refused.value.reason == "queue"
    # Three of the four are through by then.
    assert refused.value.retry_delay_s == pytest.approx(1.5)
    with pytest.raises(EngineOverloadedError):
        queue.refuse_if_full("a", 0.5)


def test_a_users_own_bound_comes_first() -> None:
    queue = FairQueue(100, 2)
    queue.push(job("a"), 0.0)
    queue.push(job("a"), 0.0)
    with pytest.raises(EngineOverloadedError) as refused:
        queue.push(job("a"), 0.1)
    assert refused.value.reason == "queue_per_user"
    assert queue.push(job("b"), 0.1) is None


def test_in_a_full_queue_the_heaviest_user_makes_room_for_a_light_one() -> None:
    queue = FairQueue(4, 4)
    jobs = [job("heavy") for _ in range(4)]
    for heavy in jobs:
        queue.push(heavy, 0.0)
    assert queue.push(job("light"), 0.0) is jobs[-1]
    assert len(queue) == 4


def test_users_that_ask_about_as_much_do_not_put_out_one_anothers_questions() -> None:
    queue = FairQueue(8, 8)
    jobs = [job("more") for _ in range(5)]
    for each in (*jobs, *(job("less") for _ in range(3))):
        queue.push(each, 0.0)
    with pytest.raises(EngineOverloadedError):
        queue.push(job("less"), 0.0)
    # Of one that has fewer than half as many, each takes the place of one of theirs.
    assert queue.push(job("new"), 0.0) is jobs[-1]
    assert queue.push(job("new"), 0.0) is jobs[-2]
    with pytest.raises(EngineOverloadedError):
        queue.push(job("new"), 0.0)


def test_what_does_not_fit_is_waited_for() -> None:
    queue = FairQueue(8, 8)
    queue.push(job("a", positions=90, new_tokens=10), 0.0)
    assert queue.pop(99) is None
    assert queue.pop(100) is not None


def test_expired_questions_leave() -> None:
    queue = FairQueue(8, 8)
    soon, late = job("a", deadline_at=10.0), job("a", deadline_at=20.0)
    queue.push(soon, 0.0)
    queue.push(late, 0.0)
    assert queue.remove_expired(9.9) == []
    assert queue.remove_expired(10.0) == [soon]
    assert queue.remove_expired(20.0) == [late]
    assert len(queue) == 0


def test_counters_of_users_that_went_away_are_forgotten() -> None:
    queue = FairQueue(8, 8)
    for number in range(5000):
        queue.push(job(f"user-{number}"), 0.0)
        queue.pop(ROOM)
    share = queue._classes["interactive"]
    assert len(share._service) < 2000
    assert len(share._order) < 10


def classes(queue: FairQueue, count: int) -> list[str]:
    popped = [queue.pop(ROOM) for _ in range(count)]
    return [each.request.priority for each in popped if each is not None]


def test_background_gets_a_small_share_and_never_starves() -> None:
    queue = FairQueue(256, 256)
    for number in range(60):
        queue.push(job("device", priority="background"), 0.0)
        queue.push(job(f"person-{number % 3}"), 0.0)
    taken = classes(queue, 54)
    assert taken.count("background") == 6
    # Spread out, not in one heap.
    assert all(taken[begin : begin + 9].count("background") == 1 for begin in range(0, 54, 9))


def test_background_alone_has_everything_and_whoever_is_waited_for_comes_next() -> None:
    queue = FairQueue(256, 256)
    for _ in range(50):
        queue.push(job("device", priority="background"), 0.0)
    assert classes(queue, 30) == ["background"] * 30
    queue.push(job("person"), 0.0)
    assert classes(queue, 2) == ["interactive", "background"]


def test_background_that_was_away_does_not_come_first() -> None:
    queue = FairQueue(256, 256)
    for _ in range(60):
        queue.push(job("person"), 0.0)
    running = [queue.pop(ROOM) for _ in range(30)]
    queue.charge_tokens([each for each in running if each is not None] * 100)
    for _ in range(10):
        queue.push(job("device", priority="background"), 0.0)
    assert classes(queue, 18).count("background") <= 3


def test_inside_background_users_take_turns() -> None:
    queue = FairQueue(256, 256)
    for _ in range(100):
        queue.push(job("heavy", priority="background"), 0.0)
    for _ in range(5):
        queue.pop(ROOM)
    queue.push(job("light", priority="background"), 0.0)
    assert "light" in order(queue)[:2]


def test_while_somebody_asks_few_background_questions_are_under_way() -> None:
    queue = FairQueue(256, 256, max_background_beside=2)
    for _ in range(60):
        queue.push(job("device", priority="background"), 0.0)
    assert len([queue.pop(ROOM) for _ in range(10)]) == 10  # nobody asks
    queue.push(job("person"), 0.0)
    person = queue.pop(ROOM)
    assert person is not None
    assert person.request.user == "person"
    assert queue.pop(ROOM) is None
    queue.release(person)
    assert queue.pop(ROOM) is None, "who asked a moment ago will ask again"


def test_background_goes_on_beside_who_asks_and_is_alone_once_nobody_does() -> None:
    queue = FairQueue(256, 256, max_background_beside=1)
    queue.push(job("person"), 0.0)
    assert queue.pop(ROOM) is not None
    for _ in range(60):
        queue.push(job("device", priority="background"), 0.0)
    one_by_one = 0
    while (taken := queue.pop(ROOM)) is not None:
        if (another := queue.pop(ROOM)) is not None:
            break
        queue.release(taken)
        one_by_one += 1
    assert 0 < one_by_one < 20
    assert another is not None
    assert another.request.priority == "background"


def test_background_can_be_passed_over() -> None:
    queue = FairQueue(8, 8)
    background, interactive = job("device", priority="background"), job("person")
    queue.push(background, 0.0)
    assert queue.pop(ROOM, background=False) is None
    queue.push(interactive, 0.0)
    assert queue.pop(ROOM, background=False) is interactive
    assert queue.pop(ROOM) is background


def test_in_a_full_queue_background_makes_room_for_interactive_and_not_the_other_way_round() -> None:
    queue = FairQueue(4, 4)
    interactive = [job("a"), job("h")]
    background = [job("b", priority="background"), job("c", priority="background")]
    for each in (*interactive, *background):
        queue.push(each, 0.0)
    with pytest.raises(EngineOverloadedError):
        queue.push(job("d", priority="background"), 0.0)
    assert queue.push(job("e"), 0.0) in background
    assert queue.push(job("f"), 0.0) in background
    with pytest.raises(EngineOverloadedError):
        queue.push(job("g"), 0.0)
    assert len(queue) == 4


def test_a_users_bound_counts_both_classes() -> None:
    queue = FairQueue(100, 2)
    queue.push(job("a"), 0.0)
    queue.push(job("a", priority="background"), 0.0)
    with pytest.raises(EngineOverloadedError) as refused:
        queue.push(job("a"), 0.1)
    assert refused.value.reason == "queue_per_user"


def test_while_others_have_questions_too_a_user_holds_only_part_of_the_rows() -> None:
    queue = FairQueue(64, 64, max_taken_per_user=3)
    heavy = [job("heavy") for _ in range(10)]
    for each in heavy:
        queue.push(each, 0.0)
    queue.push(job("light"), 0.0)
    assert order(queue) == ["heavy", "light", "heavy", "heavy"]
    assert len(queue) == 7
    # A row of its own comes free: the next of its questions may come.
    queue.release(heavy[0])
    assert order(queue) == ["heavy"]


def test_alone_a_user_may_hold_every_row() -> None:
    queue = FairQueue(64, 64, max_taken_per_user=3)
    for _ in range(10):
        queue.push(job("heavy"), 0.0)
    assert order(queue) == ["heavy"] * 10


def test_who_is_left_alone_is_not_held_back_any_more() -> None:
    queue = FairQueue(64, 64, max_taken_per_user=1)
    light = job("light")
    queue.push(light, 0.0)
    for _ in range(3):
        queue.push(job("heavy"), 0.0)
    assert order(queue) == ["light", "heavy"]
    waiter = threading.Thread(target=queue.wait, args=(lambda: False,))
    waiter.start()
    waiter.join(0.05)
    assert waiter.is_alive(), "what waits may not be taken"
    queue.release(light)
    waiter.join(PATIENCE_S)
    assert not waiter.is_alive()
    assert order(queue) == ["heavy", "heavy"]


def test_a_question_taken_back_leaves_its_neighbour_alone() -> None:
    queue = FairQueue(64, 64, max_taken_per_user=1)
    for _ in range(2):
        queue.push(job("heavy"), 0.0)
    assert queue.pop(ROOM) is not None
    light = job("light")
    queue.push(light, 0.0)
    assert queue.remove(light)
    assert order(queue) == ["heavy"]


def test_what_is_put_back_goes_before_its_users_others_whatever_the_bounds() -> None:
    queue = FairQueue(2, 2, max_taken_per_user=1)
    first, second, third = job("a"), job("a"), job("b")
    queue.push(first, 0.0)
    assert queue.pop(ROOM) is first
    queue.push(second, 0.0)
    queue.push(third, 0.0)
    queue.put_back(first)
    assert len(queue) == 3
    taken = [queue.pop(ROOM), queue.pop(ROOM), queue.pop(ROOM)]
    # Of user a, one question at a time is held: the first again, before the second.
    assert taken == [third, first, None] or taken == [first, third, None]
    queue.release(first)
    assert queue.pop(ROOM) is second


def test_what_is_put_back_expires_like_others() -> None:
    queue = FairQueue(8, 8)
    expiring = job("a", deadline_at=5.0)
    queue.push(expiring, 0.0)
    queue.pop(ROOM)
    queue.remove_expired(1.0)
    queue.put_back(expiring)
    assert queue.remove_expired(6.0) == [expiring]
    assert len(queue) == 0
