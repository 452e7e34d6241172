"""Settings of ``edge-server serve``: flags win over the environment (``TOKENLINK_SERVER_*``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from edge_server.cell import CellConfig
from edge_server.engine import EngineConfig

_MIB = 2**20


class ServerConfig(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix="TOKENLINK_SERVER_", extra="forbid", frozen=True)

    model: Path = Path("deploy/models/soundstage-small")
    """Folder of the model, with its device bundle in ``bundle/``."""
    threads: Annotated[int, Field(ge=1)] = os.cpu_count() or 1
    """Threads of the model's operators."""
    host: str = "127.0.0.1"
    """Address that both doors listen on."""
    grpc_port: Annotated[int, Field(ge=0, le=65_535)] = 50_051
    """0: any free one."""
    rest_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """0: any free one."""
    ready_file: Path | None = None
    """JSON written here once both doors are open: addresses, ports, model, bundle hash, process id."""
    old_model_s: Annotated[float, Field(ge=0)] = 3600.0
    """After SIGHUP loaded another model, devices have this long to fetch its bundle [s]."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe lines that are logged."""
    ui: Literal["auto", "on", "off"] = "auto"
    """Whether a page is served at ``/``; ``auto``: where the extra ``tokenlink[ui]`` is installed."""
    ui_demo: Path = Path("deploy/demo")
    """Folder of the clips and questions that the page's playground offers; it may be missing."""
    drain_s: Annotated[float, Field(ge=0)] = 30.0
    """After SIGTERM, accepted questions have this long to be answered [s]."""

    max_grpc_message_bytes: Annotated[int, Field(ge=1024)] = 2 * _MIB
    """Largest message over gRPC; larger ones are not read."""
    max_grpc_calls: Annotated[int, Field(ge=1)] = 4096
    """Calls at once."""
    max_grpc_streams: Annotated[int, Field(ge=1)] = 128
    """Calls at once over one connection."""
    max_rest_body_bytes: Annotated[int, Field(ge=1024)] = 16 * _MIB
    """Largest body over HTTP; larger ones are not read."""
    max_media_bytes: Annotated[int, Field(ge=1024)] = 12 * _MIB
    """Largest media file over REST."""
    ingest_threads: Annotated[int, Field(ge=1)] = 2
    """Media files that are decoded at once."""
    max_ingest: Annotated[int, Field(ge=1)] = 32
    """REST requests that are decoded or wait for it."""
    rest_token_length: Annotated[int, Field(ge=1)] = 16
    """Tokens per modality of media over REST, where the request does not say."""

    max_batch: Annotated[int, Field(ge=1)] = 32
    """Questions that are decoded together."""
    max_batch_positions: Annotated[int, Field(ge=1)] = 16_384
    """Context positions that these may take in all."""
    max_queue: Annotated[int, Field(ge=1)] = 256
    """Questions that may wait."""
    max_queue_per_user: Annotated[int, Field(ge=1)] = 64
    """Questions of one user that may wait."""
    default_new_tokens: Annotated[int, Field(ge=1)] = 32
    """Language tokens of an answer, where the question does not say."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    """Most that a question may ask for."""
    default_deadline_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds within which an answer is of use, where the question does not say."""

    max_sessions: Annotated[int, Field(ge=1)] = 2048
    """Sessions open at once."""
    max_questions_in_flight: Annotated[int, Field(ge=1)] = 16
    """Unanswered questions of one session."""
    max_question_bytes: Annotated[int, Field(ge=1024)] = 256 * 1024
    """Size of one question over gRPC."""
    bandwidth_hz: Annotated[float, Field(gt=0)] = 1e6
    """Granted to each device [Hz]."""
    outage_snr_db: float = -12.0
    """Blocks that arrive below this count as lost; it is the least SNR that models are trained at [dB]."""
    grant_valid_s: Annotated[float, Field(gt=0)] = 3600.0
    """How long a grant lasts [s]."""
    arrivals_per_s: Annotated[float, Field(gt=0)] = 50.0
    """New sessions per second, once the burst is used up."""
    arrivals_burst: Annotated[int, Field(ge=1)] = 40
    """New sessions at once after a quiet spell."""

    answers: Path | None = None
    """SQLite file where answers wait until their device has acknowledged them; none: only in memory."""
    answers_kept: Annotated[int, Field(ge=1)] = 256
    """Answers of one device that wait for that."""
    answers_kept_in_all: Annotated[int, Field(ge=1)] = 16_384
    """Answers of all devices that do."""
    answers_kept_s: Annotated[float, Field(gt=0)] = 86_400.0
    """How long they do [s]."""

    def engine(self) -> EngineConfig:
        """The engine's part.

        Raises:
            ConfigurationError: two settings contradict each other.
        """
        return EngineConfig(
            max_batch=self.max_batch,
            max_batch_positions=self.max_batch_positions,
            max_queue=self.max_queue,
            max_queue_per_user=self.max_queue_per_user,
            default_new_tokens=self.default_new_tokens,
            max_new_tokens=self.max_new_tokens,
            default_deadline_s=self.default_deadline_s,
        )

    def cell(self) -> CellConfig:
        """The cell's part."""
        return CellConfig(
            max_sessions=self.max_sessions,
            max_questions_in_flight=self.max_questions_in_flight,
            max_question_bytes=self.max_question_bytes,
            bandwidth_hz=self.bandwidth_hz,
            grant_valid_s=self.grant_valid_s,
            outage_snr_db=self.outage_snr_db,
            arrivals_per_s=self.arrivals_per_s,
            arrivals_burst=self.arrivals_burst,
            answers_kept=self.answers_kept,
            answers_kept_in_all=self.answers_kept_in_all,
            answers_kept_s=self.answers_kept_s,
        )
