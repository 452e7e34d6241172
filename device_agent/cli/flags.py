"""The flags that all commands share, written once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from device_agent.channel import CsiName, EqualizerName
from device_agent.config import TextPath, load_settings
from device_agent.outbox.records import Evict
from protos.names import CHANNEL_MODELS, FadingName, PayloadName, PriorityName

_LINK = "Radio link"
_SERVER = "Server and bundle"
_OUTBOX = "Outbox"


def _option(
    help_text: str, panel: str = _LINK, default: str = "", choices: Iterable[str] | None = None
) -> Any:
    """A flag; ``choices``, of a name that is checked with the settings, are shown and completed."""
    return typer.Option(
        help=help_text,
        rich_help_panel=panel,
        show_default=default or False,
        metavar=None if choices is None else f"[{'|'.join(choices)}]",
        autocompletion=None if choices is None else lambda: list(choices),
    )


FLAGS: dict[str, Any] = {
    "server": Annotated[str | None, _option("Edge server, host:port.", _SERVER, default="127.0.0.1:50051")],
    "bundle": Annotated[Path | None, _option("Folder of the device bundle.", _SERVER)],
    "device_id": Annotated[str | None, _option("What to call this device.", _SERVER, default="host name")],
    "identity": Annotated[Path | None, _option("Folder of this device's key and certificate.", _SERVER)],
    "tls": Annotated[bool | None, _option("Encrypt the link.", _SERVER, default="if enrolled")],
    "use_proxy": Annotated[
        bool | None, _option("Go through http_proxy.", _SERVER, default="not to this machine and its network")
    ],
    "tls_ca": Annotated[Path | None, _option("Authorities of servers, PEM.", _SERVER)],
    "tls_cert": Annotated[Path | None, _option("This device's certificate, PEM.", _SERVER)],
    "tls_key": Annotated[Path | None, _option("Its key, PEM.", _SERVER)],
    "server_name": Annotated[str | None, _option("Name in the server's certificate.", _SERVER)],
    "deadline_s": Annotated[float | None, _option("Give up after so many seconds.", _SERVER, default="30")],
    "retries": Annotated[int | None, _option("Tries after the first.", _SERVER, default="6")],
    "threads": Annotated[int | None, _option("Threads of each transmitter.", _SERVER, default="1")],
    "auto_update": Annotated[
        bool | None,
        _option("Fetch the bundle of another model when the server has one.", _SERVER, default="no"),
    ],
    "provider": Annotated[
        str | None, _option("What ONNX Runtime computes with.", _SERVER, default="CPUExecutionProvider")
    ],
    "snr_db": Annotated[float | None, _option("Mean Es/N0 in dB.", default="10")],
    "channel": Annotated[str | None, _option("Channel model.", default="awgn", choices=CHANNEL_MODELS)],
    "fading": Annotated[FadingName | None, _option("One gain per codeword or per symbol.", default="block")],
    "k_factor_db": Annotated[float | None, _option("Rician K factor in dB.", default="6")],
    "csi": Annotated[CsiName | None, _option("Gain known, or estimated from pilots.", default="perfect")],
    "pilots": Annotated[int | None, _option("Pilots per gain with estimated CSI.", default="4")],
    "equalizer": Annotated[EqualizerName | None, _option("How the gain is undone.", default="mmse")],
    "trace": Annotated[Path | None, _option("CSV of time_s,snr_db in place of --snr-db.")],
    "bandwidth_hz": Annotated[float | None, _option("Symbols per second.", default="as granted")],
    "pace": Annotated[bool | None, _option("Wait for the airtime.", default="yes")],
    "token_length": Annotated[int | None, _option("Tokens per modality.", default="as granted")],
    "payload": Annotated[PayloadName | None, _option("How values are packed.", default="float16")],
    "text_path": Annotated[
        TextPath | None, _option("Question as ids, or analog through the channel.", default="ids")
    ],
    "seed": Annotated[int | None, _option("Of the channel's randomness.", default="none")],
    "tracing_endpoint": Annotated[
        str | None, _option("Send spans to this OTLP collector, http://HOST:4317.", _SERVER, default="off")
    ],
    "max_new_tokens": Annotated[int | None, _option("Longest answer.", _SERVER, default="the server's")],
    "priority": Annotated[
        PriorityName | None, _option("Whether somebody waits for the answer.", _SERVER, default="interactive")
    ],
}
"""Each setting about a question that has a flag, as Typer wants it; None: the flag was not given."""

OUTBOX_FLAGS: dict[str, Any] = {
    "outbox": Annotated[
        Path | None,
        _option("File in which questions wait.", _OUTBOX, default="~/.local/state/tokenlink/outbox.db"),
    ],
    "outbox_max_questions": Annotated[
        int | None, _option("Questions that may wait.", _OUTBOX, default="10000")
    ],
    "outbox_max_bytes": Annotated[int | None, _option("Bytes that may wait.", _OUTBOX, default="268435456")],
    "outbox_ttl_s": Annotated[float | None, _option("Seconds that each may wait.", _OUTBOX, default="86400")],
    "outbox_evict": Annotated[
        Evict | None, _option("What goes when there is no room.", _OUTBOX, default="oldest")
    ],
}
"""Likewise, about questions that wait for the network."""

LINK_SECURITY = ("identity", "tls", "tls_ca", "tls_cert", "tls_key", "server_name", "use_proxy")
"""The flags that every command needs which speaks to a server."""


def with_settings(*names: str, outbox: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command flags for settings; it receives them as its argument ``settings``.

    Args:
        names: of :data:`FLAGS` and :data:`OUTBOX_FLAGS`; none: all of the first.
        outbox: all of the second too.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        chosen = {name: (FLAGS | OUTBOX_FLAGS)[name] for name in names} if names else dict(FLAGS)
        if outbox:
            chosen |= OUTBOX_FLAGS
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "settings"]
        flags = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in chosen.items()
        ]

        @functools.wraps(command)
        def wrapper(**arguments: Any) -> Any:
            given = {name: arguments.pop(name) for name in chosen}
            return command(settings=load_settings(given), **arguments)

        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + flags
        # Typer reads these two; without __wrapped__ it would look through to the command itself.
        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del wrapper.__wrapped__
        return wrapper

    return decorate
