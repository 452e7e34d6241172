"""What was made of media is found again, within a bound."""

from __future__ import annotations

import io

from edge_server.server.remembered import Remembered, digest_of


def test_what_was_used_least_recently_goes() -> None:
    remembered: Remembered[bytes] = Remembered(len, most_bytes=10)
    for key in "abc":
        remembered.keep(key, key.encode() * 4)
        assert remembered.find("a") == b"aaaa"
    assert remembered.find("b") is None
    assert remembered.find("c") == b"cccc"
    remembered.keep("large", b"x" * 11)
    assert remembered.find("large") is None
    remembered.keep("a", b"other")
    assert remembered.find("a") == b"aaaa"


def test_a_file_is_known_by_what_it_holds_and_can_be_read_after() -> None:
    one, same, other = (io.BytesIO(data) for data in (b"picture", b"picture", b"pictures"))
    one.read(3)
    assert digest_of(one) == digest_of(same) != digest_of(other)
    assert one.read() == b"picture"
