"""Asks every HTTP request for an API key, but for what probes need.

Programs send ``Authorization: Bearer KEY``, as the OpenAI SDK does. A browser cannot be told to, so pages may
come with the key as the password of HTTP's Basic scheme (RFC 7617), which browsers ask their user for; the
programs' own paths, under ``/v1/``, do not take it: a browser would send it along with forms of other sites.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable
from typing import Protocol

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_server.cell import Peer
from edge_server.errors import EdgeServerError, UnauthenticatedError
from edge_server.frontdoor.http.body_limit import PEER
from edge_server.frontdoor.http.errors import response_of

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/livez", "/readyz"})
_POLICY_VIOLATION = 1008


class KeyRing(Protocol):
    """Knows API keys."""

    def peer_of_key(self, key: str) -> Peer:
        """Whose API key this is.

        Raises:
            UnauthenticatedError: nobody's, or it was revoked.
        """


class ApiKeys:
    """ASGI middleware; leaves who asks in the scope.

    Args:
        app: what to protect.
        keys: the keys that are good.
        is_open: whether a path needs none.
        refused: told, in one word, why somebody was not let in.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        is_open: Callable[[str], bool],
        refused: Callable[[str], None],
    ) -> None:
        self._app = app
        self._keys = keys
        self._is_open = is_open
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass whose key is good."""
        if scope["type"] in ("http", "websocket") and not self._is_open(scope["path"]):
            try:
                scope[PEER] = self._keys.peer_of_key(_key_of(HTTPConnection(scope)))
            except EdgeServerError as error:
                await self._refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _refuse(self, error: EdgeServerError, scope: Scope, receive: Receive, send: Send) -> None:
        reason = error.reason if isinstance(error, UnauthenticatedError) else "keys"
        self._refused(reason)
        client = scope.get("client")
        logger.info(
            "not let in", extra={"reason": reason, "path": scope["path"], "address": client and client[0]}
        )
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": str(error)})
            return
        response = response_of(error)
        if isinstance(error, UnauthenticatedError) and not scope["path"].startswith("/v1/"):
            response.headers["WWW-Authenticate"] = 'Basic realm="TokenLink: the API key is the password"'
        await response(scope, receive, send)


def _key_of(request: HTTPConnection) -> str:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic" if not request.url.path.startswith("/v1/"):
            try:
                _, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
            except (binascii.Error, ValueError) as error:
                raise UnauthenticatedError(
                    "Authorization: is no Basic credential", reason="no_key"
                ) from error
            return password
        case _:
            raise UnauthenticatedError(
                "an API key is needed: Authorization: Bearer KEY (`edge-server keys add` makes one)",
                reason="no_key",
            )
