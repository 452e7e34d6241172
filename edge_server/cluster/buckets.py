"""The buckets of a cluster, and what of them brokers at base stations and the cluster's own have in common.

    base station                         cluster
    claims, with answers  ─── copied ──▶ claims: what was answered there is not run again here
    access                ◀── copied ─── access: who was let in or revoked here, is there too

The brokers copy, and where the backhaul is cut, they make up for it later. Each way has one direction: a copy
is never copied back.
"""

from __future__ import annotations

from nats.js import JetStreamContext, api
from nats.js.errors import APIError
from nats.js.kv import KeyValue

IN_USE = 10058
"""JetStream's code: a stream of that name is there, with other settings."""

_DUPLICATES_S = 120.0


async def make_bucket(
    jet: JetStreamContext,
    name: str,
    *,
    ttl_s: float | None,
    replicas: int,
    storage: str,
    max_bytes: int | None = None,
    copied_from: tuple[str, ...] = (),
) -> KeyValue:
    """Have a bucket; one that is there keeps its settings, and gains what is to be copied into it.

    Args:
        jet: where.
        name: of the bucket.
        ttl_s: how long an entry is kept [s]; None: for good.
        replicas: servers that it is on.
        storage: ``"memory"`` or ``"file"``.
        max_bytes: of what is in it; the oldest entries go; None: what the servers allow.
        copied_from: JetStream domains whose bucket of that name is copied into it.

    Raises:
        nats.errors.Error: the broker does not make it.
    """
    try:
        await jet.add_stream(
            name=f"KV_{name}",
            subjects=[f"$KV.{name}.>"],
            # Read from whoever leads: what was written a moment ago is seen.
            allow_direct=False,
            allow_rollup_hdrs=True,
            deny_delete=True,
            # As of any bucket, unless its oldest are to go.
            discard=api.DiscardPolicy.NEW if max_bytes is None else api.DiscardPolicy.OLD,
            duplicate_window=min(_DUPLICATES_S, ttl_s or _DUPLICATES_S),
            max_age=ttl_s,
            max_bytes=max_bytes,
            max_msgs_per_subject=1,
            num_replicas=replicas,
            storage=api.StorageType(storage),
        )
    except APIError as error:
        if error.err_code != IN_USE:
            raise
    if copied_from:
        await _copy(jet, f"KV_{name}", copied_from)
    return await jet.key_value(name)


async def _copy(jet: JetStreamContext, stream: str, domains: tuple[str, ...]) -> None:
    config = (await jet.stream_info(stream)).config
    known = {source.external.api for source in config.sources or () if source.external is not None}
    apis = [f"$JS.{domain}.API" for domain in domains]
    if known.issuperset(apis):
        return
    more = [
        api.StreamSource(name=stream, external=api.ExternalStream(api=each))
        for each in apis
        if each not in known
    ]
    await jet.update_stream(config.evolve(sources=[*(config.sources or ()), *more]))
