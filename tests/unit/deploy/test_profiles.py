"""Profiles as data, what they ask for, and the users that they describe."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from deploy.loadtest.measurement import Measurement, together
from deploy.loadtest.plot import main as plot
from deploy.loadtest.profile import Group, Phase, Profile, ProfileError, Thresholds, read_profile, shipped
from deploy.loadtest.questions import Bundle
from deploy.loadtest.running import run
from deploy.loadtest.target import Question
from deploy.loadtest.thresholds import broken
from deploy.loadtest.users import Users, snr_trace
from protos.tokenlink.v1 import tokenlink_pb2 as pb


def bundle() -> Bundle:
    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return Bundle("ab" * 32, 8, (4, 8, 16, 32), words)


def phase(**values: object) -> Phase:
    return Phase.model_validate({"name": "it", "mode": "closed", "seconds": 1.0} | values)


class Door:
    """Answers at once."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self.connected = 0
        self.open = 0

    async def connect(self, user: int) -> Door.Line:
        self.connected += 1
        self.open += 1
        return Door.Line(self, user)

    class Line:
        def __init__(self, door: Door, user: int) -> None:
            self.door, self.user = door, user

        async def ask(self, question: Question) -> str:
            self.door.asked[self.user] += 1
            return "yes"

        async def close(self) -> None:
            self.door.open -= 1


def test_the_shipped_profiles_can_be_read() -> None:
    assert shipped() == ("mixed", "overload", "smoke", "stampede", "steady")
    profiles = {name: read_profile(name) for name in shipped()}
    assert profiles["stampede"].users == 1000
    assert profiles["overload"].phases[1].rate_of_capacity == 10.0
    assert {group.name for group in profiles["mixed"].groups} == {"heavy", "light"}


ONE_USER = 'summary = ""\n[[groups]]\ncount = 1\n[[phases]]\nname = "x"\nseconds = 1\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "summary"),
        ("summary = 3 3", "cannot be read"),
        ('summary = ""\nphases = []\n[[groups]]\ncount = 0', "groups.0.count"),
        (ONE_USER + 'mode = "open"', "rate_hz"),
        (ONE_USER + 'mode = "open"\nrate_of_capacity = 2', "no phase before it measures"),
        (ONE_USER + 'mode = "closed"\nthresholds.others = {}', "no group"),
    ],
)
def test_a_profile_that_cannot_be_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=complaint):
        read_profile(str(path))


def test_users_differ_and_each_is_the_same_again() -> None:
    group = Group(count=3, modalities=(("video", "audio"), ("audio",)), token_lengths=(4, 16, 32))
    users = Users(group, bundle(), 5, seed=1)
    assert list(users.numbers) == [5, 6, 7]
    assert users.trace(5) != users.trace(6)
    assert users.trace(5) == snr_trace(group, 1, 5)
    snrs_db = users.trace(5).snrs_db
    assert min(snrs_db) >= 0.0
    assert max(snrs_db) <= 20.0
    assert max(snrs_db) - min(snrs_db) > 5.0
    asked = [pb.Question.FromString(users.draw(6).data) for _ in range(20)]
    assert len({question.request_id for question in asked}) == 20
    assert {len(question.payloads) for question in asked} == {1, 2}
    with pytest.raises(ValueError, match="token_lengths has \\[5\\]"):
        Users(Group(count=1, token_lengths=(5,)), bundle(), 0, seed=1)


def test_a_bad_link_is_sent_more_tokens() -> None:
    now = [0.0]
    group = Group(count=1, token_lengths=(4, 32), modalities=(("audio",),), snr_step_s=1.0)
    users = Users(group, bundle(), 0, seed=3, clock=lambda: now[0])
    lengths = {}
    for step, snr_db in enumerate(users.trace(0).snrs_db[:300]):
        now[0] = float(step) + 0.5
        block = pb.Question.FromString(users.draw(0).data).payloads[0]
        lengths[snr_db] = block.shape[0]
        assert abs(block.channel.effective_snr_db - snr_db) <= 2.5
    assert lengths[min(lengths)] == 32
    assert lengths[max(lengths)] == 4


def test_thresholds_say_what_does_not_hold() -> None:
    found = Measurement("open", 1, 1.0, offered=10, sent=8, dropped=2, refusals=3, refusals_without_delay=1)
    found.outcomes.update({"answered": 4, "refused": 3, "failed": 1})
    found.in_window.update({"answered": 4})
    found.faults["internal"] = 1
    found.latencies.record(0.5)

    def complaints(**limits: object) -> list[str]:
        relaxed = {"max_failed_share": None, "refusals_say_when": False}
        it = phase(thresholds={"all": Thresholds.model_validate(relaxed | limits)})
        return broken(it, {"all": found}, capacity_hz=10.0)

    assert complaints() == []
    assert "p99 is 0.5 s, at most 0.1 s" in complaints(max_p99_s=0.1)[0]
    assert "internal 1" in complaints(max_failed_share=0.0)[0]
    assert complaints(max_failed_share=0.2) == []
    assert "3 of 8" in complaints(max_refused_share=0.1)[0]
    assert "0.40 of the capacity" in complaints(min_goodput_of_capacity=0.9)[0]
    assert "2 of 10" in complaints(max_dropped_share=0.0)[0]
    assert "1 of 3 refusals" in complaints(refusals_say_when=True)[0]
    found.outcomes.clear()
    assert "none of 8" in complaints()[0]


def test_groups_add_up() -> None:
    one, other = (Measurement("closed", users, 1.0, offered=3, sent=3) for users in (1, 2))
    for each, latency_s in ((one, 0.1), (other, 0.3)):
        each.outcomes["answered"] = 3
        each.latencies.record(latency_s)
    whole = together([one, other])
    assert (whole.users, whole.offered, whole.outcomes["answered"]) == (3, 6, 6)
    assert whole.latencies.at(100) == pytest.approx(0.3, rel=1e-3)


async def test_phases_follow_one_another_over_the_same_connections(tmp_path: Path) -> None:
    profile = Profile.model_validate(
        {
            "summary": "two phases",
            "groups": [{"name": "few", "count": 1, "think_s": [0.01, 0.01]}, {"name": "many", "count": 3}],
            "phases": [
                {"name": "capacity", "mode": "closed", "seconds": 0.2, "measures_capacity": True},
                {
                    "name": "half",
                    "mode": "open",
                    "seconds": 0.5,
                    "rate_of_capacity": 0.05,
                    "thresholds": {"many": {"max_p50_s": 1e-6}},
                },
            ],
        }
    )
    known, door = bundle(), Door()
    users = [Users(profile.groups[0], known, 0, 1), Users(profile.groups[1], known, 1, 1)]
    report = await run(profile, door, users, rng=random.Random(1))
    assert door.connected == 4
    assert door.open == 0
    assert len(report.connected) == 4
    closed, opened = (result.measurements for result in report.phases)
    assert report.capacity_hz == closed["all"].answered_hz > 0
    assert opened["many"].offered > opened["few"].offered > 0
    assert opened["all"].offered / 0.5 == pytest.approx(0.05 * report.capacity_hz, rel=0.5)
    assert len(report.broken) == 1
    results, picture = tmp_path / "report.json", tmp_path / "report.png"
    results.write_text(json.dumps(report.to_json()))
    plot([str(results), str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")
