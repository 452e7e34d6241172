"""Settings of ``edge-server serve``: flags before environment (``TOKENLINK_SERVER_*``) before file.

The file is TOML, at ``$TOKENLINK_SERVER_CONFIG`` or ``~/.config/tokenlink/server.toml``; see
:mod:`edge_server.server.settings` for how errors in it are told.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from device_agent.media.clip import MediaLimits
from edge_server.cell import CellConfig, LimitConfig
from edge_server.engine import EngineConfig

ENV_PREFIX = "TOKENLINK_SERVER_"

_MIB = 2**20

_CORES = os.cpu_count() or 1
# Each has weights and an interpreter of its own; further cores go to the operators of each.
_BATCHES = min(_CORES, 4)


def config_file() -> Path:
    """Where the settings file is looked for; it need not exist."""
    named = os.environ.get(f"{ENV_PREFIX}CONFIG")
    return Path(named) if named else Path.home() / ".config" / "tokenlink" / "server.toml"


def _batches(known: dict[str, Any]) -> int:
    """The default, from the settings before it. A GPU computes one thing at a time."""
    return _BATCHES if known.get("device", "cpu") == "cpu" else 1


class ServerConfig(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    model: Path = Path("deploy/models/soundstage-small")
    """Folder of the model, with its device bundle in ``bundle/``."""
    device: str = "cpu"
    """What the model computes on, in torch's words: cpu, cuda, cuda:1."""
    batches: Annotated[int, Field(ge=1)] = Field(default_factory=_batches)
    """Batches that run side by side: one per processor core up to four; on a GPU, one."""
    core_processes: bool = True
    """Each batch computes in a process, with weights of its own; else on a thread, and all share theirs."""
    threads: Annotated[int, Field(ge=1)] = max(_CORES // _BATCHES, 1)
    """Threads of the model's operators, in each batch."""
    bfloat16: bool = True
    """Prompts are read in bfloat16 on a CPU with instructions for it: faster, and rounded."""
    engine_kind: str = "batching"
    """Which engine answers, by its name; packages bring others than the one of this server."""
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
    tracing_endpoint: str | None = None
    """Where spans go, an OTLP collector over gRPC such as http://127.0.0.1:4317; none: they are not made."""
    ui: Literal["auto", "on", "off"] = "auto"
    """Whether a page is served at ``/``; ``auto``: where the extra ``tokenlink[ui]`` is installed."""
    ui_demo: Path = Path("deploy/demo")
    """Folder of the clips and questions that the page's playground offers; it may be missing."""
    drain_s: Annotated[float, Field(ge=0)] = 30.0
    """After SIGTERM, accepted questions have this long to be answered [s]."""

    trusted_network: bool = False
    """Listen beyond this machine without certificates and keys: whoever reaches the ports is let in."""
    tls_cert: Path | None = None
    """The server's certificate, PEM with its chain; both doors speak TLS."""
    tls_key: Path | None = None
    """That belongs to it, PEM."""
    tls_ca: Path | None = None
    """The authorities of devices, PEM; the gRPC door asks every client for a certificate of theirs."""
    access: Path | None = None
    """The access file: certificates and API keys; REST asks for a key, and certificates can be revoked."""
    rest_behind_proxy: bool = False
    """A proxy before the REST door ends TLS: this door speaks plain HTTP, whatever tls_cert says."""
    metrics_open: bool = True
    """/metrics is shown without an API key."""
    enrol_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """Port where devices get certificates; 0: any free one; none: nobody can enrol."""
    ca_key: Path | None = None
    """Of the first authority in tls_ca, PEM; needed to enrol."""
    certificate_days: Annotated[float, Field(gt=0)] = 3650.0
    """How long certificates of devices are good for, by this server's clock."""
    receive_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    """A handshake, the headers of a request, its body: each has to arrive within this time [s]."""
    questions_per_minute: Annotated[float, Field(gt=0)] = 6000.0
    """Of one certificate or API key."""
    bytes_per_minute: Annotated[float, Field(ge=1024)] = 256.0 * _MIB
    """Of one certificate or API key."""
    max_streams: Annotated[int, Field(ge=1)] = 64
    """Streams of gRPC, or requests over REST, that one certificate or API key may have open."""

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
    max_image_pixels: Annotated[int, Field(ge=1)] = 16_000_000
    """Largest image, width times height."""
    max_image_bytes: Annotated[int, Field(ge=1)] = 32 * _MIB
    """Largest image in the decoder's memory; a pixel takes 1.5 bytes in a JPEG photo, 3 or 4 in a PNG."""
    max_video_pixels: Annotated[int, Field(ge=1)] = 2048 * 1088
    """Largest video frame, width times height; its decoder may hold on to sixteen of them."""
    max_media_pixels: Annotated[int, Field(ge=1)] = 600_000_000
    """Decoded for one file: 1080p at 60 Hz for the window of 4 s takes 498 million."""
    max_media_samples: Annotated[int, Field(ge=1)] = 8_000_000
    """Samples of sound decoded for one file, at its own rate, all channels."""
    max_decode_s: Annotated[float, Field(gt=0)] = 5.0
    """Time of the processor that one file may take to decode [s]."""
    ingest_threads: Annotated[int, Field(ge=1)] = 2
    """Media files that are decoded at once."""
    max_ingest: Annotated[int, Field(ge=1)] = 32
    """REST requests that are decoded or wait for it."""
    rest_token_length: Annotated[int, Field(ge=1)] = 16
    """Tokens per modality of media over REST, where the request does not say."""

    max_batch: Annotated[int, Field(ge=1)] = EngineConfig.max_batch
    """Questions of one batch, which are decoded together."""
    max_batch_positions: Annotated[int, Field(ge=1)] = EngineConfig.max_batch_positions
    """Context positions that these may take in all."""
    max_prefill_positions: Annotated[int, Field(ge=1)] = EngineConfig.max_prefill_positions
    """Positions of prompts, about, that a step reads while answers are under way."""
    decode_steps_between_prefills: Annotated[int, Field(ge=1)] = EngineConfig.decode_steps_between_prefills
    """Words that answers under way are told after a prefill before the next."""
    max_queue: Annotated[int, Field(ge=1)] = EngineConfig.max_queue
    """Questions that may wait."""
    max_queue_per_user: Annotated[int, Field(ge=1)] = EngineConfig.max_queue_per_user
    """Questions of one user that may wait."""
    default_new_tokens: Annotated[int, Field(ge=1)] = EngineConfig.default_new_tokens
    """Language tokens of an answer, where the question does not say."""
    max_new_tokens: Annotated[int, Field(ge=1)] = EngineConfig.max_new_tokens
    """Most that a question may ask for."""
    default_deadline_s: Annotated[float, Field(gt=0)] = EngineConfig.default_deadline_s
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())

    def limits(self) -> LimitConfig:
        """The bounds for each certificate and key."""
        return LimitConfig(
            questions_per_minute=self.questions_per_minute,
            bytes_per_minute=self.bytes_per_minute,
            max_streams=self.max_streams,
        )

    def media(self) -> MediaLimits:
        """What decoding one file over REST may cost."""
        return MediaLimits(
            max_bytes=self.max_media_bytes,
            max_frame_pixels=self.max_image_pixels,
            max_frame_bytes=self.max_image_bytes,
            max_video_pixels=self.max_video_pixels,
            max_total_pixels=self.max_media_pixels,
            max_audio_samples=self.max_media_samples,
            max_decode_s=self.max_decode_s,
        )

    def engine(self) -> EngineConfig:
        """The engine's part.

        Raises:
            ConfigurationError: two settings contradict each other.
        """
        return EngineConfig(
            batches=self.batches,
            max_batch=self.max_batch,
            max_batch_positions=self.max_batch_positions,
            max_prefill_positions=self.max_prefill_positions,
            decode_steps_between_prefills=self.decode_steps_between_prefills,
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
