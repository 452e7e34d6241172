"""What a cluster is told; as settings, the section ``[cluster]``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PositiveFloat
from pydantic.dataclasses import dataclass

_SECRET = re.compile(r"//[^/@]*@")
_FLAG: dict[str, Any] = {"flag": True}


@dataclass(frozen=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False))
class ClusterConfig:
    """How this process takes part in a cluster; as a section of settings, ``[cluster]``.

    Raises:
        ValidationError: a setting cannot be.
    """

    servers: str = Field(default="", json_schema_extra={"flag": True, "shown": "none"})
    """NATS servers of the cluster, such as nats://a:4222,nats://b:4222 (where they ask who comes, with
    nats://USER:PASSWORD@a:4222); none: this server is all there is."""
    role: Literal["door", "engine", "both"] = Field(default="both", json_schema_extra=_FLAG)
    """What this process is of the cluster: a door that is asked, an engine that computes, or both."""
    node: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]{0,64}$",
        json_schema_extra={"flag": True, "shown": "host name and process id"},
    )
    """What this process is called among the others, and in its metrics; letters, digits, - and _."""
    replicas: Annotated[int, Field(ge=1, le=5)] = Field(default=1, json_schema_extra=_FLAG)
    """NATS servers that each queue and answer is on: with 3, any one of them may die."""
    storage: Literal["memory", "file"] = Field(default="memory", json_schema_extra=_FLAG)
    """Where those servers keep them; a file outlives the end of all of them at once."""
    ack_wait_s: Annotated[float, Field(ge=1.0, le=300.0)] = Field(default=5.0, json_schema_extra=_FLAG)
    """After this long without a sign of life of an engine, what it had in hand goes to others."""
    connect_s: PositiveFloat = 20.0
    """At the start, the servers have this long to be there."""
    stations: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")], ...] = ()
    """Base stations with a broker of their own, by JetStream domain: their answers are known here too."""
    at_station: bool = Field(default=False, json_schema_extra=_FLAG)
    """The broker is that of a base station, a leaf of the cluster's: that tells who may come in."""
    told_scenes_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    """Of scenes, those servers hold so much, for doors to tell each other; the oldest go. 0: a scene stays at
    the door that was given it."""
    user_credentials: Path | None = None
    """NATS credentials file (user JWT and key); none: the servers ask for none."""
    nats_ca: Path | None = None
    """Authorities that the servers' certificates are checked against, PEM; given: the connection is TLS."""
    nats_cert: Path | None = None
    """This node's certificate, PEM, where the servers ask for one."""
    nats_key: Path | None = None
    """The key that belongs to it, PEM."""

    @property
    def computes_only(self) -> bool:
        """Whether nobody asks this process but other nodes."""
        return self.on and self.role == "engine"

    @property
    def asks_only(self) -> bool:
        """Whether everything is computed by other nodes."""
        return self.on and self.role == "door"

    @property
    def on(self) -> bool:
        """Whether there is a cluster."""
        return bool(self.servers)

    @property
    def addresses(self) -> list[str]:
        """Of the servers."""
        return [each.strip() for each in self.servers.split(",") if each.strip()]

    @property
    def shown(self) -> str:
        """The servers, for messages: without names and passwords."""
        return ",".join(_SECRET.sub("//", each) for each in self.addresses)

    def __post_init__(self) -> None:
        for address in self.addresses:
            if not address.startswith(("nats://", "tls://", "ws://", "wss://")):
                raise ValueError("servers: each has to be nats://HOST:PORT, with commas in between")
        if (self.nats_cert is None) != (self.nats_key is None):
            raise ValueError("nats_cert and nats_key go together")
