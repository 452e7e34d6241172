"""What schemathesis does not know of this API: which model is served, and how its refusals look.

Loaded by schemathesis, which is told the module's name in ``SCHEMATHESIS_HOOKS``.
"""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response

MODEL = "weightless"

_WITHOUT_FIELD = frozenset({401, 403, 405, 429, 499})
"""Refused whatever the fields say."""


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    """Ask for the model that is served: else nearly every chat would end at its name."""
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        return body | {"model": MODEL}
    return body


@schemathesis.check
def refusals_name_their_field(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """A 4xx has the shape that all errors have, and says which field is at fault."""
    if not 400 <= response.status_code < 500:
        return
    body = json.loads(response.content)
    error = body.get("error") if isinstance(body, dict) else None
    assert isinstance(error, dict), f"another shape: {body}"
    assert set(error) == {"message", "type", "code", "param"}, f"another shape: {body}"
    assert error["message"], "no message"
    if response.status_code not in _WITHOUT_FIELD:
        assert error["param"], f"names no field: {error}"
