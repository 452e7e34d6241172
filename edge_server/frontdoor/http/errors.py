"""Errors over HTTP in one JSON shape, OpenAI's: ``{"error": {"message", "type", "code", "param"}}``."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from edge_server.errors import EdgeServerError, UnauthenticatedError
from edge_server.frontdoor.status import field_of, known, retry_delay_s, status_of

logger = logging.getLogger(__name__)

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_READING = ("GET", "HEAD")


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    """A sentence that the asker can act on."""
    type: str
    """One of ``status.STATUSES``, such as ``invalid_request_error`` or ``rate_limit_error``."""
    code: str | None = None
    """The gRPC status code in lower case, or a more specific word."""
    param: str | None = None
    """The field at fault, as a path."""


class ErrorBody(BaseModel):
    """Every error has this shape."""

    error: ErrorDetail


def body_of(error: EdgeServerError, *, code: str | None = None) -> ErrorBody:
    """An error as JSON."""
    status = status_of(error)
    return ErrorBody(
        error=ErrorDetail(
            message=str(error), type=status.kind, code=code or status.code, param=field_of(error) or None
        )
    )


def response_of(error: EdgeServerError, *, code: str | None = None) -> JSONResponse:
    """An error as a response, with ``Retry-After`` where another try is worth it."""
    headers = {}
    delay_s = retry_delay_s(error)
    if delay_s is not None:
        headers["Retry-After"] = str(max(math.ceil(delay_s), 1))
        # Finer than whole seconds; the OpenAI SDK prefers it.
        headers["Retry-After-Ms"] = str(math.ceil(delay_s * 1000))
    if isinstance(error, UnauthenticatedError):
        headers["WWW-Authenticate"] = 'Bearer realm="TokenLink"'
    return JSONResponse(body_of(error, code=code).model_dump(), status_of(error).http, headers)


def http_response(method: str, path: str, error: HTTPException) -> JSONResponse:
    """An error of HTTP's own as a response."""
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    message = f"{method} {path}: {error.detail}"
    param = "body" if error.status_code in _OF_THE_BODY else None
    detail = ErrorDetail(message=message, type=kind, code=_CODES.get(error.status_code), param=param)
    return JSONResponse(ErrorBody(error=detail).model_dump(), error.status_code, error.headers)


