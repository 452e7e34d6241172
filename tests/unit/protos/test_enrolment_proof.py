from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.enrolment import EnrolToken, TokenError, make_proof, proof_is_good, stored_key

TOKEN = EnrolToken("00ff" * 4, bytes(range(32)), b"certificate")
NONCE, REQUEST = b"nonce" * 8, b"request"


def test_a_token_survives_being_written_down() -> None:
    assert EnrolToken.from_text(f"  {TOKEN.text()}\n") == TOKEN


@pytest.mark.parametrize(
    "text", ["", "hello", "tokenlink-enrol-1.", "tokenlink-enrol-1.%%%", TOKEN.text()[:40], "x" * 20_000]
)
def test_what_is_no_token_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(TokenError) as refused:
        EnrolToken.from_text(text)
    assert TOKEN.text()[20:40] not in str(refused.value)


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    for each in (text, "tokenlink-enrol-1." + text):
        with contextlib.suppress(TokenError):
            token = EnrolToken.from_text(each)
            assert EnrolToken.from_text(token.text()) == token


def test_a_proof_is_good_for_its_nonce_token_and_request_alone() -> None:
    kept = stored_key(TOKEN.secret)
    proof = make_proof(TOKEN, NONCE, REQUEST)
    assert proof_is_good(kept, proof, NONCE, TOKEN.token_id, REQUEST)
    assert not proof_is_good(kept, proof, NONCE[:-1] + b"x", TOKEN.token_id, REQUEST)
    assert not proof_is_good(kept, proof, NONCE, "11" * 8, REQUEST)
    assert not proof_is_good(kept, proof, NONCE, TOKEN.token_id, b"another key")
    assert not proof_is_good(kept, proof[:-1], NONCE, TOKEN.token_id, REQUEST)
    assert not proof_is_good(kept, proof[:-1] + bytes([proof[-1] ^ 1]), NONCE, TOKEN.token_id, REQUEST)


def test_what_the_server_keeps_makes_no_proof() -> None:
    kept = stored_key(TOKEN.secret)
    thief = EnrolToken(TOKEN.token_id, kept, b"")
    assert not proof_is_good(kept, make_proof(thief, NONCE, REQUEST), NONCE, TOKEN.token_id, REQUEST)


def test_a_token_shows_no_secret_when_printed() -> None:
    assert "secret" not in repr(TOKEN)
    assert TOKEN.secret.hex() not in repr(TOKEN)
