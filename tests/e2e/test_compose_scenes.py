"""The house of compose.scenes.yaml for real: cameras are asked, a rule is told, what is killed comes back."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest

from tests.e2e.stack import ANSWERED_WITHIN_S, HEALED_WITHIN_S, Stack, brought_up, docker

QUESTION = "What kind of instrument is on the right of the stage?"
DEVICES = ("hall", "porch/left", "porch/right")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with brought_up(["compose.scenes.yaml"], tmp_path_factory) as running:
        yield running


def scenes_of(house: Stack) -> dict[str, int]:
    """How many of each device the edge has."""
    port = house.environment["TOKENLINK_REST_PORT"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/scenes") as response:
            listed = json.load(response)["devices"]
    except OSError:
        return {}
    return {each["device"]: each["scenes"] for each in listed}


@pytest.mark.docker
@pytest.mark.slow
class TestHouse:
    def test_cameras_and_microphone_share(self, house: Stack) -> None:
        house.wait_for("porch", lambda: set(scenes_of(house)) == set(DEVICES), ANSWERED_WITHIN_S)

    def test_a_camera_is_asked_about_what_it_saw(self, house: Stack) -> None:
        asked = ["device-agent", "ask", "--scene", "porch/left", QUESTION, "--json"]
        answer = json.loads(docker("exec", house.container("porch"), *asked).splitlines()[-1])
        assert answer["answer"] == "saxophone"
        assert answer["cost"]["channel_uses"] == 0

    def test_the_rule_tells_the_broker_and_home_assistant(self, house: Stack) -> None:
        topics = ("tokenlink/rules/saxophone/porch_left/state", "homeassistant/binary_sensor/+/config")
        heard = [
            docker("exec", house.container("broker"), "mosquitto_sub", "-t", topic, "-C", "1", "-W", "120")
            for topic in topics
        ]
        assert heard[0].strip() == "on"
        assert json.loads(heard[1])["name"] == QUESTION

    @pytest.mark.parametrize("service", ["porch", "cameras", "server"])
    def test_what_is_killed_comes_back_and_goes_on(self, house: Stack, service: str) -> None:
        house.kill(service)
        house.wait_for("server", lambda: bool(scenes_of(house)), HEALED_WITHIN_S)
        before = scenes_of(house)
        more = {device: count + 1 for device, count in before.items()}
        house.wait_for(
            "porch", lambda: all(scenes_of(house).get(d, 0) >= n for d, n in more.items()), HEALED_WITHIN_S
        )

    def test_no_secret_is_logged(self, house: Stack) -> None:
        assert "not-a-secret" not in docker("logs", house.container("porch"))

    @pytest.mark.parametrize("service", ["server", "cameras", "broker", "porch", "hall"])
    def test_nothing_may_do_more_than_it_needs(self, house: Stack, service: str) -> None:
        assert docker("exec", house.container(service), "id", "-u").strip() != "0"
        host = house.inspect(service)["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["Memory"] > 0
