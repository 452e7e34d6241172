"""The page's bytes: one text, compressed or not, and nothing at all where a browser has it."""

from __future__ import annotations

import gzip

import pytest
from starlette.datastructures import Headers

from edge_server.ui.page_bytes import PageBytes

HTML = "<!doctype html><p>é</p>" * 50


def ask(page: PageBytes, **headers: str) -> tuple[int, bytes, Headers]:
    response = page.response(Headers({name.replace("_", "-"): value for name, value in headers.items()}))
    return response.status_code, bytes(response.body), response.headers


@pytest.mark.parametrize(
    ("accept", "compressed"),
    [
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, GZIP;q=0.8", True),
        ("*", True),
        ("*;q=0.1", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("br", False),
        (";;q=,", False),
    ],
)
def test_is_compressed_for_whom_takes_it(accept: str, compressed: bool) -> None:
    status, body, headers = ask(PageBytes(HTML), accept_encoding=accept)
    assert status == 200
    assert headers.get("content-encoding") == ("gzip" if compressed else None)
    assert (gzip.decompress(body) if compressed else body).decode() == HTML
    assert headers["content-length"] == str(len(body))
    assert "accept-encoding" in headers["vary"].lower()


def test_is_not_sent_to_whom_has_it() -> None:
    page = PageBytes(HTML)
    for accept in ("", "gzip"):
        etag = ask(page, accept_encoding=accept)[2]["etag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            status, body, headers = ask(page, accept_encoding=accept, if_none_match=known)
            assert (status, body, headers["etag"]) == (304, b"", etag)
        assert ask(page, accept_encoding=accept, if_none_match='"other"')[0] == 200


def test_bytes_have_a_name_of_their_own() -> None:
    names = {
        ask(PageBytes(html), accept_encoding=accept)[2]["etag"]
        for html in (HTML, HTML + " ")
        for accept in ("", "gzip")
    }
    assert len(names) == 4
    assert ask(PageBytes(HTML))[2]["etag"] == ask(PageBytes(HTML))[2]["etag"]
