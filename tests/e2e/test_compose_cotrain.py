"""compose.cotrain.yaml for real: three devices of shifted worlds learn, live on the page; one is killed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browsing import looking
from tests.e2e.stack import ANSWERED_WITHIN_S, HEALED_WITHIN_S, Stack, brought_up, docker

LEARNERS = ("dark", "noisy", "hum")
ROUNDS = 60


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TOKENLINK_COTRAIN_ROUNDS", str(ROUNDS))
        with brought_up(["compose.yaml", "compose.cotrain.yaml"], tmp_path_factory) as running:
            yield running


def status_of(school: Stack) -> dict[str, Any]:
    """How the round stands; as the server sees it, who shows it on the page."""
    try:
        told = docker("exec", school.container("server"), "cat", "/cotrain/round/status.json")
        found: dict[str, Any] = json.loads(told)
    except (AssertionError, ValueError):
        return {}
    return found


def step_of(school: Stack) -> int:
    return int(status_of(school).get("step", 0))


@pytest.mark.docker
@pytest.mark.slow
class TestSchool:
    def test_three_devices_learn(self, school: Stack) -> None:
        school.wait_for("cotrain", lambda: step_of(school) >= 3, ANSWERED_WITHIN_S)
        assert set(status_of(school)["devices"]) == set(LEARNERS)

    def test_the_page_shows_each_devices_loss_and_accuracy(self, school: Stack, browser: Browser) -> None:
        url = f"http://127.0.0.1:{school.environment['TOKENLINK_REST_PORT']}"
        with looking(browser, url) as watched:
            table = watched.page.locator("table", has_text="held out before")
            for device in LEARNERS:
                row = table.locator("tr", has_text=device)
                expect(row).to_contain_text(re.compile(r"\d\.\d{3}"))  # loss
                expect(row).to_contain_text(re.compile(r"\d+%"))  # right
                expect(row).to_contain_text(re.compile(r"\d+\.\d%"))  # held out, before
                expect(row.locator("svg")).to_be_visible()
            told = watched.page.get_by_text(re.compile(rf"Step \d+ of {ROUNDS}"))
            expect(told).to_be_visible()
            before = step_of(school)
            expect(told).not_to_contain_text(f"Step {before} of")  # nobody reloads the page

    def test_a_device_that_is_killed_comes_back(self, school: Stack) -> None:
        if step_of(school) < ROUNDS // 2:
            school.kill("hum")
            school.wait_for(
                "cotrain", lambda: status_of(school)["devices"]["hum"]["joins"] >= 2, HEALED_WITHIN_S
            )

    def test_the_round_ends_with_a_bundle_for_each(self, school: Stack) -> None:
        school.wait_for("cotrain", lambda: "report" in school_says(school), ANSWERED_WITHIN_S)
        devices = status_of(school)["devices"]
        for device in LEARNERS:
            losses = [loss for _, loss, _ in devices[device]["curve"]]
            assert sum(losses[-10:]) < sum(losses[:10])
            assert set(devices[device]["examined"]) == {"before", "after"}
        assert set(LEARNERS) == set(school_says(school)["report"]["devices"])

    @pytest.mark.parametrize("service", ["cotrain", *LEARNERS])
    def test_nothing_may_do_more_than_it_needs(self, school: Stack, service: str) -> None:
        found = docker(*("inspect", school.run("ps", "--all", "-q", service).split()[0]))
        host = json.loads(found)[0]["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["Memory"] > 0


def school_says(school: Stack) -> dict[str, Any]:
    """The last line that the round wrote."""
    container = school.run("ps", "-q", "--all", "cotrain").split()[0]
    lines = [line for line in docker("logs", container).splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return found
