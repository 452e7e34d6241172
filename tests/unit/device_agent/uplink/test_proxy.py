"""Which links go through a proxy that the environment names."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from device_agent.uplink.proxy import DIRECT, is_near, proxy_of, proxy_options

NAMED = {"http_proxy": "http://user:secret@proxy.example:3128"}


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "::1", "localhost", "192.168.1.7", "10.0.0.1", "172.16.3.4", "fe80::1%eth0"),
        *("server", "edge.local", "EDGE.LAN.", "169.254.3.3", "fd00::5", "a.home.arpa"),
    ],
)
def test_this_machine_and_its_neighbours_are_near(host: str) -> None:
    assert is_near(host)


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "edge.example.net", "2a00:1450::1", "local.example", "172.32.0.1"]
)
def test_others_are_not(host: str) -> None:
    assert not is_near(host)


@pytest.mark.parametrize(
    ("server", "use_proxy", "environment", "variable"),
    [
        ("127.0.0.1:50051", None, NAMED, None),
        ("[::1]:50051", None, NAMED, None),
        ("edge.example.net:50051", None, NAMED, "http_proxy"),
        ("edge.example.net:50051", False, NAMED, None),
        ("127.0.0.1:50051", True, NAMED, "http_proxy"),
        ("edge.example.net:50051", None, {}, None),
        ("edge.example.net:50051", True, {}, None),
        ("edge.example.net:50051", None, {"http_proxy": ""}, None),
        ("edge.example.net:50051", None, {**NAMED, "grpc_proxy": "http://g:1"}, "grpc_proxy"),
        ("edge.example.net:50051", None, {**NAMED, "no_proxy": "other.example, example.net"}, None),
        ("edge.example.net:50051", None, {**NAMED, "no_proxy": "other.example"}, "http_proxy"),
    ],
)
def test_far_addresses_go_as_the_environment_says(
    server: str, use_proxy: bool | None, environment: Mapping[str, str], variable: str | None
) -> None:
    found = proxy_of(server, use_proxy, environment)
    assert (found and found[0]) == variable


def test_a_proxys_password_is_not_shown() -> None:
    assert proxy_of("edge.example.net:1", None, NAMED) == ("http_proxy", "http://proxy.example:3128")


def test_grpc_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    assert proxy_options("127.0.0.1:1", None) == DIRECT
    assert proxy_options("edge.example.net:1", None) == ()
