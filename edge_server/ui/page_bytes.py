"""One text for all who ask for it: made once, compressed once, named by an ETag. Knows no page library."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response

_FRESH = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding, X-Forwarded-Prefix"}


@dataclass(frozen=True)
class _Variant:
    body: bytes
    etag: str
    encoding: str


class PageBytes:
    """An HTML page as it is sent.

    Args:
        html: the page, the same for every visitor.
    """

    def __init__(self, html: str) -> None:
        plain = html.encode()
        name = hashlib.sha256(plain).hexdigest()[:32]
        self._plain = _Variant(plain, f'"{name}"', "")
        self._gzip = _Variant(gzip.compress(plain, 9, mtime=0), f'"{name}-gzip"', "gzip")

    def response(self, headers: Headers) -> Response:
        """The answer to a GET or HEAD: 304 where the browser has these bytes already (RFC 9110, 13.1.2).

        Args:
            headers: of the request.
        """
        variant = self._gzip if _takes_gzip(headers.get("accept-encoding", "")) else self._plain
        sent = _FRESH | {"ETag": variant.etag}
        if _names(headers.get("if-none-match", ""), variant.etag):
            return Response(status_code=304, headers=sent)
        if variant.encoding:
            sent["Content-Encoding"] = variant.encoding
        return Response(variant.body, headers=sent, media_type="text/html")


def _takes_gzip(accept: str) -> bool:
    """Whether a client takes gzip (RFC 9110, 12.5.3): named, or by the star, and not with a weight of 0."""
    weights: dict[str, bool] = {}
    for part in accept.lower().split(","):
        coding, _, parameters = part.partition(";")
        weight = parameters.strip().removeprefix("q=")
        weights[coding.strip()] = weight.rstrip("0") not in ("", "0.", ".") if parameters.strip() else True
    return weights.get("gzip", weights.get("*", False))


def _names(if_none_match: str, etag: str) -> bool:
    """Whether a list of ETags names this one; weak ones compare alike."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag in tags
