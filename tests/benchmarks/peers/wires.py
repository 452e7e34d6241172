"""How a question gets to each peer over HTTP, and its answer back: the same bytes inside every envelope."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp

from deploy.loadtest.target import Failed, Question, Refused

_ANSWER_WITHIN_S = 130.0
_JSON_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Wire:
    """One envelope.

    Attributes:
        path: of the URL.
        pack: a serialized ``pb.Question`` to the body and its headers.
        unpack: headers and body of a response to the answer's text.
    """

    path: str
    pack: Callable[[bytes], tuple[bytes, Mapping[str, str]]]
    unpack: Callable[[Mapping[str, str], bytes], str]


def _plain(data: bytes) -> tuple[bytes, Mapping[str, str]]:
    return data, {"Content-Type": "application/x-protobuf"}


def _in_json(data: bytes) -> tuple[bytes, Mapping[str, str]]:
    body = b'{"questions":["' + base64.b64encode(data) + b'"]}'
    return body, {"Content-Type": "application/json"}


def _as_tensor(data: bytes) -> tuple[bytes, Mapping[str, str]]:
    """A BYTES tensor after its description.

    https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
    """
    tensor = len(data).to_bytes(4, "little") + data
    described = (
        '{"inputs":[{"name":"question","shape":[1,1],"datatype":"BYTES","parameters":'
        f'{{"binary_data_size":{len(tensor)}}}}}],"outputs":[{{"name":"answer","parameters":{{"binary_data":true}}}}]}}'
    ).encode()
    headers = {"Content-Type": "application/octet-stream", _JSON_LENGTH: str(len(described))}
    return described + tensor, headers


def _from_tensor(headers: Mapping[str, str], body: bytes) -> str:
    begin = int(headers[_JSON_LENGTH]) + 4
    return body[begin:].decode()


TEXT = Wire("/predict", _plain, lambda headers, body: body.decode())
"""The bytes; the text."""
JSON_TEXT = Wire("/predict", _plain, lambda headers, body: str(json.loads(body)))
"""The bytes; the text as JSON."""
JSON_LIST = Wire("/predict", _in_json, lambda headers, body: str(json.loads(body)[0]))
"""A JSON list in base64; a JSON list."""
TENSOR = Wire("/v2/models/tokenlink/infer", _as_tensor, _from_tensor)
"""KServe's protocol with Triton's binary tensors."""


class HttpTarget:
    """A peer's server. Implements the load generator's target; every user keeps a connection open.

    Args:
        port: on the loopback interface.
        wire: its envelope.
    """

    def __init__(self, port: int, wire: Wire) -> None:
        self._url = f"http://127.0.0.1:{port}{wire.path}"
        self._wire = wire
        self._session: aiohttp.ClientSession | None = None

    async def connect(self, user: int) -> HttpConnection:
        """A user's way in; connections are opened when they are first needed."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=300.0),
                timeout=aiohttp.ClientTimeout(total=_ANSWER_WITHIN_S),
            )
        return HttpConnection(self._session, self._url, self._wire)

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class HttpConnection:
    """One user of a peer."""

    def __init__(self, session: aiohttp.ClientSession, url: str, wire: Wire) -> None:
        self._session = session
        self._url = url
        self._wire = wire

    async def ask(self, question: Question) -> str:
        """Ask; see the generator's protocol."""
        body, headers = self._wire.pack(question.data)
        try:
            async with self._session.post(self._url, data=body, headers=headers) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Failed("connection", str(error) or type(error).__name__) from error
        if response.status == 200:
            return self._wire.unpack(response.headers, content)
        reason = content[:200].decode(errors="replace")
        if response.status in (429, 503):
            raise Refused(0.0, reason)
        raise Failed(f"http_{response.status}", reason)

    async def close(self) -> None:
        """The session belongs to all users."""
