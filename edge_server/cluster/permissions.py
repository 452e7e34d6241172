"""What each role may say and hear at the broker: no more than it needs.

Doors put questions in and hear what is for doors; they can neither pull questions nor look at those that
wait, their own or others'. Engines pull, and tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge_server.cluster.subjects import ACCESS, CLAIMS, LEASES, SCENES

_CLAIMS_STREAM = f"KV_{CLAIMS}"
_MAKE = (
    "$JS.API.STREAM.CREATE.>",
    "$JS.API.STREAM.INFO.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.*.engines",
    "$JS.API.CONSUMER.CREATE.*.engines",
)
_CLAIM = (
    f"$KV.{CLAIMS}.>",
    f"$JS.API.STREAM.MSG.GET.{_CLAIMS_STREAM}",
    f"$JS.API.STREAM.UPDATE.{_CLAIMS_STREAM}",
)
_LEASE = (f"$KV.{LEASES}.>", f"$JS.API.STREAM.MSG.GET.KV_{LEASES}")


def _watch(bucket: str) -> tuple[str, ...]:
    stream = f"KV_{bucket}"
    return (
        f"$KV.{bucket}.>",
        f"$JS.API.CONSUMER.CREATE.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.INFO.{stream}.*",
        f"$JS.API.CONSUMER.DELETE.{stream}.*",
        f"$JS.FC.{stream}.>",
    )


_WATCH_ACCESS = (*_watch(ACCESS), f"$JS.API.STREAM.UPDATE.KV_{ACCESS}")
_WATCH_SCENES = (*_watch(SCENES), f"$JS.API.STREAM.MSG.GET.KV_{SCENES}")


@dataclass(frozen=True)
class Permissions:
    """Of one user of the broker.

    Attributes:
        publish: subjects that it may publish to.
        subscribe: subjects that it may hear.
    """

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    def beside(self, other: Permissions) -> Permissions:
        """What either may."""
        return Permissions(_all(self.publish, other.publish), _all(self.subscribe, other.subscribe))

    def conf(self, indent: str) -> str:
        """As the broker's configuration has them, a block ``permissions``."""
        inner = f"{indent}  "
        lines = [
            f"{inner}{what}: [\n" + "\n".join(f'{inner}  "{subject}"' for subject in subjects) + f"\n{inner}]"
            for what, subjects in (("publish", self.publish), ("subscribe", self.subscribe))
        ]
        return f"{indent}permissions {{\n" + "\n".join(lines) + f"\n{indent}}}"


def _all(*parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(subject for part in parts for subject in part))


DOOR = Permissions(
    publish=(
        "tokenlink.work.>",
        "tokenlink.cancel.>",
        "tokenlink.doors.>",
        "tokenlink.cell.>",
        "_INBOX.>",
        *_MAKE,
        "$JS.API.STREAM.MSG.DELETE.>",
        *_CLAIM,
        f"$JS.API.STREAM.PURGE.{_CLAIMS_STREAM}",
        *_WATCH_ACCESS,
        *_WATCH_SCENES,
        *_LEASE,
    ),
    subscribe=(
        "tokenlink.door.>",
        "tokenlink.doors.>",
        "tokenlink.engines.>",
        "tokenlink.cell.>",
        "_INBOX.door.>",
    ),
)
ENGINE = Permissions(
    publish=(
        "tokenlink.door.>",
        "tokenlink.engines.>",
        *_MAKE,
        "$JS.API.CONSUMER.MSG.NEXT.*.engines",
        "$JS.ACK.>",
        *_CLAIM,
    ),
    subscribe=("tokenlink.cancel.>", "tokenlink.doors.>", "_INBOX.engine.>"),
)
ROLES = {
    "door": DOOR,
    "engine": ENGINE,
    "both": DOOR.beside(ENGINE).beside(Permissions((), ("_INBOX.both.>",))),
}
"""By the setting ``role``."""
