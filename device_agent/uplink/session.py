"""What an edge server granted and answered, as an agent keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from protos.tokenlink.v1 import tokenlink_pb2 as pb


@dataclass(frozen=True)
class Session:
    """An admitted session.

    Attributes:
        session_id: given by the server.
        grant: what may be sent.
        server_version: of the edge server.
        model_name: of the model that answers.
        server_time_s: the server's clock when it answered, seconds since the Unix epoch.
        renew_at_s: when to open it again, on this uplink's clock [s].
        snr_db: what the device had measured, for which this was granted [dB].
        current_bundle_hash: of the bundle that the server would rather have here; empty: it does not say.
    """

    session_id: str
    grant: pb.Grant
    server_version: str
    model_name: str
    server_time_s: float
    renew_at_s: float
    snr_db: float
    current_bundle_hash: str = ""


@dataclass(frozen=True)
class Reply:
    """An answer and how it came.

    Attributes:
        answer: the server's.
        bytes_on_wire: of the question's frame, once, and of further tokens, without gRPC's own framing.
        round_trip_s: from sending to the answer, waits and retries included [s].
        tries: how often the question was sent.
        more: of each request for further tokens, what was sent for it, whatever was cut meanwhile.
        request_bytes: of those requests' frames.
    """

    answer: pb.Answer
    bytes_on_wire: int
    round_trip_s: float
    tries: int
    more: tuple[tuple[pb.TokenPayload, ...], ...] = ()
    request_bytes: int = 0
