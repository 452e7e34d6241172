"""Addresses as users write them."""

from __future__ import annotations

import pytest

from device_agent.uplink.address import host_and_port, with_port


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("localhost", "localhost:50051"),
        ("edge.example.net", "edge.example.net:50051"),
        ("127.0.0.1", "127.0.0.1:50051"),
        ("localhost:7", "localhost:7"),
        (" localhost:7 ", "localhost:7"),
        ("::1", "[::1]:50051"),
        ("[::1]", "[::1]:50051"),
        ("[fe80::1%eth0]:9", "[fe80::1%eth0]:9"),
        ("dns:///edge.example.net:9", "dns:///edge.example.net:9"),
        ("unix:/run/edge.sock", "unix:/run/edge.sock"),
    ],
)
def test_an_address_without_a_port_gets_the_servers(written: str, meant: str) -> None:
    assert with_port(written) == meant


@pytest.mark.parametrize(
    "written", ["http://localhost:50051", "https://edge", "localhost:grpc", "localhost:70000"]
)
def test_what_is_no_address_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        with_port(written)


def test_host_and_port_are_told_apart() -> None:
    assert host_and_port("[::1]:5") == ("::1", 5)
    assert host_and_port("dns:///edge:5") == ("edge", 5)
    assert host_and_port("edge") is None
