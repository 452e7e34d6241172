"""The flags that commands share: one for every setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from device_agent.config import SETTINGS, load_settings
from device_agent.settings.flags import flag_of, with_flags

FLAGS: Mapping[str, Any] = MappingProxyType(
    {setting.name: flag_of(setting) for setting in SETTINGS if setting.has_flag}
)
"""Each setting that has a flag, as Typer wants it; None: the flag was not given."""

OUTBOX = frozenset(name for name in FLAGS if SETTINGS[name].remark("panel") == "Outbox")
"""Those about questions that wait for the network."""

BUNDLES = (
    *("bundle_keys", "bundle_max_bytes", "bundle_max_memory_bytes", "bundle_proof_s", "fetch_within_s"),
)
"""The flags about which bundles are taken."""

LINK_SECURITY = ("identity", "tls", "tls_ca", "tls_cert", "tls_key", "server_name", "use_proxy")
"""The flags that every command needs which speaks to a server."""


def with_settings(*names: str, outbox: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command flags for settings; it receives them as its argument ``settings``.

    Args:
        names: of :data:`FLAGS`; none: all but those of the outbox.
        outbox: those of the outbox too.
    """
    chosen = names or tuple(name for name in FLAGS if name not in OUTBOX)
    if outbox:
        chosen = (*chosen, *(name for name in FLAGS if name in OUTBOX))
    return with_flags([SETTINGS[name] for name in chosen], "settings", load_settings)
