"""Names in the broker: streams, subjects, keys. Every name of a cluster is made here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

CLAIMS = "TOKENLINK_CLAIMS"
"""Bucket of who runs which question of a device, and of its answer."""
ACCESS = "TOKENLINK_ACCESS"
"""Bucket of who may come in: certificates, API keys, what was revoked."""
SCENES = "TOKENLINK_SCENES"
"""Bucket of scenes that doors were given, by their ids."""
LEASES = "TOKENLINK_LEASES"
"""Bucket of who does what only one may."""
HUB = "hub"
"""JetStream domain of a cluster's broker, of which brokers at base stations are leaves."""
CONSUMER = "engines"
"""Of a work queue; all engines of its model share it."""
CELL_SESSIONS, CELL_SHARES = "tokenlink.cell.sessions", "tokenlink.cell.shares"
"""That doors tell their devices, and that whoever shares out the cell tells what each has."""
_DOOR = "tokenlink.door"


def queue_name(model: str, bundle_hash: str, digest: str) -> str:
    """Names a model among all that a cluster serves: only the same weights and bundle share a queue.

    Args:
        model: its name.
        bundle_hash: of its device bundle.
        digest: of its weights and descriptions.
    """
    told = "\n".join((model, bundle_hash, digest)).encode()
    return hashlib.blake2b(told, digest_size=8).hexdigest()


@dataclass(frozen=True)
class QueueSubjects:
    """Of one model.

    Attributes:
        queue: its name.
    """

    queue: str

    @property
    def stream(self) -> str:
        """That its questions wait in."""
        return f"TOKENLINK_{self.queue}"

    @property
    def work(self) -> str:
        """That questions are published to."""
        return f"tokenlink.work.{self.queue}"

    @property
    def cancel(self) -> str:
        """That doors tell what nobody waits for any more."""
        return f"tokenlink.cancel.{self.queue}"

    @property
    def engines(self) -> str:
        """That engines tell how they do."""
        return f"tokenlink.engines.{self.queue}"

    @property
    def doors(self) -> str:
        """That doors tell how they do."""
        return f"tokenlink.doors.{self.queue}"


def inbox_of(door: str) -> str:
    """That pieces of a door's answers go to."""
    return f"{_DOOR}.{door}"


def claim_key(device_id: str, request_id: str) -> str:
    """Of a question in the bucket of claims. Names are anybody's choice; keys are not."""
    told = f"{len(device_id)}:{device_id}{request_id}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(told, digest_size=16).hexdigest()
