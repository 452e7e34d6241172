"""Users over REST: ``POST /v1/infer`` with the token blocks of the same questions."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx

from deploy.loadtest.target import EXPIRED, Failed, Question, Refused, Template
from protos.names import DTYPES, MODALITIES
from protos.tokenlink.v1 import tokenlink_pb2 as pb

_TRY_AGAIN = (429, 503)
_ANSWER_WITHIN_S = 310.0


class RestTarget:
    """An edge server's REST door. Every user has a connection of their own.

    Args:
        url: ``http://host:port``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._bodies: dict[int, tuple[Template, bytes]] = {}

    async def connect(self, user: int) -> RestConnection:
        """A client of its own; nothing is sent yet."""
        return RestConnection(self, user)

    def body(self, template: Template, user: int) -> bytes:
        """The JSON of a question, made once; whose it is stands at its end."""
        known = self._bodies.get(id(template))
        if known is None:
            # The template is kept beside it: an id is only unique while its object lives.
            known = self._bodies[id(template)] = (template, json.dumps(fields_of(template)).encode())
        return known[1][:-1] + b', "user": "loadtest-%d"}' % user


class RestConnection:
    """One user's HTTP client."""

    def __init__(self, target: RestTarget, user: int) -> None:
        self._target = target
        self._user = user
        self._client = httpx.AsyncClient(base_url=target.url, timeout=_ANSWER_WITHIN_S)

    async def ask(self, question: Question) -> str:
        """One POST; see the protocol. A cancelled one closes its connection, which cancels at the server."""
        try:
            response = await self._client.post(
                "/v1/infer",
                content=self._target.body(question.template, self._user),
                headers={"Content-Type": "application/json"},
            )
        except httpx.HTTPError as error:
            raise Failed("connection", str(error) or type(error).__name__) from error
        if response.status_code == 200:
            return str(response.json()["answer"])
        raise ending_of(response)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()


def fields_of(template: Template) -> dict[str, Any]:
    """A question as ``/v1/infer`` takes it: its words and its blocks, not its ids."""
    message = template.message
    blocks = [
        {
            "modality": MODALITIES.of_number[block.modality],
            "dtype": DTYPES.of_number[block.dtype],
            "shape": list(block.shape),
            "scale": block.scale,
            "data": base64.b64encode(block.data).decode(),
            "crc32": block.crc32,
            "snr_db": block.channel.effective_snr_db,
        }
        for block in message.payloads
    ]
    analog = any(block.modality == pb.MODALITY_TEXT for block in message.payloads)
    return {
        "question": "" if analog else template.text,
        "blocks": blocks,
        "max_new_tokens": message.max_new_tokens,
        "deadline_s": message.deadline_ms / 1000.0,
    }


def ending_of(response: httpx.Response) -> Refused | Failed:
    """A response that is no answer as the exception that ends a question."""
    try:
        detail = response.json()["error"]
        message, code = str(detail["message"]), str(detail["code"])
    except (ValueError, KeyError, TypeError):
        message, code = response.text[:200], f"http_{response.status_code}"
    if response.status_code in _TRY_AGAIN:
        delay_ms = response.headers.get("Retry-After-Ms", "")
        delay_s = response.headers.get("Retry-After", "")
        if delay_ms.isdigit():
            return Refused(int(delay_ms) / 1000.0, message)
        return Refused(float(delay_s) if delay_s.isdigit() else 0.0, message)
    return Failed(EXPIRED if response.status_code == 504 else code, message)