def install(app: FastAPI) -> None:
    """Map every error of an application."""

    @app.exception_handler(EdgeServerError)
    async def ours(request: Request, error: EdgeServerError) -> JSONResponse:
        return response_of(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = _fault(error)
        if tuple(first["loc"]) == ("body",) and not _says_json(request):
            return _no_json(request)
        # The first part says where FastAPI looked ("body"); of a JSON error the second is an offset.
        path = [] if first["type"] == "json_invalid" else _as_sent(first["loc"], error.body)
        if first["type"] in _OF_A_TYPE:
            path.append("type")
        param = _path(path) or str(first["loc"][0])
        reason = (
            str(first.get("ctx", {}).get("error", ""))[:_MOST_SAID] if first["type"] == "json_invalid" else ""
        )
        context = {name: str(value)[:_MOST_SHOWN] for name, value in first.get("ctx", {}).items()}
        message = _OF_A_TYPE.get(first["type"], str(first["msg"])[:_MOST_SAID]).format(**context)
        message = message.removeprefix("Value error, ")
        message = f"{message}: {reason}" if reason else message
        detail = ErrorDetail(
            message=f"{param}: {message}",
            type="invalid_request_error",
            code="invalid_argument",
            param=param,
        )
        return JSONResponse(ErrorBody(error=detail).model_dump(), 400)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 405:
            error = HTTPException(405, error.detail, {"Allow": ", ".join(_allowed(app, request.scope))})
        if error.status_code == 404 and _asks_the_api(app, request):
            # Clients of OpenAI's have more paths than this door, and base URLs lack what comes before them.
            error = HTTPException(404, f"{error.detail}; there are {', '.join(_paths(app))}")
        return http_response(request.method, request.url.path, error)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        logger.error("an unexpected error on %s", request.url.path, exc_info=error)
        return response_of(known(error))


def is_there(app: FastAPI, path: str) -> bool:
    """Whether any route of an application is for a path, whatever the method."""
    asked = {"type": "http", "path": path, "root_path": "", "method": "GET", "headers": []}
    return any(route.matches(asked)[0] is not Match.NONE for route in app.routes)


def _asks_the_api(app: FastAPI, request: Request) -> bool:
    path = request.url.path
    return path.startswith(API) or request.method not in _READING or is_there(app, API + path.lstrip("/"))


def _allowed(app: FastAPI, scope: Scope) -> list[str]:
    """Methods that any route of a path takes; Starlette names one route's (RFC 9110, 15.5.6)."""
    asked = {name: scope.get(name, "") for name in ("type", "path", "root_path")} | {"headers": []}
    taken = [
        method
        for method in _METHODS
        if any(route.matches({**asked, "method": method})[0] is Match.FULL for route in app.routes)
    ]
    # What can be read can be asked about.
    return [*taken[:1], "HEAD", *taken[1:]] if "GET" in taken else taken


def _paths(app: FastAPI) -> list[str]:
    """What can be asked for below :data:`API`, as the interface describes itself."""
    described: dict[str, dict[str, object]] = app.openapi()["paths"]
    return sorted(
        f"{method.upper()} {path}"
        for path, methods in described.items()
        if path.startswith(API)
        for method in methods
    )


API = "/v1/"
"""Where the interfaces for programs are."""
_CODES = {
    400: "invalid_argument",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
}

_OF_THE_BODY = frozenset({400, 408, 413, 415})
"""What HTTP itself refuses because of the body."""


_MOST_SHOWN, _MOST_SAID = 128, 1024
"""Characters of a name, and of a sentence, that a client sent or caused: it is not told its own megabytes."""
_OF_A_TYPE = {
    "union_tag_invalid": "is '{tag}'; allowed: {expected_tags}",
    "union_tag_not_found": "is missing",
}
"""Of content that says by its type what it is, where that is wrong."""


def _says_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _no_json(request: Request) -> JSONResponse:
    sent = request.headers.get("content-type")
    detail = ErrorDetail(
        message=f"Content-Type: {'is missing' if sent is None else f'is {sent[:64]!r}'}; "
        "application/json is needed",
        type="invalid_request_error",
        code=_CODES[415],
        param="Content-Type",
    )
    return JSONResponse(ErrorBody(error=detail).model_dump(), 415)


def _fault(error: RequestValidationError) -> Mapping[str, Any]:
    """What to tell of all that pydantic found: of a union, what its members say deepest within."""
    found: Sequence[Mapping[str, Any]] = error.errors()
    first = found[0]
    path = _as_sent(first["loc"], error.body)
    if len(path) == len(first["loc"]) - 1:
        return first
    within = [each for each in found if _as_sent(each["loc"], error.body)[: len(path)] == path]
    return max(within, key=lambda each: len(_as_sent(each["loc"], error.body)))


def _as_sent(place: Sequence[int | str], body: object) -> list[int | str]:
    """A path without the names by which a union's members are told apart: nobody sent those.

    Args:
        place: where pydantic found a fault; its first part says where FastAPI looked.
        body: what was sent.
    """
    if place[0] != "body":
        return list(place[1:])
    path: list[int | str] = []
    here = body
    for number, part in enumerate(place[1:], 2):
        if isinstance(here, dict) and (part in here or number == len(place)):
            here = here.get(part)  # of the last one: what is missing
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            continue
        path.append(part)
    return path


def _path(parts: list[int | str]) -> str:
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part[:_MOST_SHOWN]}" if path else part[:_MOST_SHOWN]
    return path
